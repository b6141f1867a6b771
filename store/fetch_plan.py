"""What to get next: from what was missed so far, in a pack and in all of them, to ranges. Pure.

Neighbours in a pack are neighbours in a folder, and reading tends either to go on (an epoch, in any
order) or to end soon (a sample). Which of the two it is shows only later, so this is a rent-or-buy
decision: a miss that is served alone is rent, what is fetched beside it is bought, and no more is
bought than the rent paid so far would pay for.

- A lone miss gets its own chunk, nothing more. So do the first three misses in every pack: a sample
  that touches no more than that costs what it asks for.
- Each further miss, in whatever pack, pays into one purse: seven times the bytes that it asked for
  (32 KiB at the least, since a request is never cheaper than that; 768 KiB at the most, about what
  a request costs besides its bytes, which is all that fetching ahead can save). Where a part f of
  the pack is here already, a reader in random order finds 1 / (1 - f) chunks for each one that it
  misses, so the miss pays in that many times, eight at the most.
- A miss in a pack that was missed more than three times spends the purse, on what lies behind it:
  with its own request as far as that goes, and what is left over, where it is worth a request, on
  the rest of the pack. Misses are spread over all packs at once, so the purse is one for all; a
  pack that is nearly here is had whole, since then one miss pays for the rest. A crumb between two
  runs comes along, on credit.
- A miss right behind the last run goes in order: it gets a run of twice that length, from 512 KiB
  up, of which what is past 8 MiB comes after it. A few such streams are told apart in each pack;
  one that reaches the end of its pack goes on at the beginning of the next at its full length.

The bound. No more is spent than was paid in, and 1 MiB. A miss of b bytes that pays in once lets
7 b be spent, so what is fetched is at most 8 times what was missed, as long as little is here. With
the weights, a share f of all bytes is here after a share x of them was missed, where
df = 8 dx / (1 - f), so f = 1 - sqrt(1 - 16 x): 8.4 % for a sample of 1 %, less what the first three
misses of each pack do not pay in. For whoever asks only for what is not here it is never above 16
times; a random reader of any number of files gets 8 times what he asks for, hits counted, at most.
Reading in order is apart from that: a run is at most twice as long as the one read before it.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from store.errors import MalformedObject
from store.ids import PackName
from store.packs import PackEntry, PackTable

MOST_RUN_BYTES = 8 << 20
FREE_MISSES = 3
"""So many misses in a pack pay nothing in, and may spend nothing."""

CRUMB_BYTES = 512 << 10
"""A gap of this length is not left between two runs: it would be a request of its own later."""

_FIRST_GROWN_RUN_BYTES = 512 << 10
_MOST_ORDERED_BYTES = 4 * MOST_RUN_BYTES
_STREAMS_PER_PACK = 8

_CREDIT_PER_BYTE = 7
_LEAST_ASKED_BYTES = 32 << 10
_MOST_CREDIT_BYTES = 768 << 10
_MOST_WEIGHT = 8.0
# Less is not worth a request of its own, unless it is all that is left of the pack.
_LEAST_PURCHASE_BYTES = 4 << 20
# What a finished pack leaves over must not pay for a pack of another day.
_MOST_PURSE_BYTES = 4 * MOST_RUN_BYTES
_KNOWN_HISTORIES = 4096
# No byte of a pack lies here or behind.
_END = 1 << 32

Ranges = Sequence[tuple[int, int]]
"""Byte ranges (start, end) of a pack: in order, disjoint, not touching."""


@dataclass(frozen=True, slots=True)
class EntryRun:
    """Entries first … last (inclusive) of a pack's table, to be had with one GET."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The run that begins with the missed entry, and runs to get after it when nothing else
    waits."""

    demand: EntryRun
    after: tuple[EntryRun, ...] = ()


@dataclass(slots=True)
class PackHistory:
    """What was missed in one pack so far.

    Invariant: `streams` has, for the entry behind each of the last planned runs, that run's
    intended length in bytes (0 for one that did not go in order); the last planned one is last.
    """

    misses: int = 0
    streams: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def follow(self, missed: int) -> int | None:
        """The length of the run right behind which the miss is, None where there is none."""
        return self.streams.pop(missed, None)

    def expect(self, entry: int, run_bytes: int) -> None:
        """Note that a run of that length ends before `entry`."""
        self.streams[entry] = run_bytes
        while len(self.streams) > _STREAMS_PER_PACK:
            self.streams.popitem(last=False)


class Evidence:
    """What all misses together say.

    Invariant: `spent_bytes` ≤ `earned_bytes` + 2 * CRUMB_BYTES. The purse is what lies between the
    two, less what was lost because it held enough.
    """

    def __init__(self) -> None:
        self._histories: OrderedDict[PackName, PackHistory] = OrderedDict()
        self._lost_bytes = 0
        self.earned_bytes = 0
        self.spent_bytes = 0
        # The run that a reader in order had when it came to the end of a pack; 0 for none.
        self.carried_run_bytes = 0

    @property
    def purse_bytes(self) -> int:
        """What may be bought now; below 0 while a crumb is not paid for."""
        return self.earned_bytes - self._lost_bytes - self.spent_bytes

    def history(self, pack: PackName) -> PackHistory:
        """What was missed in that pack; the longest unused is forgotten for a new one."""
        history = self._histories.setdefault(pack, PackHistory())
        self._histories.move_to_end(pack)
        while len(self._histories) > _KNOWN_HISTORIES:
            self._histories.popitem(last=False)
        return history

    def forget(self, pack: PackName) -> None:
        """A pack that is here as a whole, or under way, begins anew when it was evicted."""
        self._histories.pop(pack, None)

    def earn(self, asked_bytes: int, weight: float) -> None:
        """A miss of that many bytes was served, which stands for `weight` of its like."""
        credit = min(_CREDIT_PER_BYTE * max(asked_bytes, _LEAST_ASKED_BYTES), _MOST_CREDIT_BYTES)
        self.earned_bytes += int(credit * weight)
        self._lost_bytes += max(0, self.purse_bytes - _MOST_PURSE_BYTES)

    def spend(self, bought_bytes: int) -> None:
        """That much was bought."""
        self.spent_bytes += bought_bytes


def plan_miss(
    pack: PackName, table: PackTable, missed: int, taken: Ranges, evidence: Evidence
) -> Plan:
    """What to get for a miss of entry `missed`, updating `evidence`.

    `taken` are the bytes of the pack that are here, under way or waiting to be fetched; no run
    holds an entry that lies in them, and the missed one does not. Raises MalformedObject where the
    table is damaged.
    """
    history = evidence.history(pack)
    history.misses += 1
    entry = table.entry(missed)
    ordered_bytes = _ordered_run_bytes(history, missed, evidence)
    free_bytes = max(ordered_bytes, entry.stored_length)
    if history.misses > FREE_MISSES:
        evidence.earn(entry.stored_length, _weight(table, taken))
        runs = _runs_bought(table, entry, taken, free_bytes, evidence)
    else:
        runs = list(absent_runs(table, (entry.offset, _end(table)), taken, free_bytes))
    covered = merged(taken, [_bytes_of(table, run) for run in runs])
    if not _absent_bytes(table, covered):
        evidence.forget(pack)
    behind = covered[bisect_right(covered, (entry.offset, _END)) - 1][1]
    if behind < _end(table):
        history.expect(table.entry_index_at(behind), ordered_bytes)
    elif ordered_bytes:
        evidence.carried_run_bytes = ordered_bytes
    return Plan(runs[0], tuple(runs[1:]))


def absent_runs(
    table: PackTable, span: tuple[int, int], taken: Ranges, budget_bytes: int
) -> Iterator[EntryRun]:
    """Runs of at most MOST_RUN_BYTES, in order, that get the entries in the byte range `span` of
    the pack which do not lie in `taken`, as far as the budget goes.

    Costs what is planned, not what the pack holds. Raises MalformedObject where the table is
    damaged.
    """
    for low, high in _gaps(span, taken):
        first, last = table.entry_index_at(low), table.entry_index_at(high - 1)
        while first <= last:
            run = _piece(table, first, last, min(budget_bytes, MOST_RUN_BYTES))
            if run is None:
                return
            yield run
            start, end = _bytes_of(table, run)
            budget_bytes -= end - start
            first = run.last + 1


def merged(*lists: Ranges) -> list[tuple[int, int]]:
    """All these byte ranges as one list of them, in order, disjoint and not touching."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(chain(*lists)):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _ordered_run_bytes(history: PackHistory, missed: int, evidence: Evidence) -> int:
    """The length of the run that the miss gets because it goes in order; 0 where it does not."""
    before = history.follow(missed)
    if before is None and missed == 0:
        carried, evidence.carried_run_bytes = evidence.carried_run_bytes, 0
        return carried
    if before is None:
        return 0
    return min(max(2 * before, _FIRST_GROWN_RUN_BYTES), _MOST_ORDERED_BYTES)


