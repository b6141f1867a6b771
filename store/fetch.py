"""Fetcher: from the remote to here. Single flight, demand before prefetch, everything proven.

A flight is one range GET. Its bytes are cut at the pack's own chunk borders, each chunk is decoded
and hashed, and only what proves true is kept in the pack cache and handed to whoever waits.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from store.byte_ranges import covered_by
from store.cache_index import PackPlace
from store.concurrency import VERIFY
from store.errors import IntegrityError, MalformedObject, RemoteUnavailable, StoreError
from store.fetch_plan import EntryRun, PackHistory, plan_entries, plan_miss
from store.ids import ChunkId, PackName
from store.pack_cache import PackCache
from store.packs import PackEntry, PackTable, unpack_chunk
from store.remote import Remote, pack_key

log = logging.getLogger(__name__)

_FLIGHTS_AT_ONCE = 16
# The rest is for demand, which then never waits for a prefetch to end.
_PREFETCH_FLIGHTS_AT_ONCE = 6
_KNOWN_HISTORIES = 4096
# Past this the oldest are forgotten; who then misses them brings them back.
_MOST_WAITING_RUNS = 8192

# The whole entry, not its offset alone: rows that lie about a place never share its flight.
Key = tuple[PackName, PackEntry]


class TableSource(Protocol):
    """Where the fetcher learns a pack's table."""

    def get_pack_table(self, pack: PackName) -> PackTable | None:
        """The table of a pack of this remote, if known here."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """One range of one pack on its way.

    Invariant: once `landed` is set, each offset in `wanted` is in `chunks` or `bad`, unless `error`
    says why not. Only wanted chunks are held: a run may decode to far more than its length.
    """

    pack: PackName
    entries: tuple[PackEntry, ...]
    wanted: set[int] = field(default_factory=set)
    chunks: dict[int, bytes] = field(default_factory=dict)
    bad: dict[int, StoreError] = field(default_factory=dict)
    error: StoreError | None = None
    landed: trio.Event = field(default_factory=trio.Event)
    # Whether it was started ahead of any reader; how many readers wait for it at this moment.
    ahead: bool = False
    waiting: int = 0

    @property
    def start(self) -> int:
        return self.entries[0].offset

    @property
    def length(self) -> int:
        return self.entries[-1].end - self.start


class Fetcher:
    """Fetches chunks of one remote into the pack cache. Belongs to one trio loop."""

    def __init__(
        self, remote: Remote, cache: PackCache, tables: TableSource, timeout_seconds: float
    ) -> None:
        self._remote = remote
        self._cache = cache
        self._tables = tables
        self._timeout_seconds = timeout_seconds
        # A key is present exactly while one flight is bringing that entry.
        self._flights: dict[Key, _Flight] = {}
        self._histories: OrderedDict[PackName, PackHistory] = OrderedDict()
        # Runs that nobody waits for; none of their entries is in a flight because of them.
        self._waiting: deque[tuple[PackName, EntryRun]] = deque(maxlen=_MOST_WAITING_RUNS)
        self._prefetching = 0
        self._slots = trio.CapacityLimiter(_FLIGHTS_AT_ONCE)
        self._nursery: trio.Nursery | None = None
        self.fetched_bytes = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; no fetch works outside of this."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def fetch_chunk(self, place: PackPlace) -> bytes:
        """The proven bytes of a chunk that the cache does not have.

        A chunk that arrives corrupt is fetched once more by itself. Raises StoreError.
        """
        flight = self._flights.get((place.pack, place.entry))
        if flight is None:
            flight = self._start_demand(place)
        try:
            return await _chunk_from(flight, place.entry)
        except IntegrityError as error:
            log.warning("%s, is fetched again: %s", chunk_label(place.entry.chunk, place), error)
        # Of all who waited the first one asks again; the others find its flight.
        alone = self._flights.get((place.pack, place.entry))
        if alone is None:
            alone = _Flight(place.pack, (place.entry,))
            self._launch(alone, self._fly)
        return await _chunk_from(alone, place.entry)

    def prefetch(self, places: Iterable[PackPlace]) -> None:
        """Get these ahead of need, in this order, as far as there is room for it."""
        if not self._cache.can_keep():
            return
        for pack, numbers in self._group_by_pack(places):
            table = self._tables.get_pack_table(pack)
            if table is None:
                continue
            wanted = range(numbers[0], numbers[-1] + 1)
            for run in plan_entries(table, wanted, self._tell_here(pack, table)):
                self._waiting.append((pack, run))
        self._pump()

    def _group_by_pack(self, places: Iterable[PackPlace]) -> list[tuple[PackName, list[int]]]:
        # Runs of neighbouring entries, in the order asked.
        groups: list[tuple[PackName, list[int]]] = []
        for place in places:
            number = entry_number(self._tables.get_pack_table(place.pack), place)
            if number is None:
                continue
            if groups and groups[-1][0] == place.pack and groups[-1][1][-1] + 1 == number:
                groups[-1][1].append(number)
            else:
                groups.append((place.pack, [number]))
        return groups

    def _start_demand(self, place: PackPlace) -> _Flight:
        table = self._tables.get_pack_table(place.pack)
        number = entry_number(table, place)
        if table is None or number is None or not self._cache.can_keep():
            # Rows that disagree are no reason to fail: the chunk's own place is enough. Nor is
            # more than that worth getting where it cannot be kept.
            flight = _Flight(place.pack, (place.entry,))
            self._launch(flight, self._fly)
            return flight
        here = self._tell_here(place.pack, table)
        plan = plan_miss(table, number, self._history(place.pack), here)
        flight = _Flight(place.pack, _entries(table, plan.demand))
        self._launch(flight, self._fly)
        self._waiting.extend((place.pack, run) for run in plan.after)
        self._pump()
        return flight

    def _history(self, pack: PackName) -> PackHistory:
        history = self._histories.setdefault(pack, PackHistory())
        self._histories.move_to_end(pack)
        while len(self._histories) > _KNOWN_HISTORIES:
            self._histories.popitem(last=False)
        return history

    def _tell_here(self, pack: PackName, table: PackTable) -> Callable[[int], bool]:
        """Which entries are cached or under way at this moment; good until the next await."""
        cached = self._cache.load_ranges(pack)

        def is_here(number: int) -> bool:
            entry = table.entry(number)
            return (pack, entry) in self._flights or covered_by(cached, entry.offset, entry.end)

        return is_here

    def _launch(self, flight: _Flight, fly: Callable[[_Flight], Awaitable[None]]) -> None:
        if self._nursery is None:
            raise RuntimeError("the fetcher is not running")
        for entry in flight.entries:
            self._flights[flight.pack, entry] = flight
        self._nursery.start_soon(fly, flight)

    def _pump(self) -> None:
        """Start prefetches while there is room for them."""
        if not self._cache.can_keep():
            self._waiting.clear()
        while self._waiting and self._prefetching < _PREFETCH_FLIGHTS_AT_ONCE:
            pack, run = self._waiting.popleft()
            table = self._tables.get_pack_table(pack)
            if table is None:
                continue
            # What was demanded or came with another run meanwhile is left out.
            here = self._tell_here(pack, table)
            parts = plan_entries(table, range(run.first, run.last + 1), here)
            self._waiting.extendleft((pack, part) for part in reversed(parts[1:]))
            for part in parts[:1]:
                self._prefetching += 1
                self._launch(_Flight(pack, _entries(table, part), ahead=True), self._fly_ahead)

    async def _fly_ahead(self, flight: _Flight) -> None:
        try:
            await self._fly(flight)
        finally:
            self._prefetching -= 1
        if flight.error is not None:
            # A remote in trouble is not asked for more than somebody waits for.
            self._waiting.clear()
        try:
            self._pump()
        except StoreError as error:
            # The cache index cannot be read; whoever demands a chunk is told.
            log.debug("nothing is fetched ahead: %s", error)
            self._waiting.clear()

    async def _fly(self, flight: _Flight) -> None:
        try:
            content = await self._fetch_range(flight)
            await trio.to_thread.run_sync(self._land, flight, content, limiter=VERIFY)
            # Whoever came while the chunks were being proven; few, and no await from here on.
            late = flight.wanted - flight.chunks.keys() - flight.bad.keys()
            for entry in flight.entries:
                if entry.offset in late:
                    _prove(flight, entry, memoryview(content))
        except StoreError as error:
            flight.error = error
        except trio.Cancelled:
            flight.error = RemoteUnavailable("the fetch was ended")
            raise
        except Exception as error:
            log.exception("a fetch failed in a way that it should not")
            flight.error = StoreError(f"internal error: {error!r}")
        finally:
            for entry in flight.entries:
                if self._flights.get((flight.pack, entry)) is flight:
                    del self._flights[flight.pack, entry]
            flight.landed.set()

    async def _fetch_range(self, flight: _Flight) -> bytes:
        async with self._slots:
            if not (flight.ahead or flight.waiting):
                # Else what readers gave up on, while the remote was dead, would pile up here.
                raise RemoteUnavailable("nobody waits for it any more")
            content = await self._remote.fetch_range(
                pack_key(flight.pack),
                flight.start,
                flight.length,
                timeout_seconds=self._timeout_seconds,
            )
        self.fetched_bytes += len(content)
        return content

    def _land(self, flight: _Flight, content: bytes) -> None:
        """Prove each chunk, set aside what is waited for, keep what is true. In a thread."""
        view = memoryview(content)
        good = [entry for entry in flight.entries if _prove(flight, entry, view)]
        for first, last in _contiguous(good):
            self._cache.keep(flight.pack, first, view[first - flight.start : last - flight.start])


def _prove(flight: _Flight, entry: PackEntry, content: memoryview) -> bool:
    low = entry.offset - flight.start
    try:
        chunk = unpack_chunk(entry, bytes(content[low : low + entry.stored_length]))
    except IntegrityError as error:
        flight.bad[entry.offset] = error
        return False
    if entry.offset in flight.wanted:
        flight.chunks[entry.offset] = chunk
    return True


def entry_number(table: PackTable | None, place: PackPlace) -> int | None:
    """Which entry of its pack's table a place is; None where the two do not agree."""
    if table is None:
        return None
    try:
        number = table.entry_index_at(place.entry.offset)
    except MalformedObject:
        return None
    return number if table.entry(number) == place.entry else None


def _entries(table: PackTable, run: EntryRun) -> tuple[PackEntry, ...]:
    return tuple(table.entry(number) for number in range(run.first, run.last + 1))


def _contiguous(entries: Iterable[PackEntry]) -> list[tuple[int, int]]:
    """The byte ranges that neighbouring entries make up together."""
    ranges: list[tuple[int, int]] = []
    for entry in entries:
        if ranges and ranges[-1][1] == entry.offset:
            ranges[-1] = (ranges[-1][0], entry.end)
        else:
            ranges.append((entry.offset, entry.end))
    return ranges


async def _chunk_from(flight: _Flight, entry: PackEntry) -> bytes:
    flight.wanted.add(entry.offset)
    flight.waiting += 1
    try:
        await flight.landed.wait()
    finally:
        flight.waiting -= 1
    if flight.error is not None:
        raise flight.error
    bad = flight.bad.get(entry.offset)
    if bad is not None:
        raise bad
    return flight.chunks[entry.offset]


def chunk_label(chunk: ChunkId, place: PackPlace | None) -> str:
    """How a log line or an error names a chunk."""
    where = "" if place is None else f" in pack {place.pack} at {place.entry.offset}"
    return f"chunk {chunk.hex()}{where}"
