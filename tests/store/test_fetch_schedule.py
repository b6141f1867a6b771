"""What flies and what waits, over made packs; no clock, no remote, no disk."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.cache_rows import PackPlace
from store.fetch_plan import MOST_RUN_BYTES, EntryRun, Ranges, merged
from store.fetch_schedule import (
    AHEAD_AT_ONCE,
    MOST_BYTES_UNDER_WAY,
    WARMS_BESIDE_OTHERS,
    FetchSchedule,
    Flight,
    FlightClass,
)
from store.ids import PackName
from store.packs import PackTable
from tests.store.damage import unhurried
from tests.store.made_tables import made_packs, made_table

many = settings(unhurried, max_examples=60)
MIB = 1 << 20


class Board:
    """A schedule over made packs. What lands is here."""

    def __init__(self, tables: list[PackTable]) -> None:
        self.tables = {PackName(f"{n:032x}"): table for n, table in enumerate(tables)}
        self.names = list(self.tables)
        self.here: dict[PackName, Ranges] = {}
        self.schedule = FetchSchedule(self, lambda pack: self.here.get(pack, []))
        self.flying: list[Flight] = []
        self.fetched_bytes = 0

    def get_pack_table(self, pack: PackName) -> PackTable | None:
        return self.tables.get(pack)

    def place(self, number: int, pack: int = 0) -> PackPlace:
        name = self.names[pack]
        return PackPlace(name, self.tables[name].entry(number))

    def is_here(self, place: PackPlace) -> bool:
        entry = place.entry
        ranges = self.here.get(place.pack, [])
        return any(start <= entry.offset and entry.end <= end for start, end in ranges)

    def start(self, flight: Flight) -> Flight:
        assert all(flight is not other for other in self.flying)
        for other in self.flying:
            apart = other.pack != flight.pack or other.end <= flight.start
            assert apart or flight.end <= other.start, "two flights bring the same bytes"
        self.flying.append(flight)
        self.fetched_bytes += flight.length
        return flight

    def demand(self, number: int, pack: int = 0) -> Flight:
        place = self.place(number, pack)
        found = self.schedule.find(place)
        flight = found or self.start(self.schedule.start_demand(place))
        assert flight.holds(place.entry)
        return flight

    def pump(self) -> None:
        while (flight := self.schedule.start_next()) is not None:
            self.start(flight)

    def land(self, flight: Flight) -> None:
        self.flying.remove(flight)
        self.schedule.land(flight)
        got = [(flight.start, flight.end)]
        self.here[flight.pack] = merged(self.here.get(flight.pack, []), got)

    def count(self, kind: FlightClass) -> int:
        return sum(flight.kind is kind for flight in self.flying)


@many
@given(st.integers(0, 1 << 64), st.sampled_from([4, 32]))
def test_readers_who_ask_for_a_random_hundredth_at_once_cost_eight_times_that_at_most(
    seed: int, readers: int
) -> None:
    chosen = random.Random(seed)
    board = Board(made_packs(chosen, 5000))
    places = [board.place(n % 660, n // 660) for n in chosen.sample(range(5000), 50)]
    asked_bytes = sum(place.entry.stored_length for place in places)
    for start in range(0, len(places), readers):
        for place in places[start : start + readers]:
            if not board.is_here(place) and board.schedule.find(place) is None:
                board.start(board.schedule.start_demand(place))
            board.pump()
        chosen.shuffle(board.flying)
        while board.flying:
            board.land(board.flying[0])
            board.pump()
    assert board.fetched_bytes <= 8 * asked_bytes


@many
@given(st.data(), st.integers(0, 1 << 64))
def test_no_byte_is_fetched_twice_and_none_that_is_asked_for_is_left_out(
    data: st.DataObject, seed: int
) -> None:
    chosen = random.Random(seed)
    board = Board([made_table([chosen.randint(1, 2 * MIB) for _ in range(60)]) for _ in range(3)])
    for _ in range(data.draw(st.integers(1, 40))):
        number, pack = chosen.randrange(60), chosen.randrange(3)
        match chosen.randrange(4):
            case 0 | 1 if not board.is_here(board.place(number, pack)):
                board.demand(number, pack)
            case 2:
                board.schedule.wait(board.place(n, pack) for n in range(number, 60))
            case 3 if board.flying:
                board.land(chosen.choice(board.flying))
        board.pump()
        ahead = board.count(FlightClass.PREFETCH)
        assert ahead <= AHEAD_AT_ONCE
        under_way = sum(flight.length for flight in board.flying)
        demands = board.count(FlightClass.DEMAND)
        assert under_way <= MOST_BYTES_UNDER_WAY + demands * (2 * MIB + MOST_RUN_BYTES // 8)
    while board.flying:
        board.land(board.flying[0])
        board.pump()
    assert board.schedule.is_idle
    assert board.fetched_bytes == sum(
        end - start for ranges in board.here.values() for start, end in ranges
    )


def test_a_demand_starts_at_once_whatever_is_under_way_ahead() -> None:
    board = Board([made_table([MIB] * 60) for _ in range(4)])
    board.schedule.wait(board.place(n, pack) for pack in range(3) for n in range(60))
    board.pump()
    assert board.count(FlightClass.PREFETCH) == AHEAD_AT_ONCE
    flight = board.demand(7, 3)
    assert (flight.kind, flight.length) == (FlightClass.DEMAND, MIB)


def test_a_demand_for_what_waits_takes_it_out_of_there_with_what_is_behind_it() -> None:
    board = Board([made_table([100_000] * 600)])
    board.schedule.wait(board.place(n) for n in range(100, 500))
    flight = board.demand(300)
    assert flight.run is not None
    assert flight.run.first == 300
    assert flight.length > 1_000_000
    board.pump()
    while board.flying:
        board.land(board.flying[0])
        board.pump()
    assert board.fetched_bytes == 400 * 100_000


def test_a_demand_inside_a_flight_is_that_flight() -> None:
    board = Board([made_table([100_000] * 600)])
    board.schedule.wait(board.place(n) for n in range(50))
    board.pump()
    (flight,) = board.flying
    assert board.demand(31) is flight
    assert board.fetched_bytes == flight.length


def test_many_demands_at_once_leave_each_other_room() -> None:
    board = Board([made_table([100_000] * 600) for _ in range(32)])
    board.schedule.wait(board.place(n, pack) for pack in range(32) for n in range(600))
    for pack in range(32):
        board.demand(300, pack)
    assert len(board.flying) == 32
    board.pump()
    # Of what nobody waits for one run may always be under way, so that it goes on at all.
    under_way = sum(flight.length for flight in board.flying)
    assert under_way <= MOST_BYTES_UNDER_WAY + MOST_RUN_BYTES


def test_what_waits_first_is_fetched_first() -> None:
    board = Board([made_table([100_000] * 10) for _ in range(20)])
    order = random.Random(1).sample(range(20), 20)
    board.schedule.wait(board.place(0, pack) for pack in order)
    started = []
    board.pump()
    while board.flying:
        started.append(board.names.index(board.flying[0].pack))
        board.land(board.flying[0])
        board.pump()
    assert started == order


def test_what_waits_already_does_not_wait_twice() -> None:
    board = Board([made_table([100_000] * 100) for _ in range(3)])
    for _ in range(5):
        board.schedule.wait(board.place(n, 2) for n in range(100))
    assert len(board.schedule._waiting) == 2
    board.pump()
    while board.flying:
        board.land(board.flying[0])
        board.pump()
    assert board.fetched_bytes == 100 * 100_000


def test_what_came_here_while_it_waited_is_left_out_and_the_order_stays() -> None:
    board = Board([made_table([100_000] * 50) for _ in range(3)])
    for pack in range(3):
        board.schedule.wait(board.place(n, pack) for n in range(50))
    entry = board.place(20, 0).entry
    board.here[board.names[0]] = [(entry.offset, entry.end)]
    board.pump()
    runs = [(board.names.index(flight.pack), flight.run) for flight in board.flying]
    assert runs == [
        (0, EntryRun(0, 19)),
        (0, EntryRun(21, 49)),
        (1, EntryRun(0, 49)),
        (2, EntryRun(0, 49)),
    ]


def test_warming_waits_for_what_was_prefetched_and_leaves_readers_the_link() -> None:
    board = Board([made_table([MIB] * 60) for _ in range(4)])
    schedule = board.schedule
    assert schedule.may_start(FlightClass.WARM, MOST_RUN_BYTES)
    board.schedule.wait(board.place(n) for n in range(60))
    assert not schedule.may_start(FlightClass.WARM, MOST_RUN_BYTES)
    schedule.drop_waiting()
    board.demand(0, 1)
    runs = [EntryRun(first, first) for first in range(40)]
    for run in runs:
        if schedule.may_start(FlightClass.WARM, MIB):
            warm = schedule.start_absent(board.names[2], run, FlightClass.WARM)
            assert warm is not None
            board.start(warm)
    assert board.count(FlightClass.WARM) == WARMS_BESIDE_OTHERS
    board.land(board.flying[0])
    assert schedule.may_start(FlightClass.WARM, MIB)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.fetch_schedule._MOST_WAITING_RUNS", 10)
    board = Board([made_table([1000] * 2) for _ in range(50)])
    board.schedule.wait(board.place(0, pack) for pack in range(50))
    board.pump()
    while board.flying:
        board.land(board.flying[0])
        board.pump()
    # The newest stay.
    assert sorted(board.here) == board.names[40:]


def test_a_place_that_the_tables_say_is_here_is_fetched_alone() -> None:
    board = Board([made_table([1000] * 100)])
    board.here[board.names[0]] = [(0, 1 << 20)]
    flight = board.demand(5)
    assert flight.length == 1000


def test_a_place_of_no_known_table_is_fetched_alone_and_others_find_it() -> None:
    board = Board([made_table([1000] * 100)])
    place = board.place(3)
    strange = PackPlace(PackName("9" * 32), place.entry)
    flight = board.schedule.start_demand(strange)
    assert board.schedule.find(strange) is flight
    assert board.schedule.find(place) is None
    lie = PackPlace(strange.pack, place.entry._replace(raw_length=7))
    assert board.schedule.find(lie) is None