def _runs_bought(
    table: PackTable, entry: PackEntry, taken: Ranges, free_bytes: int, evidence: Evidence
) -> list[EntryRun]:
    """What to get for a missed entry: `free_bytes` from there on, and as much more of the pack as
    the purse pays for."""
    purse_bytes = max(0, evidence.purse_bytes)
    start, stop = _span_for(table, entry, taken, free_bytes + purse_bytes)
    runs = list(absent_runs(table, (start, stop), taken, _END))
    got_bytes = _length_of(table, runs)
    rest_bytes = _absent_bytes(table, taken) - got_bytes
    if purse_bytes >= min(rest_bytes, _LEAST_PURCHASE_BYTES):
        for span in ((stop, _end(table)), (table.entry(0).offset, start)):
            budget_bytes = free_bytes + purse_bytes - got_bytes
            bought = list(absent_runs(table, span, taken, budget_bytes))
            got_bytes += _length_of(table, bought)
            runs += bought
    evidence.spend(max(0, got_bytes - free_bytes))
    return runs


def _span_for(
    table: PackTable, entry: PackEntry, taken: Ranges, budget_bytes: int
) -> tuple[int, int]:
    """The bytes from a missed entry on that the budget pays for, up to what is taken; a crumb that
    would be left before or behind them comes along."""
    index = bisect_right(taken, (entry.offset, _END))
    low = taken[index - 1][1] if index else table.entry(0).offset
    high = taken[index][0] if index < len(taken) else _end(table)
    crumb_bytes = CRUMB_BYTES if budget_bytes > entry.stored_length else 0
    start = low if entry.offset - low <= crumb_bytes else entry.offset
    stop = min(high, max(entry.end, entry.offset + budget_bytes))
    if high - stop <= crumb_bytes:
        return start, high
    return start, max(entry.end, table.entry(table.entry_index_at(stop)).offset)


