"""Warming: files come into the cache on command, after whatever anybody waits for.

Either all files of a list, or those of an order a bounded number of bytes ahead of whoever reads
them. Files are looked up, planned and fetched some thousand at a time, so a million of them take no
more memory than that; while one step is fetched the next is planned.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import NamedTuple

import trio

from store.cache_rows import PackPlace
from store.concurrency import DISK_READS, GIT_READS, run_all
from store.contents import ContentReader
from store.errors import (
    ChunkMissing,
    ConfigError,
    LocalDiskFull,
    StoreError,
    is_of_the_remote,
)
from store.fetch import Fetcher
from store.fetch_schedule import TableSource
from store.ids import ChunkId
from store.order_window import OrderWindow
from store.pointer import Pointer
from store.warm_lane import WarmLane, WarmState
from store.warm_plan import Wanted, WarmPlanner, WarmRun, WarmStep

log = logging.getLogger(__name__)

# Enough for chunks from all over many packs to be neighbours in them; some megabytes of memory.
_FILES_AT_ONCE = 16_384
_CHUNKS_AT_ONCE = 16_384
_RUNS_AT_ONCE = 8
_NO_LIMIT = 1 << 62


class WarmFile(NamedTuple):
    """A tracked file that is wanted: its path from the top of the mount, and its pointer."""

    path: bytes
    pointer: Pointer


PlacedFiles = Sequence[tuple[int, WarmFile]]
"""Files, each with its place among all that are wanted."""


class Moved:
    """Wakes whoever waits for a window to move. Belongs to one trio loop."""

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits."""
        return self._event.statistics().tasks_waiting > 0

    def tell(self) -> None:
        """It has moved."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return when it moves the next time."""
        await self._event.wait()


class Order(NamedTuple):
    """`length` files in the order in which they will be read. `load` gives so many from a place on,
    in a thread, without those that are not tracked; `window` says how far to go."""

    length: int
    load: Callable[[int, int], PlacedFiles]
    window: OrderWindow
    moved: Moved


