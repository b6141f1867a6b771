"""What to get next, over made packs and thousands of made walks; no clock, no disk, no remote."""

import random
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import MalformedObject
from store.fetch_plan import (
    CRUMB_BYTES,
    FREE_MISSES,
    MOST_RUN_BYTES,
    EntryRun,
    Evidence,
    Ranges,
    absent_runs,
    merged,
    plan_miss,
)
from store.ids import PackName
from store.packs import PACK_HEADER_BYTES, TABLE_ENTRY_BYTES, PackTable
from tests.store.damage import unhurried
from tests.store.made_tables import made_packs, made_table

hundreds = settings(unhurried, max_examples=300)
many = settings(unhurried, max_examples=60)
SIZES = st.one_of(st.integers(1, 4 << 20), st.just(100_000), st.just(4 << 20))
PACK = PackName("0" * 32)


def numbers(run: EntryRun) -> range:
    return range(run.first, run.last + 1)


def run_bytes(table: PackTable, run: EntryRun) -> int:
    return table.entry(run.last).end - table.entry(run.first).offset


def ranges_of(table: PackTable, entries: set[int]) -> Ranges:
    return merged([(table.entry(n).offset, table.entry(n).end) for n in entries])


class Walk:
    """Readers of some packs: each entry that is not here is a miss, and all of its plan arrives
    before the next."""

    def __init__(self, tables: Sequence[PackTable]) -> None:
        self.tables = tables
        self.evidence = Evidence()
        self.here: list[set[int]] = [set() for _ in tables]
        self.taken: list[Ranges] = [[] for _ in tables]
        self.asked_bytes = self.fetched_bytes = self.gets = self.misses = 0

    def read(self, number: int, pack: int = 0) -> None:
        table, here = self.tables[pack], self.here[pack]
        self.asked_bytes += table.entry(number).stored_length
        if number in here:
            return
        self.misses += 1
        plan = plan_miss(PackName(f"{pack:032x}"), table, number, self.taken[pack], self.evidence)
        assert number in numbers(plan.demand)
        for run in (plan.demand, *plan.after):
            assert here.isdisjoint(numbers(run)), "what is here is fetched again"
            here.update(numbers(run))
            got = table.entry(run.first).offset, table.entry(run.last).end
            self.taken[pack] = merged(self.taken[pack], [got])
            self.fetched_bytes += run_bytes(table, run)
            self.gets += 1


@hundreds
@given(st.data(), st.lists(SIZES, min_size=1, max_size=60))
def test_no_plan_fetches_what_is_here_or_leaves_out_what_was_missed(
    data: st.DataObject, sizes: list[int]
) -> None:
    walk = Walk([made_table(sizes)])
    for number in data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=40)):
        walk.read(number)
        if data.draw(st.booleans()):
            # As when the cache drops something between two reads.
            walk.here[0].discard(data.draw(st.integers(0, len(sizes) - 1)))
            walk.taken[0] = ranges_of(walk.tables[0], walk.here[0])
        assert walk.evidence.spent_bytes <= walk.evidence.earned_bytes + 2 * CRUMB_BYTES


@hundreds
@given(st.lists(SIZES, min_size=1, max_size=60), st.data())
def test_runs_for_a_span_get_each_absent_entry_once_and_no_other(
    sizes: list[int], data: st.DataObject
) -> None:
    table = made_table(sizes)
    here = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    first = data.draw(st.integers(0, len(sizes) - 1))
    last = data.draw(st.integers(first, len(sizes) - 1))
    span = table.entry(first).offset, table.entry(last).end
    runs = list(absent_runs(table, span, ranges_of(table, here), table.pack_size))
    planned = [number for run in runs for number in numbers(run)]
    assert planned == [number for number in range(first, last + 1) if number not in here]
    assert all(run_bytes(table, run) <= MOST_RUN_BYTES for run in runs)


@hundreds
@given(st.lists(SIZES, min_size=1, max_size=60), st.integers(0, 1 << 28), st.data())
def test_runs_within_a_budget_are_the_first_of_those_without(
    sizes: list[int], budget_bytes: int, data: st.DataObject
) -> None:
    table = made_table(sizes)
    taken = ranges_of(table, data.draw(st.sets(st.integers(0, len(sizes) - 1))))
    span = PACK_HEADER_BYTES, table.entry(len(table) - 1).end
    every = [n for run in absent_runs(table, span, taken, table.pack_size) for n in numbers(run)]
    some = [n for run in absent_runs(table, span, taken, budget_bytes) for n in numbers(run)]
    assert some == every[: len(some)]
    used = sum(table.entry(n).stored_length for n in some)
    assert used <= budget_bytes
    if len(some) < len(every):
        assert used + table.entry(every[len(some)]).stored_length > budget_bytes


@hundreds
@given(st.lists(SIZES, min_size=1, max_size=60), st.data())
def test_a_lone_miss_gets_its_own_chunk_and_nothing_else(
    sizes: list[int], data: st.DataObject
) -> None:
    missed = data.draw(st.integers(0, len(sizes) - 1))
    plan = plan_miss(PACK, made_table(sizes), missed, (), Evidence())
    assert (plan.demand, plan.after) == (EntryRun(missed, missed), ())


