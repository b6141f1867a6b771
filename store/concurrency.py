"""Threads and tasks: one limiter for each kind of blocking work, and a way to run many at once.

The kinds are kept apart so that a stuck one never stops the others; nothing uses trio's default
limiter.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from store.errors import StoreError

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

TABLE_WRITES = trio.CapacityLimiter(1)
"""Writes to LMDB, which has one writer anyway."""

GIT_READS = trio.CapacityLimiter(1)
"""Reads through libgit2, whose repository object is not for two threads at once."""

DISK_READS = trio.CapacityLimiter(8)
"""Reads of local files that may wait for a disk, with the check and decoding of what they gave."""

DISK_WRITES = trio.CapacityLimiter(8)
"""Writes of files of a work tree or an exported folder."""

SHARE_READS = trio.CapacityLimiter(16)
"""Reads of files on a network share, which may not answer: such threads may be left behind."""

VERIFY = trio.CapacityLimiter(4)
"""Hashing and decoding of what came from a remote, and writing it to the cache."""


async def run_all(calls: Iterable[Callable[[], Awaitable[object]]], *, at_once: int) -> None:
    """Run all calls, at most `at_once` side by side. The first StoreError ends the others and is
    raised as it is."""
    errors: list[StoreError] = []
    places = trio.Semaphore(at_once)

    async with trio.open_nursery() as nursery:

        async def run(call: Callable[[], Awaitable[object]]) -> None:
            try:
                await call()
            except StoreError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()
            finally:
                places.release()

        for call in calls:
            await places.acquire()
            nursery.start_soon(run, call)
    if errors:
        raise errors[0]


@dataclass(slots=True, eq=False)
class _Outcome(Generic[Result]):
    """How a call ended; with neither a result nor an error, it was cancelled."""

    done: trio.Event = field(default_factory=trio.Event)
    results: list[Result] = field(default_factory=list)
    error: StoreError | None = None


class SharedCalls(Generic[Key, Result]):
    """Calls of which one with the same key is under way at a time. Belongs to one trio loop."""

    def __init__(self) -> None:
        self._under_way: dict[Key, _Outcome[Result]] = {}

    async def run(self, key: Key, call: Callable[[], Awaitable[Result]]) -> Result:
        """What `call` gives. Whoever comes while another with that key is under way shares the
        outcome, a StoreError as well; where the other is cancelled, one who waits begins anew."""
        while (shared := self._under_way.get(key)) is not None:
            await shared.done.wait()
            if shared.error is not None:
                raise shared.error
            if shared.results:
                return shared.results[0]
        outcome = self._under_way[key] = _Outcome()
        try:
            result = await call()
            outcome.results.append(result)
            return result
        except StoreError as error:
            outcome.error = error
            raise
        finally:
            del self._under_way[key]
            outcome.done.set()