class Warmer:
    """Warms from one remote. Belongs to one trio loop; any number of warmings may go on at once."""

    def __init__(
        self,
        planner: WarmPlanner,
        contents: ContentReader,
        fetcher: Fetcher,
        tables: TableSource,
        learn: Callable[[], Awaitable[object]],
    ) -> None:
        """`learn` asks the remote what it holds, where a file is wanted that no table knows."""
        self._planner = planner
        self._contents = contents
        self._fetcher = fetcher
        self._tables = tables
        self._learn = learn

    async def warm(
        self, files: Callable[[], Iterator[WarmFile]], most_bytes: int, state: WarmState
    ) -> None:
        """Bring all files that `files` gives; it is called twice, and its steps run in a thread.

        What goes wrong is put to `state`. With the remote or the disk in trouble all ends, and so
        it does as soon as more than `most_bytes` of the cache are taken.
        """
        lane = WarmLane(self._bring, state)
        async with lane.open():
            await _count(files(), state)
            to_bring = files()
            while batch := await _load_next(to_bring):
                async with aclosing(self._wanted(list(enumerate(batch)), lane)) as parts:
                    async for wanted in parts:
                        step = await self._plan(wanted, _NO_LIMIT, lane)
                        if state.held_bytes > most_bytes:
                            raise no_room(most_bytes)
                        await lane.add(step)

    async def follow(self, order: Order, state: WarmState) -> None:
        """Bring the files of an order, as far ahead as its window allows, until all of them are
        here or were passed by. What goes wrong is put to `state`; with the remote or the disk in
        trouble it rests a while, and goes on."""
        window = order.window
        lane = WarmLane(self._bring, state, patient=True)
        async with lane.open():
            while (first := window.planned) < order.length:
                end = min(first + _FILES_AT_ONCE, order.length)
                load = partial(order.load, first, end - first)
                files = await trio.to_thread.run_sync(load, limiter=GIT_READS)
                async with aclosing(self._wanted(files, lane, window)) as parts:
                    async for wanted in parts:
                        await self._follow(wanted, order, lane, is_last=end == order.length)
                window.note_planned(end)

    async def _follow(
        self, wanted: list[Wanted], order: Order, lane: WarmLane, *, is_last: bool
    ) -> None:
        window = order.window
        least_bytes = 0
        while wanted:
            left_bytes = sum(chunk.raw_bytes for chunk in wanted) if is_last else _NO_LIMIT
            while (step_bytes := window.next_step_bytes(least_bytes, left_bytes)) is None:
                await order.moved.wait()
            # Who reads them already brings them himself.
            wanted = [chunk for chunk in wanted if chunk.place >= window.position]
            step = await self._plan(wanted, step_bytes, lane)
            for place, byte_count in sorted(step.costs.items()):
                window.note_fetched(place, byte_count)
            least_bytes = 0 if step.taken else step.first_left_bytes
            del wanted[: step.taken]
            if least_bytes > window.most_bytes:
                # A chunk that is more than may be ahead: its reader brings it.
                del wanted[0]
                least_bytes = 0
            if wanted:
                window.note_planned(wanted[0].place)
            await lane.add(step)

    async def _wanted(
        self, files: PlacedFiles, lane: WarmLane, window: OrderWindow | None = None
    ) -> AsyncGenerator[list[Wanted], None]:
        """The chunks of files, in order, some thousand at a time."""
        await self._bring_lists(files, lane, window)
        batch: list[Wanted] = []
        for place, file in files:
            for chunk, length in await self._chunks_of(file, lane):
                batch.append(Wanted(place, file.path, chunk, length))
                if len(batch) == _CHUNKS_AT_ONCE:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _bring_lists(
        self, files: PlacedFiles, lane: WarmLane, window: OrderWindow | None
    ) -> None:
        """Bring the chunk lists of those that have one, all at once."""
        lists = [
            Wanted(place, file.path, file.pointer.content, 0)
            for place, file in files
            if file.pointer.chunks > 1
        ]
        if not lists:
            return
        step = await self._plan(lists, _NO_LIMIT, lane)
        if window is not None and step.costs:
            window.note_fetched(lists[0].place, sum(step.costs.values()))
        await self._bring(step, lane)

    async def _chunks_of(self, file: WarmFile, lane: WarmLane) -> Iterable[tuple[ChunkId, int]]:
        pointer = file.pointer
        if pointer.chunks == 1:
            return ((pointer.content, pointer.size),)
        try:
            chunks = await self._contents.read_chunk_list(pointer)
        except StoreError as error:
            self._note(error, [file.path], lane)
            return ()
        spans = map(chunks.span, range(len(chunks)))
        return ((span.chunk, span.length) for span in spans)

    async def _plan(self, wanted: Sequence[Wanted], most_bytes: int, lane: WarmLane) -> WarmStep:
        plan = partial(self._planner.plan, wanted, most_bytes)
        step = await trio.to_thread.run_sync(plan, limiter=DISK_READS)
        if step.unknown and lane.may_learn:
            lane.may_learn = False
            try:
                await self._learn()
            except StoreError as error:
                self._note(error, [step.unknown[0].path], lane)
            step = await trio.to_thread.run_sync(plan, limiter=DISK_READS)
        missing = ChunkMissing("its data is neither here nor in the remote")
        lane.state.note_failure((chunk.path for chunk in step.unknown), missing)
        lane.state.done_bytes += sum(chunk.raw_bytes for chunk in step.here)
        lane.state.held_bytes += step.held_bytes
        return step

    async def _bring(self, step: WarmStep, lane: WarmLane) -> None:
        """Fetch a step, and say what became of it."""
        try:
            calls = (partial(self._bring_run, run, lane) for run in step.runs)
            await run_all(calls, at_once=_RUNS_AT_ONCE)
        except StoreError as error:
            if lane.is_patient:
                paths = (chunk.path for run in step.runs for chunk in run.wanted)
                lane.state.note_failure(paths, error)
            lane.meet_trouble(error)

    async def _bring_run(self, run: WarmRun, lane: WarmLane) -> None:
        table = self._tables.get_pack_table(run.pack)
        if table is None:
            return
        numbers = range(run.entries.first, run.entries.last + 1)
        try:
            await self._fetcher.warm([PackPlace(run.pack, table.entry(n)) for n in numbers])
        except StoreError as error:
            if _is_trouble(error):
                raise
            lane.state.note_failure((chunk.path for chunk in run.wanted), error)
        else:
            lane.state.fetched_bytes += run.stored_bytes
            lane.state.done_bytes += sum(chunk.raw_bytes for chunk in run.wanted)

    def _note(self, error: StoreError, paths: Iterable[bytes], lane: WarmLane) -> None:
        if not _is_trouble(error) or lane.is_patient:
            lane.state.note_failure(paths, error)
        if _is_trouble(error):
            lane.meet_trouble(error)


def _is_trouble(error: StoreError) -> bool:
    """Whether the next file will fare no better."""
    return isinstance(error, LocalDiskFull) or is_of_the_remote(error)


async def _count(files: Iterator[WarmFile], state: WarmState) -> None:
    total_bytes = 0
    while batch := await _load_next(files):
        state.files += len(batch)
        total_bytes += sum(file.pointer.size for file in batch)
    state.wanted_bytes = total_bytes


async def _load_next(files: Iterator[WarmFile]) -> list[WarmFile]:
    """The next thousands of them; none at the end."""

    def load() -> list[WarmFile]:
        return list(islice(files, _FILES_AT_ONCE))

    return await trio.to_thread.run_sync(load, limiter=GIT_READS)


def no_room(most_bytes: int) -> StoreError:
    """Why what was asked for is not warmed, or not any further."""
    return ConfigError(
        f"the cache may hold {most_bytes:,} bytes in all, which is too little for this: name fewer "
        "files, follow an order, or make room (cache.size, or the tenth of its disk that stays "
        "free)"
    )
