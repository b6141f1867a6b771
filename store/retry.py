"""RetryingRemote: another try after a temporary error, within the caller's one deadline.

How long to pause, and when to give up, is decided by `plan_pause` and `get_attempt_seconds`, which
are pure. What is temporary, the remote below says.
"""

import logging
import random as random_module
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import trio

from store.clocks import running_seconds
from store.errors import RemoteError, RemoteUnavailable
from store.range_sink import RangeSink, stream_range
from store.remote import ObjectInfo, Refusals, Remote, get_refusals

log = logging.getLogger(__name__)

Result = TypeVar("Result")

SMALL_ATTEMPT_SECONDS = 15.0
"""What one attempt at a small object may take before another one is the better bet."""

SLOW_LINK_BYTES_PER_SECOND = 256 * 1024
"""The slowest link on which a large range is still given the time that it needs."""

_SLOWEST_UPLOAD_BYTES_PER_SECOND = 50_000


def plan_pause(
    failures: int,
    remaining_seconds: float,
    *,
    first_pause_seconds: float,
    most_pause_seconds: float,
    jitter: float,
) -> float | None:
    """Seconds to wait after the `failures`-th failure in a row (1 and up), or None to give up.

    Exponential back-off with full jitter: `jitter`, in [0, 1), of a bound that doubles with each
    failure. None where no time would be left after the pause.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    # The exponent is capped: 2.0**1024 overflows, and no bound in seconds needs more than 2**64.
    bound = min(most_pause_seconds, first_pause_seconds * 2.0 ** min(failures - 1, 64))
    pause = jitter * bound
    return pause if pause < remaining_seconds else None


def get_upload_seconds(size: int, timeout_seconds: float) -> float:
    """Seconds that a PUT of `size` bytes may take, where a small call may take `timeout_seconds`: a
    slow line may be as slow as this and still carry a pack in one PUT."""
    return timeout_seconds + size / _SLOWEST_UPLOAD_BYTES_PER_SECOND


def get_attempt_seconds(size: int, remaining_seconds: float) -> float:
    """Seconds that one attempt to get `size` bytes may take out of those that remain."""
    return min(remaining_seconds, SMALL_ATTEMPT_SECONDS + size / SLOW_LINK_BYTES_PER_SECOND)


class RetryingRemote:
    """`inner`, with each call tried again while its errors are temporary and time remains.

    An attempt to fetch or delete gets 15 s, and more where it moves many bytes; one to put or list
    gets all the time that remains, since how long those may take only the caller knows. When the
    time is over the call raises RemoteUnavailable, with the last error in its text and as its
    cause. Errors that are not temporary pass as they are.
    """

    def __init__(
        self,
        inner: Remote,
        *,
        first_pause_seconds: float = 0.1,
        most_pause_seconds: float = 5.0,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._inner = inner
        self._first_pause_seconds = first_pause_seconds
        self._most_pause_seconds = most_pause_seconds
        self._random = random

    @property
    def url(self) -> str:
        """The inner remote's."""
        return self._inner.url

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """See Remote.fetch."""

        async def attempt(remaining: float) -> bytes:
            seconds = get_attempt_seconds(max_bytes, remaining)
            with trio.fail_after(seconds):
                return await self._inner.fetch(key, max_bytes=max_bytes, timeout_seconds=seconds)

        return await self._retry(f"fetch {key}", attempt, timeout_seconds)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        """See Remote.fetch_range."""

        async def attempt(remaining: float) -> bytes:
            seconds = get_attempt_seconds(length, remaining)
            with trio.fail_after(seconds):
                return await self._inner.fetch_range(key, start, length, timeout_seconds=seconds)

        return await self._retry(f"fetch {length} bytes of {key}", attempt, timeout_seconds)

    async def stream_range(
        self, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
    ) -> None:
        """See StreamingRemote. A second attempt goes on where the first was cut."""

        async def attempt(remaining: float) -> None:
            if sink.taken_bytes == length:
                return  # The last attempt gave all, and then failed.
            seconds = get_attempt_seconds(length - sink.taken_bytes, remaining)
            with trio.fail_after(seconds):
                await stream_range(self._inner, key, start, length, sink, timeout_seconds=seconds)

        def progress() -> int:
            return sink.taken_bytes

        await self._retry(f"fetch {length} bytes of {key}", attempt, timeout_seconds, progress)

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        """See Remote.put. A second attempt writes the same bytes to the same key; there is none
        after the time is over, also where this machine slept meanwhile."""
        begun = running_seconds()

        async def attempt(remaining: float) -> None:
            remaining = min(remaining, begun + timeout_seconds - running_seconds())
            with trio.fail_after(max(0.0, remaining)):
                await self._inner.put(key, body, timeout_seconds=remaining)

        await self._retry(f"put {key}", attempt, timeout_seconds)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        """See Remote.list_objects. A second attempt begins the list anew."""

        async def attempt(remaining: float) -> Sequence[ObjectInfo]:
            with trio.fail_after(remaining):
                return await self._inner.list_objects(prefix, timeout_seconds=remaining)

        return await self._retry(f"list {prefix}", attempt, timeout_seconds)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """See Remote.delete."""

        async def attempt(remaining: float) -> None:
            seconds = get_attempt_seconds(0, remaining)
            with trio.fail_after(seconds):
                await self._inner.delete(key, timeout_seconds=seconds)

        await self._retry(f"delete {key}", attempt, timeout_seconds)

    def local_path(self, key: str) -> Path | None:
        """See Remote.local_path."""
        return self._inner.local_path(key)

    def get_refusals(self) -> Refusals:
        """See RefusingRemote."""
        return get_refusals(self._inner)

    async def close(self) -> None:
        """Close the inner remote."""
        await self._inner.close()

    async def _retry(
        self,
        what: str,
        attempt: Callable[[float], Awaitable[Result]],
        timeout_seconds: float,
        progress: Callable[[], int] = lambda: 0,
    ) -> Result:
        """What `attempt`, called with the seconds that remain, returns first. One that made some
        `progress` is not followed by a long pause, however many failed before."""
        deadline = trio.current_time() + timeout_seconds
        failures = in_a_row = reached = 0
        while True:
            try:
                return await attempt(max(0.0, deadline - trio.current_time()))
            except (RemoteError, trio.TooSlowError) as error:
                if isinstance(error, RemoteError) and not error.temporary:
                    raise
                failures += 1
                before, reached = reached, progress()
                in_a_row = 1 if reached > before else in_a_row + 1
                pause = self._plan_pause(in_a_row, deadline - trio.current_time())
                if pause is None:
                    raise self._out_of_time(what, timeout_seconds, failures, error) from error
                log.debug(
                    "%s: %s: failure %d (%s), again in %.3f s",
                    *(self.url, what, failures, _say(error), pause),
                )
            await trio.sleep(pause)

    def _plan_pause(self, failures: int, remaining_seconds: float) -> float | None:
        return plan_pause(
            failures,
            remaining_seconds,
            first_pause_seconds=self._first_pause_seconds,
            most_pause_seconds=self._most_pause_seconds,
            jitter=self._random(),
        )

    def _out_of_time(
        self, what: str, timeout_seconds: float, failures: int, last: Exception
    ) -> RemoteUnavailable:
        tries = "1 try" if failures == 1 else f"{failures} tries"
        return RemoteUnavailable(
            f"{self.url}: could not {what} within {timeout_seconds:g} s ({tries}): {_say(last)}"
        )


def _say(error: Exception) -> str:
    """What went wrong, in words."""
    return str(error) or "no answer in time"
