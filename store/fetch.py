"""Fetcher: from the remote to here. Single flight, demand before prefetch before warm, everything
proven.

A flight is one range GET. Its bytes are cut at the pack's own chunk borders while they arrive, each
chunk is decoded and hashed, and only what proves true is kept in the pack cache and handed to
whoever waits. What flies, and when, the schedule decides.
"""

import logging
from collections.abc import Iterable
from functools import partial

import trio

from store.cache_rows import PackPlace
from store.concurrency import VERIFY
from store.errors import (
    IntegrityError,
    LocalDiskFull,
    RemoteUnavailable,
    StoreError,
)
from store.fetch_landing import Landing
from store.fetch_plan import MOST_RUN_BYTES, EntryRun
from store.fetch_schedule import (
    DEMANDS_AT_ONCE,
    FetchSchedule,
    Flight,
    FlightClass,
    TableSource,
)
from store.fetch_schedule import entry_number as entry_number
from store.fetch_sharing import BroughtByAnother, FlightSharing
from store.ids import ChunkId, PackName
from store.pack_cache import PackCache
from store.range_sink import stream_range
from store.remote import Remote, pack_key

log = logging.getLogger(__name__)

# Another process is waited for so long a share of the time that a fetch may take.
_WAIT_SHARE = 1 / 3
# Each less than a chunk, 4 MiB.
_MOST_RESTS = 8


