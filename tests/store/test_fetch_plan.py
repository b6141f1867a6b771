"""What to get next, over made packs and thousands of made walks; no clock, no disk, no remote."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.fetch_plan import (
    MOST_RUN_BYTES,
    EntryRun,
    PackHistory,
    plan_entries,
    plan_miss,
)
from store.packs import PACK_HEADER_BYTES, PackTable
from tests.store.damage import unhurried

thousand = settings(unhurried, max_examples=1000)
ENTRY = struct.Struct("<32sIIIB")
SIZES = st.one_of(st.integers(1, 4 << 20), st.just(100_000), st.just(4 << 20))


def made_table(sizes: list[int]) -> PackTable:
    """A table of entries of these stored lengths."""
    rows, offset = [], PACK_HEADER_BYTES
    for number, size in enumerate(sizes):
        rows.append(ENTRY.pack(number.to_bytes(32, "big"), offset, size, size, 0))
        offset += size
    return PackTable.trusted(b"".join(rows))


def numbers(run: EntryRun) -> range:
    return range(run.first, run.last + 1)


def run_bytes(table: PackTable, run: EntryRun) -> int:
    return table.entry(run.last).end - table.entry(run.first).offset


class Walk:
    """A reader of one pack: each entry that is not here is a miss, and all of its plan arrives."""

    def __init__(self, table: PackTable, *, prefetch: bool = True) -> None:
        self.table = table
        self.prefetch = prefetch
        self.history = PackHistory()
        self.here: set[int] = set()
        self.asked_bytes = self.fetched_bytes = self.gets = 0

    def read(self, number: int) -> None:
        self.asked_bytes += self.table.entry(number).stored_length
        if number in self.here:
            return
        plan = plan_miss(self.table, number, self.history, self.here.__contains__)
        assert number in numbers(plan.demand)
        for run in (plan.demand, *plan.after) if self.prefetch else (plan.demand,):
            assert self.here.isdisjoint(numbers(run)), "what is here is fetched again"
            self.here.update(numbers(run))
            self.fetched_bytes += run_bytes(self.table, run)
            self.gets += 1


@thousand
@given(st.data(), st.lists(SIZES, min_size=1, max_size=60), st.booleans())
def test_no_plan_fetches_what_is_here_or_leaves_out_what_was_missed(
    data: st.DataObject, sizes: list[int], prefetch: bool
) -> None:
    walk = Walk(made_table(sizes), prefetch=prefetch)
    for number in data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=40)):
        walk.read(number)
        if data.draw(st.booleans()):
            # As when the cache drops something between two reads.
            walk.here.discard(data.draw(st.integers(0, len(sizes) - 1)))


@thousand
@given(st.lists(SIZES, min_size=1, max_size=60), st.data())
def test_runs_for_wanted_entries_get_each_absent_one_once_and_no_other(
    sizes: list[int], data: st.DataObject
) -> None:
    table = made_table(sizes)
    here = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    first = data.draw(st.integers(0, len(sizes)))
    wanted = range(first, data.draw(st.integers(first, len(sizes))))
    runs = plan_entries(table, wanted, here.__contains__)
    planned = [number for run in runs for number in numbers(run)]
    assert planned == [number for number in wanted if number not in here]
    assert all(run.first == run.last or run_bytes(table, run) <= MOST_RUN_BYTES for run in runs)


@thousand
@given(st.lists(SIZES, min_size=1, max_size=60), st.data())
def test_a_lone_miss_gets_its_own_chunk_and_nothing_else(
    sizes: list[int], data: st.DataObject
) -> None:
    missed = data.draw(st.integers(0, len(sizes) - 1))
    plan = plan_miss(made_table(sizes), missed, PackHistory(), lambda _: False)
    assert (plan.demand, plan.after) == (EntryRun(missed, missed), ())


@pytest.mark.parametrize("seed", range(20))
def test_a_sparse_sample_of_a_pack_costs_at_most_eight_times_what_was_asked(seed: int) -> None:
    walk = Walk(made_table([100_000] * 640))
    for number in random.Random(seed).sample(range(640), 640 // 100):
        walk.read(number)
    assert walk.fetched_bytes <= 8 * walk.asked_bytes


def test_a_walk_in_order_doubles_its_runs_up_to_the_most_and_needs_few_gets() -> None:
    walk = Walk(made_table([100_000] * 640), prefetch=False)
    runs = []
    for number in range(640):
        before = walk.fetched_bytes
        walk.read(number)
        if walk.fetched_bytes > before:
            runs.append(walk.fetched_bytes - before)
    assert runs[:-1] == sorted(runs[:-1])
    assert MOST_RUN_BYTES // 2 < max(runs) <= MOST_RUN_BYTES
    # Doubling from half a MiB, and then the rest in runs of the most.
    assert walk.gets <= 6 + -(-64_000_000 // (MOST_RUN_BYTES - 100_000))
    assert walk.fetched_bytes == walk.asked_bytes


@pytest.mark.parametrize("seed", range(10))
def test_a_full_shuffle_fetches_every_byte_exactly_once_and_in_few_gets(seed: int) -> None:
    walk = Walk(made_table([100_000] * 640))
    order = list(range(640))
    random.Random(seed).shuffle(order)
    for number in order:
        walk.read(number)
    assert walk.fetched_bytes == walk.asked_bytes == 64_000_000
    assert walk.gets < 60


def test_a_jump_back_to_single_reads_ends_the_long_runs() -> None:
    walk = Walk(made_table([100_000] * 640))
    for number in range(30):
        walk.read(number)
    assert walk.history.run_bytes > 0
    before = walk.fetched_bytes
    walk.read(400)
    assert walk.fetched_bytes - before == 100_000


def test_a_table_with_a_gap_never_makes_a_run_across_it() -> None:
    rows = bytearray(made_table([1000] * 20).raw)
    # The offsets of two entries, as damage or a liar may leave them.
    struct.pack_into("<I", rows, 7 * ENTRY.size + 32, 3)
    struct.pack_into("<I", rows, 19 * ENTRY.size + 32, 12)
    table = PackTable.trusted(bytes(rows))
    for run in plan_entries(table, range(20), lambda _: False):
        stored = sum(table.entry(number).stored_length for number in numbers(run))
        assert run_bytes(table, run) == stored
