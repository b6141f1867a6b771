"""What to fetch so that files are here: from chunks to runs of packs, in few requests. Plain
functions that read the cache index; nothing is fetched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from store import byte_ranges
from store.cache_rows import PackPlace
from store.chunk_source import ChunkSource
from store.fetch import entry_number
from store.fetch_plan import MOST_RUN_BYTES, EntryRun
from store.fetch_schedule import TableSource
from store.ids import ChunkId, PackName
from store.pack_cache import PackCache
from store.packs import PackTable

# To fetch so much that nobody asked for costs less than another request.
_GAP_BYTES = 256 << 10
# Of an order of all files the rest is wanted later; of one of few it would be for nothing.
_MOST_EXTRA = 4


class Wanted(NamedTuple):
    """A chunk that is wanted here: `raw_bytes` of the file at `path`, which stands at `place` among
    all those that are."""

    place: int
    path: bytes
    chunk: ChunkId
    raw_bytes: int


class WarmRun(NamedTuple):
    """Entries of a pack, `stored_bytes` of them in all, and the chunks for the sake of which they
    are to come."""

    pack: PackName
    entries: EntryRun
    stored_bytes: int
    wanted: Sequence[Wanted]


@dataclass(slots=True)
class WarmStep:
    """What to do for the first `taken` of the chunks that were wanted.

    Of these `here` are here; `unknown` are those that no table knows; `runs` bring the others.
    `costs` has for each place how many bytes are fetched for it. `held_bytes` are what the cache
    has or will have of all of them, as stored. `first_left_bytes` is what the first chunk that was
    not taken would cost.
    """

    taken: int = 0
    here: list[Wanted] = field(default_factory=list)
    unknown: list[Wanted] = field(default_factory=list)
    runs: list[WarmRun] = field(default_factory=list)
    costs: dict[int, int] = field(default_factory=dict)
    held_bytes: int = 0
    first_left_bytes: int = 0


class WarmPlanner:
    """Plans steps, from any thread."""

    def __init__(self, source: ChunkSource, cache: PackCache, tables: TableSource) -> None:
        self._source = source
        self._cache = cache
        self._tables = tables

    def plan(self, wanted: Sequence[Wanted], most_bytes: int) -> WarmStep:
        """What to fetch of these, in their order, up to so many bytes."""
        step = WarmStep()
        packs: dict[PackName, _Pack] = {}
        needed_bytes = 0
        for chunk in wanted:
            located = self._source.locate(chunk.chunk)
            if located is None or not located.cached:
                (step.unknown if located is None else step.here).append(chunk)
            else:
                pack = self._pack(packs, located.place.pack)
                cost_bytes = pack.cost_of(located.place)
                if needed_bytes + cost_bytes > most_bytes:
                    step.first_left_bytes = cost_bytes
                    break
                needed_bytes += cost_bytes
                pack.take(located.place, chunk, step)
            step.taken += 1
        self._add_runs(step, packs, most_bytes - needed_bytes)
        return step

    def _pack(self, packs: dict[PackName, "_Pack"], name: PackName) -> "_Pack":
        if name not in packs:
            table = self._tables.get_pack_table(name)
            packs[name] = _Pack(name, table, self._cache.load_ranges(name))
        return packs[name]

    def _add_runs(self, step: WarmStep, packs: dict[PackName, "_Pack"], spare_bytes: int) -> None:
        """The runs for what the packs lack. What lies in short gaps comes along where it is not
        too much; it is counted for the last place."""
        needed_bytes = sum(step.costs.values())
        most_extra_bytes = min(spare_bytes, _MOST_EXTRA * needed_bytes)
        for gap_bytes in (_GAP_BYTES, 0):
            step.runs = [run for pack in packs.values() for run in pack.runs(gap_bytes)]
            extra_bytes = sum(run.stored_bytes for run in step.runs) - needed_bytes
            if extra_bytes <= most_extra_bytes:
                break
        if extra_bytes:
            step.costs[max(step.costs)] += extra_bytes


class _Pack:
    """One pack in a plan: what is here of it, and which absent entries are wanted for what."""

    def __init__(
        self, name: PackName, table: PackTable | None, cached: list[tuple[int, int]]
    ) -> None:
        self._name = name
        self._table = table
        self._cached = cached
        self._absent: dict[int, list[Wanted]] = {}
        # The place that was looked for last, and its number.
        self._found: tuple[PackPlace, int | None] | None = None

    def cost_of(self, place: PackPlace) -> int:
        """How many bytes must be fetched for that place; 0 for one that is here or to come."""
        entry = place.entry
        if byte_ranges.covered_by(self._cached, entry.offset, entry.end):
            return 0
        number = self._number_of(place)
        return 0 if number is None or number in self._absent else entry.stored_length

    def take(self, place: PackPlace, chunk: Wanted, step: WarmStep) -> None:
        """Have that place fetched for the chunk, unless it is here."""
        entry = place.entry
        if byte_ranges.covered_by(self._cached, entry.offset, entry.end):
            step.held_bytes += entry.stored_length
            step.here.append(chunk)
            return
        number = self._number_of(place)
        if number is None:
            step.unknown.append(chunk)
        elif number in self._absent:
            self._absent[number].append(chunk)
        else:
            self._absent[number] = [chunk]
            step.held_bytes += entry.stored_length
            step.costs[chunk.place] = step.costs.get(chunk.place, 0) + entry.stored_length

    def runs(self, gap_bytes: int) -> Iterator[WarmRun]:
        """The absent entries in runs, with what lies in gaps of up to `gap_bytes` between them."""
        table = self._table
        if table is None:
            return
        run: list[int] = []
        for number in sorted(self._absent):
            if run:
                end = table.entry(number).end
                gap = table.entry(number).offset - table.entry(run[-1]).end
                if gap > gap_bytes or end - table.entry(run[0]).offset > MOST_RUN_BYTES:
                    yield self._run(table, run)
                    run = []
            run.append(number)
        if run:
            yield self._run(table, run)

    def _run(self, table: PackTable, numbers: Sequence[int]) -> WarmRun:
        first, last = numbers[0], numbers[-1]
        start, end = table.entry(first).offset, table.entry(last).end
        here = (min(high, end) - max(low, start) for low, high in self._cached)
        stored_bytes = end - start - sum(length for length in here if length > 0)
        wanted = [chunk for number in numbers for chunk in self._absent[number]]
        return WarmRun(self._name, EntryRun(first, last), stored_bytes, wanted)

    def _number_of(self, place: PackPlace) -> int | None:
        """The number of a place in the table; most often that behind the one before."""
        if self._found is None or self._found[0] != place:
            self._found = place, self._find(place)
        return self._found[1]

    def _find(self, place: PackPlace) -> int | None:
        table = self._table
        before = None if self._found is None else self._found[1]
        following = -1 if table is None or before is None else before + 1
        if (
            table is not None
            and 0 < following < len(table)
            and table.entry(following) == place.entry
        ):
            return following
        return entry_number(table, place)