@many
@given(st.integers(0, 1 << 64), st.sampled_from([2000, 5000, 20_000]))
def test_a_random_sample_of_a_hundredth_costs_at_most_eight_times_what_it_asks_for(
    seed: int, files: int
) -> None:
    chosen = random.Random(seed)
    walk = Walk(made_packs(chosen, files))
    for place in chosen.sample(range(files), files // 100):
        walk.read(place % 660, place // 660)
    assert walk.fetched_bytes <= 8 * walk.asked_bytes


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.2, 0.5])
def test_a_random_sample_of_any_size_costs_about_eight_times_what_it_asks_for_at_most(
    share: float,
) -> None:
    factors = []
    for seed in range(5):
        chosen = random.Random(seed)
        walk = Walk(made_packs(chosen, 5000))
        for place in chosen.sample(range(5000), int(share * 5000)):
            walk.read(place % 660, place // 660)
        factors.append(walk.fetched_bytes / walk.asked_bytes)
    assert max(factors) <= 9


@many
@given(st.lists(SIZES, min_size=20, max_size=200), st.randoms(use_true_random=False))
def test_whoever_asks_only_for_what_is_not_here_pays_sixteen_times_that_at_most(
    sizes: list[int], chosen: random.Random
) -> None:
    walk = Walk([made_table(sizes)])
    evidence, absent = walk.evidence, set(range(len(sizes)))
    while absent:
        walk.read(chosen.choice(sorted(absent)))
        absent -= walk.here[0]
        bought = walk.fetched_bytes - walk.asked_bytes
        in_order = walk.misses * 2 * (512 << 10)
        assert bought <= 15 * max(walk.asked_bytes, walk.misses * (32 << 10)) + in_order + (2 << 20)
        assert evidence.spent_bytes <= evidence.earned_bytes + 2 * CRUMB_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_a_full_shuffle_fetches_every_byte_exactly_once_with_few_misses(seed: int) -> None:
    chosen = random.Random(seed)
    walk = Walk(made_packs(chosen, 5000))
    for place in chosen.sample(range(5000), 5000):
        walk.read(place % 660, place // 660)
    assert walk.fetched_bytes == walk.asked_bytes
    # A sixteenth of the files, what the first misses in each pack do not pay for, and what was
    # bought in parts too small to be worth a request.
    assert walk.misses <= 5000 / 12
    assert walk.gets <= 2 * walk.misses


@many
@given(st.lists(SIZES, min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_a_pack_that_is_plainly_wanted_is_had_whole(
    sizes: list[int], chosen: random.Random
) -> None:
    table = made_table(sizes)
    walk = Walk([table])
    for number in chosen.sample(range(len(sizes)), len(sizes)):
        walk.read(number)
        # Each miss past the free ones pays for 224 KiB at the least.
        paid = (walk.misses - FREE_MISSES) * (224 << 10)
        if paid >= table.pack_size:
            assert len(walk.here[0]) == len(sizes)


def test_a_folder_within_a_pack_is_had_without_the_rest_of_it_in_few_requests() -> None:
    chosen = random.Random(3)
    walk = Walk([made_table([100_000] * 660)])
    for number in chosen.sample(range(200, 400), 200):
        walk.read(number)
    assert walk.gets <= 50
    assert walk.fetched_bytes <= 2 * walk.asked_bytes


def test_a_walk_in_order_doubles_its_runs_and_needs_few_misses() -> None:
    walk = Walk([made_table([100_000] * 640)])
    fetched = []
    for number in range(640):
        before = walk.fetched_bytes
        walk.read(number)
        if walk.fetched_bytes > before:
            fetched.append(walk.fetched_bytes - before)
    assert walk.fetched_bytes == walk.asked_bytes
    assert fetched[:-1] == sorted(fetched[:-1])
    assert walk.misses <= 9


def test_a_walk_in_order_goes_on_at_full_length_in_the_next_pack() -> None:
    walk = Walk([made_table([100_000] * 640)] * 3)
    for pack in range(3):
        for number in range(640):
            walk.read(number, pack)
        if pack == 0:
            first = walk.misses
    assert walk.misses - first <= 2 * 3


def test_two_walks_in_one_pack_do_not_disturb_each_other() -> None:
    walk = Walk([made_table([1000] * 60_000)])
    for step in range(1000):
        walk.read(step)
        walk.read(30_000 + step)
    assert walk.misses <= 8


def test_a_table_with_a_gap_is_refused_or_makes_no_run_past_its_bounds() -> None:
    rows = bytearray(made_table([1000] * 20).raw)
    # The offsets of two entries, as damage or a liar may leave them.
    struct.pack_into("<I", rows, 7 * TABLE_ENTRY_BYTES + 32, 3)
    struct.pack_into("<I", rows, 19 * TABLE_ENTRY_BYTES + 32, 12)
    table = PackTable.trusted(bytes(rows))
    for first in range(20):
        try:
            span = table.entry(first).offset, table.entry(first).end + 5000
            for run in absent_runs(table, span, (), 1 << 30):
                assert 0 < run_bytes(table, run) <= MOST_RUN_BYTES
        except MalformedObject:
            pass


def test_planning_costs_what_is_planned_and_not_what_the_pack_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = made_table([400] * 150_000)
    looked_at = []
    real = PackTable.entry

    def counted(self: PackTable, index: int) -> object:
        looked_at.append(index)
        return real(self, index)

    monkeypatch.setattr(PackTable, "entry", counted)
    evidence = Evidence()
    for missed in range(1000, 100_000, 10_000):
        plan_miss(PACK, table, missed, (), evidence)
    assert len(looked_at) < 10 * 60
