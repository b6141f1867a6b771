"""FetchSchedule: which ranges are under way, which wait, and which may start next. Pure: it is told
what was asked for and what landed, and knows no clock, no remote and no disk.

Three classes, demand before prefetch before warm. A demand starts at once. What is ahead of any
reader starts only where there is room for it: in number, so that demand always finds a free
connection, and in bytes, so that memory is bounded.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from store.cache_rows import PackPlace
from store.errors import MalformedObject
from store.fetch_plan import (
    MOST_RUN_BYTES,
    EntryRun,
    Evidence,
    Plan,
    Ranges,
    absent_runs,
    merged,
    plan_miss,
)
from store.ids import PackName
from store.packs import PackEntry, PackTable

DEMANDS_AT_ONCE = 32
AHEAD_AT_ONCE = 8
# While a reader waits, what nobody asked for yet leaves him the better part of the link.
WARMS_BESIDE_OTHERS = 3
MOST_BYTES_UNDER_WAY = 64 << 20
# Past this the oldest are forgotten; who then misses them brings them back.
_MOST_WAITING_RUNS = 8192


class TableSource(Protocol):
    """Where the fetcher learns a pack's table."""

    def get_pack_table(self, pack: PackName) -> PackTable | None:
        """The table of a pack of this remote, if known here."""
        ...


class FlightClass(IntEnum):
    """On whose behalf a range is fetched; the lower goes first."""

    DEMAND = 0
    PREFETCH = 1
    WARM = 2


@dataclass(slots=True, eq=False)
class Flight:
    """One range of one pack, had with one GET: the bytes start … end, which are the entries of
    `run` in `table`, or, with None for both, the one entry `alone`."""

    pack: PackName
    start: int
    end: int
    kind: FlightClass
    table: PackTable | None = None
    run: EntryRun | None = None
    alone: PackEntry | None = None

    @property
    def length(self) -> int:
        """In bytes, as stored."""
        return self.end - self.start

    def holds(self, entry: PackEntry) -> bool:
        """Whether it brings that entry. The whole entry counts, not its offset alone: a row that
        lies about a place never gets the bytes of another's flight."""
        if self.table is None or self.run is None:
            return entry == self.alone
        if not self.start <= entry.offset < self.end:
            return False
        number = entry_number(self.table, PackPlace(self.pack, entry))
        return number is not None and self.run.first <= number <= self.run.last

    def entries(self) -> Iterable[PackEntry]:
        """The entries that it brings, in order of offset; made one by one."""
        if self.table is None or self.run is None:
            return () if self.alone is None else (self.alone,)
        return map(self.table.entry, range(self.run.first, self.run.last + 1))


