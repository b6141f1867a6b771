"""ReadingThread: a store opened for reading, for callers that are not async themselves.

The loop runs in a thread of its own; a call hands it a function and waits for the outcome.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from store.errors import StoreError, leaves_of
from store.local_store import LocalStore
from store.opening import Reading, open_reading

T = TypeVar("T")


class ReadingThread:
    """Reads of any commit of one repository. Belongs to one thread, which is not its own."""

    def __init__(self, local: LocalStore) -> None:
        """Open. Raises StoreError where the remote cannot be opened."""
        self._local = local
        self._token: trio.lowlevel.TrioToken | None = None
        self._reading: Reading | None = None
        self._ended: trio.Event | None = None
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._reading is None:
            raise self._error or StoreError("the reading ended before it began")

    def call(self, work: Callable[[Reading], Awaitable[T]]) -> T:
        """What `work` gives, run in the loop. Raises what it raises."""
        assert self._reading is not None
        return trio.from_thread.run(work, self._reading, trio_token=self._token)

    def start(self, work: Callable[[Reading], Awaitable[None]]) -> None:
        """Have `work` done in the loop, and do not wait for it; it must not raise."""

        async def begin(reading: Reading) -> None:
            self._nursery.start_soon(work, reading)

        self.call(begin)

    def close(self) -> None:
        """End the loop, with what is under way in it."""
        if self._token is not None and self._ended is not None:
            trio.from_thread.run_sync(self._ended.set, trio_token=self._token)
        self._thread.join()

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._error = next(part for part in leaves_of(error))
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._ended = trio.Event()
        async with open_reading(self._local, None) as reading, trio.open_nursery() as nursery:
            self._nursery = nursery
            self._reading = reading
            self._token = trio.lowlevel.current_trio_token()
            self._started.set()
            await self._ended.wait()
            nursery.cancel_scope.cancel()