class Fetcher:
    """Fetches chunks of one remote into the pack cache. Belongs to one trio loop."""

    def __init__(
        self, remote: Remote, cache: PackCache, tables: TableSource, timeout_seconds: float
    ) -> None:
        self._remote = remote
        self._cache = cache
        self._timeout_seconds = timeout_seconds
        self._schedule = FetchSchedule(tables, cache.load_ranges)
        self._sharing = FlightSharing(cache, _WAIT_SHARE * timeout_seconds)
        # A key is present exactly while its flight is under way.
        self._landings: dict[Flight, Landing] = {}
        # What has come of the first chunk of a next flight, unproven.
        self._rests: dict[tuple[PackName, int], bytes] = {}
        self._demands = trio.CapacityLimiter(DEMANDS_AT_ONCE)
        # Set, and replaced, whenever a flight lands.
        self._next_landing = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.fetched_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing waits to be fetched ahead."""
        return self._schedule.is_idle

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; no fetch works outside of this."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._sharing.close()

    async def fetch_chunk(self, place: PackPlace, *, anew: bool = False) -> bytes:
        """The proven bytes of a chunk that the cache does not have.

        A chunk that arrives corrupt is fetched once more by itself, and so is one whose flight
        was begun ahead of any reader and failed. Raises StoreError.
        """
        flight = self._schedule.find(place)
        landing = self._demand(place) if flight is None else self._landings[flight]
        try:
            return await landing.wait_for(place.entry)
        except IntegrityError as error:
            log.warning("%s, is fetched again: %s", chunk_label(place.entry.chunk, place), error)
        except StoreError as error:
            if landing.flight.kind is FlightClass.DEMAND:
                raise
            log.debug("%s, is fetched again: %s", chunk_label(place.entry.chunk, place), error)
        await landing.landed.wait()
        # Of all who waited the first one asks again; the others find its flight.
        again = self._schedule.find(place)
        if again is None:
            return await self._launch(self._schedule.start_alone(place)).wait_for(place.entry)
        return await self._landings[again].wait_for(place.entry)

    def prefetch(self, places: Iterable[PackPlace]) -> None:
        """Get these ahead of need, in this order, as far as there is room for it."""
        if self._cache.can_keep():
            self._schedule.wait(places)
            self._pump()

    async def warm(self, places: Iterable[PackPlace]) -> None:
        """Bring all these into the cache, in this order, after whatever else is to be fetched.

        Returns when all of them are here: whoever wants to keep a bounded number of bytes ahead of
        a reader gives so many at a time. Raises StoreError for the first that cannot be had or
        kept; what is under way at that time still arrives.
        """
        landings: list[Landing] = []
        for pack, run in self._schedule.runs_of(places):
            landings += [self._landings[f] for f in self._schedule.flights_of(pack, run)]
            while (landing := await self._warm_next(pack, run)) is not None:
                landings.append(landing)
                _raise_first_error(landings)
                # Only forward: a cache that drops at once what it gets must not hold this up.
                started = landing.flight.run
                if started is None or started.last >= run.last:
                    break
                run = EntryRun(started.last + 1, run.last)
        for landing in landings:
            await landing.landed.wait()
        _raise_first_error(landings)
        self._require_room()

    async def _warm_next(self, pack: PackName, run: EntryRun) -> Landing | None:
        """The flight of the first part of a run that is neither here nor under way, started when
        there is room for it; None when there is no such part."""
        while not self._schedule.may_start(FlightClass.WARM, MOST_RUN_BYTES):
            await self._next_landing.wait()
        self._require_room()
        flight = self._schedule.start_absent(pack, run, FlightClass.WARM)
        return None if flight is None else self._launch(flight)

    def _require_room(self) -> None:
        if not self._cache.can_keep():
            raise LocalDiskFull(
                "the cache cannot be written: make room on its disk, then try again"
            )

    def _demand(self, place: PackPlace) -> Landing:
        # More than what is asked for is not worth getting where it cannot be kept.
        start = (
            self._schedule.start_demand if self._cache.can_keep() else self._schedule.start_alone
        )
        landing = self._launch(start(place))
        self._pump()
        return landing

    def _launch(self, flight: Flight) -> Landing:
        if self._nursery is None:
            raise RuntimeError("the fetcher is not running")
        landing = Landing(flight, partial(self._cache.keep, flight.pack))
        rest = self._rests.pop((flight.pack, flight.start), b"")
        if 0 < len(rest) < flight.length:
            landing.resume(rest)
        self._landings[flight] = landing
        self._nursery.start_soon(self._fly, landing)
        return landing

    def _pump(self) -> None:
        """Start prefetches while there is room for them."""
        if not self._cache.can_keep():
            self._schedule.drop_waiting()
        try:
            while (flight := self._schedule.start_next()) is not None:
                self._launch(flight)
        except StoreError as error:
            # The cache index cannot be read; whoever demands a chunk is told.
            log.debug("nothing is fetched ahead: %s", error)
            self._schedule.drop_waiting()

    async def _fly(self, landing: Landing) -> None:
        error: StoreError | None = None
        try:
            await self._bring(landing)
        except StoreError as failure:
            error = failure
        except trio.Cancelled:
            error = RemoteUnavailable("the fetch was ended")
            raise
        except Exception as failure:
            log.exception("a fetch failed in a way that it should not")
            error = StoreError(f"internal error: {failure!r}")
        finally:
            self._land(landing, error)

    async def _bring(self, landing: Landing) -> None:
        if landing.flight.kind is not FlightClass.DEMAND:
            await self._fetch_range(landing)
            return
        async with self._demands:
            if not landing.waiting:
                # Else what readers gave up on, while the remote was dead, would pile up here.
                raise RemoteUnavailable("nobody waits for it any more")
            await self._fetch_range(landing)

    async def _fetch_range(self, landing: Landing) -> None:
        deadline = trio.current_time() + self._timeout_seconds
        try:
            async with self._sharing.hold(landing):
                while not landing.is_whole:
                    stop = self._sharing.find_stop(landing)
                    await self._stream(landing, stop, deadline - trio.current_time())
                    if stop == landing.flight.end:
                        break
                    await self._sharing.take_written(landing)
        except RemoteUnavailable:
            self._keep_rest(landing)
            raise
        finally:
            self.fetched_bytes += landing.received_bytes
            if landing.has_unwritten:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(landing.settle, limiter=VERIFY)

    def _keep_rest(self, landing: Landing) -> None:
        """Keep the first part of a chunk that did not come whole: over a slow link the next read of
        it would else begin anew, and no read would ever be in time."""
        start, rest = landing.take_rest()
        if rest:
            self._rests[landing.flight.pack, start] = rest
            while len(self._rests) > _MOST_RESTS:
                del self._rests[next(iter(self._rests))]

    async def _stream(self, landing: Landing, stop: int, timeout_seconds: float) -> None:
        flight = landing.flight
        await stream_range(
            self._remote,
            pack_key(flight.pack),
            flight.start,
            stop - flight.start,
            landing,
            timeout_seconds=timeout_seconds,
        )

    def _land(self, landing: Landing, error: StoreError | None) -> None:
        del self._landings[landing.flight]
        self._schedule.land(landing.flight)
        is_trouble = error is not None and not isinstance(error, BroughtByAnother)
        if is_trouble and landing.flight.kind is not FlightClass.DEMAND:
            # A remote in trouble is not asked for more than somebody waits for.
            self._schedule.drop_waiting()
        landing.finish(error)
        self._next_landing.set()
        self._next_landing = trio.Event()
        self._pump()


def _raise_first_error(landings: Iterable[Landing]) -> None:
    for landing in landings:
        if landing.error is not None:
            raise landing.error
        for error in landing.bad.values():
            raise error


def chunk_label(chunk: ChunkId, place: PackPlace | None) -> str:
    """How a log line or an error names a chunk."""
    where = "" if place is None else f" in pack {place.pack} at {place.entry.offset}"
    return f"chunk {chunk.hex()}{where}"
