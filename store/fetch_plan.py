"""What to get next from a pack: from what was missed in it so far to ranges. Pure.

Neighbours in a pack are neighbours in a folder, so the plan grows along the pack while reads prove
that right, and stays with the exact chunk where they do not:

- a lone miss gets its own chunk, nothing more: a sparse sample pays for what it asks;
- a miss right behind the last run gets a run of twice the length, up to 8 MiB;
- from the 12th miss in one pack on, the pack is plainly wanted: runs of 8 MiB, and the rest of the
  pack after them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from store.packs import PackTable

MOST_RUN_BYTES = 8 << 20
_FIRST_GROWN_RUN_BYTES = 512 << 10
_MISSES_THAT_WANT_A_PACK = 12


@dataclass(frozen=True, slots=True)
class EntryRun:
    """Entries first … last (inclusive) of a pack's table, to be had with one GET."""

    first: int
    last: int


@dataclass(slots=True)
class PackHistory:
    """What was missed in one pack so far.

    Invariant: `expected_entry` is the entry behind the last planned run, `run_bytes` that run's
    intended length.
    """

    misses: int = 0
    expected_entry: int = -1
    run_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The run that holds the missed entry, and runs to get after it when nothing else waits."""

    demand: EntryRun
    after: tuple[EntryRun, ...]


def plan_miss(
    table: PackTable, missed: int, history: PackHistory, is_here: Callable[[int], bool]
) -> Plan:
    """What to get for a miss of entry `missed`, updating `history`.

    `is_here(entry)` tells entries that are cached or already under way; no run contains one.
    """
    history.misses += 1
    wants_pack = history.misses >= _MISSES_THAT_WANT_A_PACK
    if wants_pack:
        history.run_bytes = MOST_RUN_BYTES
    elif missed == history.expected_entry:
        doubled = max(2 * history.run_bytes, _FIRST_GROWN_RUN_BYTES)
        history.run_bytes = min(doubled, MOST_RUN_BYTES)
    else:
        history.run_bytes = 0
    demand = _run_from(table, missed, history.run_bytes, is_here)
    history.expected_entry = demand.last + 1
    return Plan(demand, _rest_of_pack(table, demand, is_here) if wants_pack else ())


def plan_entries(
    table: PackTable, wanted: range, is_here: Callable[[int], bool]
) -> tuple[EntryRun, ...]:
    """Runs of at most MOST_RUN_BYTES that get the entries of `wanted` which are not here."""
    runs: list[EntryRun] = []
    number = wanted.start
    while number < wanted.stop:
        if is_here(number):
            number += 1
            continue
        run = _run_from(table, number, MOST_RUN_BYTES, is_here, wanted.stop - 1)
        runs.append(run)
        number = run.last + 1
    return tuple(runs)


def _run_from(
    table: PackTable,
    first: int,
    most_bytes: int,
    is_here: Callable[[int], bool],
    final: int | None = None,
) -> EntryRun:
    # The first entry always belongs to the run, whatever its length.
    entry = table.entry(first)
    start, last = entry.offset, first
    final = len(table) - 1 if final is None else final
    while last < final and not is_here(last + 1):
        following = table.entry(last + 1)
        # A gap is a damaged row: such entries are left to whoever wants them.
        if following.offset != entry.end or following.end - start > most_bytes:
            break
        entry, last = following, last + 1
    return EntryRun(first, last)


def _rest_of_pack(
    table: PackTable, demand: EntryRun, is_here: Callable[[int], bool]
) -> tuple[EntryRun, ...]:
    # What lies behind first: a reader that goes along the pack gets there sooner.
    behind = plan_entries(table, range(demand.last + 1, len(table)), is_here)
    return behind + plan_entries(table, range(demand.first), is_here)