class FetchSchedule:
    """The flights of one remote, and what is to fly next."""

    def __init__(self, tables: TableSource, load_ranges: Callable[[PackName], Ranges]) -> None:
        """`load_ranges` tells the bytes of a pack that are here."""
        self._tables = tables
        self._load_ranges = load_ranges
        self._evidence = Evidence()
        # What is under way, until it has landed; no pack is without a flight here.
        self._flights: dict[PackName, list[Flight]] = {}
        # Runs that nobody waits for, in the order in which they are to be fetched. None of their
        # entries is in a flight because of them, and none waits twice.
        self._waiting: OrderedDict[tuple[PackName, EntryRun], None] = OrderedDict()
        self._waiting_in: dict[PackName, set[EntryRun]] = {}
        self._counts = dict.fromkeys(FlightClass, 0)
        self._bytes_under_way = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return not self._flights and not self._waiting

    def find(self, place: PackPlace) -> Flight | None:
        """The flight that brings a place."""
        for flight in self._flights.get(place.pack, ()):
            if flight.holds(place.entry):
                return flight
        return None

    def start_alone(self, place: PackPlace) -> Flight:
        """A flight, from now on under way, for one place and nothing beside it."""
        entry = place.entry
        kind = FlightClass.DEMAND
        return self._start(Flight(place.pack, entry.offset, entry.end, kind, alone=entry))

    def start_demand(self, place: PackPlace) -> Flight:
        """A flight, from now on under way, that begins with a place which no other flight brings.
        What else the miss calls for waits from now on."""
        table = self._tables.get_pack_table(place.pack)
        number = entry_number(table, place)
        if table is None or number is None:
            # Rows that disagree are no reason to fail: the chunk's own place is enough.
            return self.start_alone(place)
        waiting = self._take_waiting(place.pack, number)
        try:
            plan = self._plan_demand(table, number, place, waiting)
        except MalformedObject:
            return self.start_alone(place)
        self._add_waiting(place.pack, plan.after)
        return self._start_run(place.pack, table, plan.demand, FlightClass.DEMAND)

    def wait(self, places: Iterable[PackPlace]) -> None:
        """Have these fetched ahead of need, in this order; what is here, under way or waiting
        already is left out."""
        for pack, run in self.runs_of(places):
            table = self._tables.get_pack_table(pack)
            if table is not None:
                span = _bytes_of(table, run)
                taken = self._taken(pack, table)
                self._add_waiting(pack, _absent(table, span, taken))

    def drop_waiting(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        self._waiting_in.clear()

    def start_next(self) -> Flight | None:
        """A flight, from now on under way, for what has waited longest; None where nothing may
        start now."""
        while self._waiting and self.may_start(FlightClass.PREFETCH, MOST_RUN_BYTES):
            pack, run = next(iter(self._waiting))
            self._forget_waiting(pack, run)
            flight = self.start_absent(pack, run, FlightClass.PREFETCH)
            if flight is not None:
                return flight
        return None

    def start_absent(self, pack: PackName, run: EntryRun, kind: FlightClass) -> Flight | None:
        """A flight, from now on under way, for the first part of a run that is neither here nor
        under way; what is behind that part waits, for a prefetch."""
        table = self._tables.get_pack_table(pack)
        if table is None:
            return None
        parts = _absent(table, _bytes_of(table, run), self._taken_without_waiting(pack))
        if not parts:
            return None
        if kind is FlightClass.PREFETCH:
            self._add_waiting(pack, parts[1:], first=True)
        return self._start_run(pack, table, parts[0], kind)

    def may_start(self, kind: FlightClass, length: int) -> bool:
        """Whether a flight of that class, which nobody waits for, has room beside the others."""
        ahead = self._counts[FlightClass.PREFETCH] + self._counts[FlightClass.WARM]
        most = AHEAD_AT_ONCE
        if kind is FlightClass.WARM:
            if self._waiting:
                return False
            if self._counts[FlightClass.DEMAND] or self._counts[FlightClass.PREFETCH]:
                most = WARMS_BESIDE_OTHERS
        if ahead >= most:
            return False
        return not ahead or self._bytes_under_way + length <= MOST_BYTES_UNDER_WAY

    def land(self, flight: Flight) -> None:
        """A flight has come to its end, well or not."""
        flights = self._flights[flight.pack]
        flights.remove(flight)
        if not flights:
            del self._flights[flight.pack]
        self._counts[flight.kind] -= 1
        self._bytes_under_way -= flight.length

    def flights_of(self, pack: PackName, run: EntryRun) -> list[Flight]:
        """The flights that bring a part of a run."""
        table = self._tables.get_pack_table(pack)
        if table is None:
            return []
        start, end = _bytes_of(table, run)
        flights = self._flights.get(pack, ())
        return [flight for flight in flights if flight.start < end and start < flight.end]

    def runs_of(self, places: Iterable[PackPlace]) -> list[tuple[PackName, EntryRun]]:
        """Neighbouring places as runs, in the order asked; places that no table knows are left
        out."""
        runs: list[tuple[PackName, EntryRun]] = []
        for pack, entry in places:
            table = self._tables.get_pack_table(pack)
            number = entry_number(table, PackPlace(pack, entry))
            if number is None:
                continue
            if runs and runs[-1][0] == pack and runs[-1][1].last + 1 == number:
                runs[-1] = pack, EntryRun(runs[-1][1].first, number)
            else:
                runs.append((pack, EntryRun(number, number)))
        return runs

    def _plan_demand(
        self, table: PackTable, number: int, place: PackPlace, waiting: EntryRun | None
    ) -> Plan:
        if waiting is None:
            taken = self._taken(place.pack, table)
            if any(start <= place.entry.offset < end for start, end in taken):
                # The tables say that it is here, and whoever asks found that it is not.
                return Plan(EntryRun(number, number))
            plan = plan_miss(place.pack, table, number, taken, self._evidence)
        else:
            # It was bought before, so the miss says nothing new.
            before = [EntryRun(waiting.first, number - 1)] if waiting.first < number else []
            plan = Plan(EntryRun(number, waiting.last), tuple(before))
        demand, *rest = self._fit(table, plan.demand, number)
        return Plan(demand, (*rest, *plan.after))

    def _fit(self, table: PackTable, run: EntryRun, missed: int) -> list[EntryRun]:
        """The run in two parts, of which the first, with the missed entry, leaves room for the
        readers who come next; in one part where that is small enough."""
        room_bytes = (MOST_BYTES_UNDER_WAY - self._bytes_under_way) // 4
        start, end = _bytes_of(table, run)
        if end - start <= room_bytes:
            return [run]
        needed_bytes = table.entry(missed).end - start
        first = next(absent_runs(table, (start, end), (), max(room_bytes, needed_bytes)))
        return [first] if first == run else [first, EntryRun(first.last + 1, run.last)]

    def _taken(self, pack: PackName, table: PackTable) -> Ranges:
        waiting = [_bytes_of(table, run) for run in self._waiting_in.get(pack, ())]
        return merged(self._taken_without_waiting(pack), waiting)

    def _taken_without_waiting(self, pack: PackName) -> Ranges:
        flying = [(flight.start, flight.end) for flight in self._flights.get(pack, ())]
        return merged(self._load_ranges(pack), flying)

    def _take_waiting(self, pack: PackName, number: int) -> EntryRun | None:
        for run in self._waiting_in.get(pack, ()):
            if run.first <= number <= run.last:
                self._forget_waiting(pack, run)
                return run
        return None

    def _add_waiting(
        self, pack: PackName, runs: Iterable[EntryRun], *, first: bool = False
    ) -> None:
        for run in reversed(list(runs)) if first else runs:
            self._waiting[pack, run] = None
            self._waiting.move_to_end((pack, run), last=not first)
            self._waiting_in.setdefault(pack, set()).add(run)
        while len(self._waiting) > _MOST_WAITING_RUNS:
            self._forget_waiting(*next(iter(self._waiting)))

    def _forget_waiting(self, pack: PackName, run: EntryRun) -> None:
        del self._waiting[pack, run]
        runs = self._waiting_in[pack]
        runs.remove(run)
        if not runs:
            del self._waiting_in[pack]

    def _start_run(
        self, pack: PackName, table: PackTable, run: EntryRun, kind: FlightClass
    ) -> Flight:
        start, end = _bytes_of(table, run)
        return self._start(Flight(pack, start, end, kind, table, run))

    def _start(self, flight: Flight) -> Flight:
        self._flights.setdefault(flight.pack, []).append(flight)
        self._counts[flight.kind] += 1
        self._bytes_under_way += flight.length
        return flight


def entry_number(table: PackTable | None, place: PackPlace) -> int | None:
    """Which entry of its pack's table a place is; None where the two do not agree."""
    if table is None:
        return None
    try:
        number = table.entry_index_at(place.entry.offset)
    except MalformedObject:
        return None
    return number if table.entry(number) == place.entry else None


def _absent(table: PackTable, span: tuple[int, int], taken: Ranges) -> list[EntryRun]:
    """Runs for what is not taken of a byte range; none where the table is damaged."""
    try:
        return list(absent_runs(table, span, taken, table.pack_size))
    except MalformedObject:
        return []


def _bytes_of(table: PackTable, run: EntryRun) -> tuple[int, int]:
    return table.entry(run.first).offset, table.entry(run.last).end