def _weight(table: PackTable, taken: Ranges) -> float:
    """How many chunks of a pack a reader in random order wants for each one that it misses."""
    all_bytes = _end(table) - table.entry(0).offset
    return min(_MOST_WEIGHT, all_bytes / max(_absent_bytes(table, taken), 1))


def _piece(table: PackTable, first: int, last: int, most_bytes: int) -> EntryRun | None:
    """As many of the entries first … last as make up `most_bytes`; None where not one does."""
    if table.entry(first).stored_length > most_bytes:
        return None
    limit = table.entry(first).offset + most_bytes
    if table.entry(last).end > limit:
        last = table.entry_index_at(limit) - 1
    run = EntryRun(first, last)
    start, end = _bytes_of(table, run)
    if not 0 < end - start <= most_bytes:
        raise MalformedObject("a pack table is damaged: its entries do not lie in order")
    return run


def _gaps(span: tuple[int, int], taken: Ranges) -> Iterator[tuple[int, int]]:
    """The parts of `span` that are not taken, in order."""
    position, end = span
    for index in range(max(0, bisect_right(taken, (position, _END)) - 1), len(taken)):
        low, high = taken[index]
        if low >= end:
            break
        if low > position:
            yield position, low
        position = max(position, high)
    if position < end:
        yield position, end


def _absent_bytes(table: PackTable, taken: Ranges) -> int:
    return sum(high - low for low, high in _gaps((table.entry(0).offset, _end(table)), taken))


def _length_of(table: PackTable, runs: Sequence[EntryRun]) -> int:
    return sum(end - start for start, end in (_bytes_of(table, run) for run in runs))


def _bytes_of(table: PackTable, run: EntryRun) -> tuple[int, int]:
    return table.entry(run.first).offset, table.entry(run.last).end


def _end(table: PackTable) -> int:
    return table.entry(len(table) - 1).end
