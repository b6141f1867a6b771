"""FlightSharing: one miss is one GET on the whole machine.

Before a range is fetched it is locked against the other processes that use the cache. What one of
them brings meanwhile, or brought a moment ago, is taken from the pack's file: the tables may not
know of it yet, but its hash proves it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from store.concurrency import VERIFY
from store.errors import StoreError
from store.fetch_landing import Landing
from store.fetch_schedule import FlightClass
from store.flight_locks import FlightLocks
from store.pack_cache import PackCache

_FIRST_PAUSE_SECONDS = 0.002
_LAST_PAUSE_SECONDS = 0.05
# Rather than get so many bytes twice, a range is had in two.
_WORTH_BYTES = 128 << 10


class BroughtByAnother(StoreError):
    """Another process brings this range, and nobody waits for it here."""


class FlightSharing:
    """The part that one fetcher takes in the fetching of a machine. Belongs to one trio loop."""

    def __init__(self, cache: PackCache, most_wait_seconds: float) -> None:
        """Another process is waited for so long; then its range is fetched here as well: it may
        have been stopped."""
        self._cache = cache
        self._most_wait_seconds = most_wait_seconds
        self._locks = FlightLocks(cache.lock_path)

    def close(self) -> None:
        """Give all ranges free."""
        self._locks.close()

    @asynccontextmanager
    async def hold(self, landing: Landing) -> AsyncIterator[None]:
        """Have the range of a flight for this process, with what others have brought of it taken
        in. Raises BroughtByAnother for a prefetch that another process is at."""
        flight = landing.flight
        locked = await self._lock(landing)
        try:
            await self.take_written(landing)
            yield
        finally:
            if locked:
                self._locks.unlock(flight.pack, flight.start, flight.end)

    def find_stop(self, landing: Landing) -> int:
        """Up to where a flight that is held should get its bytes now: to its end, or to a long part
        that another process has written since it was planned."""
        flight, entry = landing.flight, landing.next_entry
        if entry is None or flight.end - entry.end < _WORTH_BYTES:
            return flight.end
        written = iter(self._cache.find_written(flight.pack, entry.end, flight.end))
        low, high = next(written, (flight.end, flight.end))
        first: int | None = None
        for later in flight.entries():
            while high < later.end and low < flight.end:
                low, high = next(written, (flight.end, flight.end))
                first = None
            if later.offset < low or later.offset < entry.end:
                continue
            first = later.offset if first is None else first
            if later.end - first >= _WORTH_BYTES:
                return first
        return flight.end

    async def _lock(self, landing: Landing) -> bool:
        flight = landing.flight
        deadline = trio.current_time() + self._most_wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while not self._locks.try_lock(flight.pack, flight.start, flight.end):
            if flight.kind is FlightClass.PREFETCH and not landing.waiting:
                raise BroughtByAnother("another process is fetching it")
            await self.take_written(landing)
            if landing.is_whole or trio.current_time() >= deadline:
                return False
            await trio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)
        return True

    async def take_written(self, landing: Landing) -> None:
        """Take what lies in the pack's file, up to the first chunk that is not there."""
        flight, entry = landing.flight, landing.next_entry
        if entry is None or not self._cache.is_written(flight.pack, entry.offset, entry.end):
            return
        take = partial(self._take_in_thread, landing, entry.offset)
        await trio.to_thread.run_sync(take, limiter=VERIFY)

    def _take_in_thread(self, landing: Landing, start: int) -> None:
        pack = landing.flight.pack
        written = self._cache.load_written(pack, start, landing.flight.end)
        landing.adopt(start, written, partial(self._cache.note_written, pack))
