"""Fetching on command: the data of a revision comes into the cache.

What is not here is got in runs of up to 8 MiB along each pack, whatever files it belongs to; what
is still not here after that is asked for file by file, so that an error names the file.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from store import byte_ranges
from store.cache_rows import PackPlace, PackUse
from store.concurrency import GIT_READS, run_all
from store.directories import FOLDER_KINDS, TRACKED_KINDS
from store.errors import ConfigError, LocalDiskFull, StoreError, is_of_the_remote
from store.fetch import entry_number
from store.fetch_plan import EntryRun, absent_runs, merged
from store.git import Revision
from store.ids import ChunkId, PackName
from store.local_store import LocalStore
from store.materialise import Failure, walk_files
from store.opening import Reading, RemoteParts, WrapRemote, open_reading, unwrapped
from store.pack_cache import DiskState, plan_eviction
from store.pack_tables import PackTables
from store.packs import PackTable
from store.paths import load_path
from store.pointer import Pointer
from store.progress import ByteProgress
from store.shown_names import escape_name

log = logging.getLogger(__name__)

# As many as the fetcher starts ahead of readers.
_RUNS_AT_ONCE = 6
# To fetch so much that nobody asked for costs less than another request.
_GAP_BYTES = 256 << 10
_PIECE_BYTES = 4 << 20
_OURS = PackName("")


@dataclass(frozen=True, slots=True)
class FetchSummary:
    """Tracked files of the revision and their size; of their content, how many bytes were here
    before; bytes that came from the remote; files that could not be fetched. `in_place` says that
    the remote is a folder, of which nothing is copied."""

    files: int
    total_bytes: int
    here_bytes: int
    fetched_bytes: int
    in_place: bool
    failures: Sequence[Failure]


@dataclass(slots=True)
class _Files:
    """The tracked files that are wanted: each content once, with the first path that it has."""

    count: int = 0
    total_bytes: int = 0
    contents: dict[ChunkId, tuple[bytes, Pointer]] = field(default_factory=dict)


@dataclass(slots=True)
class _Needs:
    """What has to come: runs of packs, bytes in them; bytes of chunks that are here already, and of
    what the cache has of the packs that matter."""

    runs: list[tuple[PackName, EntryRun]] = field(default_factory=list)
    wanted_bytes: int = 0
    here_bytes: int = 0
    cached_bytes: int = 0


def plan_runs(
    table: PackTable, wanted: Iterable[int], is_here: Callable[[int], bool]
) -> list[EntryRun]:
    """Runs of a pack's entries that bring those `wanted` which are not here; what lies in a short
    gap between two of them comes along. Pure."""
    spans: list[tuple[int, int]] = []
    for number in sorted(number for number in wanted if not is_here(number)):
        if spans and table.entry(number).offset - table.entry(spans[-1][1]).end <= _GAP_BYTES:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    runs: list[EntryRun] = []
    for first, last in spans:
        between = map(table.entry, filter(is_here, range(first, last + 1)))
        here = merged([(entry.offset, entry.end) for entry in between])
        span = table.entry(first).offset, table.entry(last).end
        runs += absent_runs(table, span, here, table.pack_size)
    return runs


async def fetch_contents(
    local: LocalStore,
    revision: Revision,
    paths: Sequence[bytes],
    progress_to: Callable[[int], ByteProgress],
    wrap_remote: WrapRemote = unwrapped,
) -> FetchSummary:
    """Bring the data at and below `paths` of a revision (none: all of it) into the cache.

    `progress_to` is told how many bytes will come. What is wrong with one file is put to the
    summary. Raises PathNotFound, ConfigError where there is no remote or the cache may not hold so
    much, and RemoteError.
    """
    remote = local.settings.remote
    if remote is None:
        raise ConfigError("there is no remote yet: `revfs remote add -d NAME URL` makes one")
    find = partial(_find_files, local, revision, paths)
    files = await trio.to_thread.run_sync(find, limiter=GIT_READS)
    async with open_reading(local, revision.commit, wrap_remote) as reading:
        assert reading.remote is not None
        work = _Fetch(local, reading, reading.remote)
        await reading.source.learn_commit()
        here_bytes = await work.fetch_all(files, progress_to)
        failures = await work.fetch_rest(files)
        return FetchSummary(
            files=files.count,
            total_bytes=files.total_bytes,
            here_bytes=here_bytes,
            fetched_bytes=reading.remote.fetcher.fetched_bytes,
            in_place=remote.folder is not None,
            failures=failures,
        )


def _find_files(local: LocalStore, revision: Revision, paths: Sequence[bytes]) -> _Files:
    files = _Files()
    for path in paths or (b"",):
        found = load_path(local.directories, revision.tree, path)
        above = [found.path] if found.path and found.entry.kind in FOLDER_KINDS else []
        for item in walk_files(local.directories, found):
            if item.entry.kind in TRACKED_KINDS:
                pointer = item.entry.pointer
                files.count += 1
                files.total_bytes += pointer.size
                if pointer.content not in files.contents:
                    named = found.path if not above and found.path else item.path
                    files.contents[pointer.content] = (b"/".join([*above, named]), pointer)
    return files


class _Fetch:
    """One fetch from one remote."""

    def __init__(self, local: LocalStore, reading: Reading, remote: RemoteParts) -> None:
        self._local = local
        self._reading = reading
        self._fetcher = remote.fetcher
        self._tables = PackTables(local.index, remote.catalog)

    async def fetch_all(self, files: _Files, progress_to: Callable[[int], ByteProgress]) -> int:
        """Bring what is known to be in the remote, chunk lists first; how many bytes of the files'
        content were here before."""
        pointers = [pointer for _, pointer in files.contents.values()]
        lists = self._needs(pointer.content for pointer in pointers if pointer.chunks > 1)
        self._require_room(lists)
        await self._bring(lists, None)
        chunks: dict[ChunkId, None] = {}
        for pointer in pointers:
            chunks.update(dict.fromkeys(await self._chunks_of(pointer)))
        needs = self._needs(chunks)
        self._require_room(needs)
        await self._bring(needs, progress_to(needs.wanted_bytes))
        return needs.here_bytes

    async def fetch_rest(self, files: _Files) -> list[Failure]:
        """Ask for what is not here by itself. Raises StoreError where the remote does not answer,
        and gives what is wrong with one file."""
        failures = []
        contents = self._reading.contents
        for path, pointer in files.contents.values():
            if await contents.is_here(pointer):
                continue
            try:
                for offset in range(0, pointer.size, _PIECE_BYTES):
                    await contents.read(pointer, offset, _PIECE_BYTES)
                if not await contents.is_here(pointer):
                    raise StoreError("it was fetched, but there is no room to keep it in the cache")
            except StoreError as error:
                if is_of_the_remote(error):
                    raise
                failures.append(Failure(path, StoreError(f"{escape_name(path)}: {error}")))
        return failures

    async def _chunks_of(self, pointer: Pointer) -> Iterator[ChunkId]:
        if pointer.chunks == 1:
            return iter((pointer.content,))
        try:
            chunks = await self._reading.contents.read_chunk_list(pointer)
        except StoreError as error:
            if is_of_the_remote(error):
                raise
            # It is asked for again, and then with its path.
            log.debug("a chunk list cannot be had: %s", error)
            return iter(())
        return (chunks.span(number).chunk for number in range(len(chunks)))

    def _needs(self, chunks: Iterable[ChunkId]) -> _Needs:
        needs = _Needs()
        wanted: dict[PackName, list[int]] = {}
        for chunk in chunks:
            located = self._reading.source.locate(chunk)
            if located is None:
                continue
            number = entry_number(self._tables.get_pack_table(located.place.pack), located.place)
            if not located.cached:
                needs.here_bytes += located.place.entry.raw_length
            elif number is not None:
                wanted.setdefault(located.place.pack, []).append(number)
        for pack, numbers in wanted.items():
            self._add_pack(needs, pack, numbers)
        return needs

    def _add_pack(self, needs: _Needs, pack: PackName, numbers: Sequence[int]) -> None:
        table = self._tables.get_pack_table(pack)
        if table is None:
            return
        cached = self._local.cache.load_ranges(pack)
        needs.cached_bytes += sum(end - start for start, end in cached)

        def is_here(number: int) -> bool:
            entry = table.entry(number)
            return byte_ranges.covered_by(cached, entry.offset, entry.end)

        needs.here_bytes += sum(table.entry(n).raw_length for n in numbers if is_here(n))
        for run in plan_runs(table, numbers, is_here):
            needs.runs.append((pack, run))
            needs.wanted_bytes += _run_bytes(table, run)

    def _require_room(self, needs: _Needs) -> None:
        """Raise unless the cache can hold all of it at once: what is fetched must not push out what
        was fetched before it."""
        budget_bytes = self._local.settings.cache_size_bytes
        ours = needs.cached_bytes + needs.wanted_bytes
        others = sum(use.cached_bytes for use in self._local.index.load_uses())
        now = int(time.time())
        uses = [
            PackUse(PackName("others"), 0, max(0, others - needs.cached_bytes)),
            PackUse(_OURS, now, ours),
        ]
        disk = self._disk(needs.wanted_bytes)
        if needs.runs and any(use.pack == _OURS for use in plan_eviction(uses, budget_bytes, disk)):
            raise _no_room(ours, budget_bytes, str(self._local.settings.cache_directory))

    def _disk(self, wanted_bytes: int) -> DiskState:
        status = os.statvfs(self._local.settings.cache_directory)
        free = status.f_bavail * status.f_frsize
        return DiskState(status.f_blocks * status.f_frsize, free - wanted_bytes)

    async def _bring(self, needs: _Needs, progress: ByteProgress | None) -> None:
        calls = [partial(self._bring_run, pack, run, progress) for pack, run in needs.runs]
        await run_all(calls, at_once=_RUNS_AT_ONCE)

    async def _bring_run(
        self, pack: PackName, run: EntryRun, progress: ByteProgress | None
    ) -> None:
        table = self._tables.get_pack_table(pack)
        if table is None:
            return
        if not self._local.cache.can_keep():
            raise LocalDiskFull(
                f"the cache in {self._local.settings.cache_directory} cannot be written; make room"
            )
        places = [PackPlace(pack, table.entry(n)) for n in range(run.first, run.last + 1)]
        try:
            await self._fetcher.warm(places)
        except StoreError as error:
            if is_of_the_remote(error):
                raise
            log.debug("a run of pack %s is asked for chunk by chunk: %s", pack, error)
        if progress is not None:
            progress.advance(_run_bytes(table, run))


def _run_bytes(table: PackTable, run: EntryRun) -> int:
    return table.entry(run.last).end - table.entry(run.first).offset


def _no_room(needed_bytes: int, budget_bytes: int | None, folder: str) -> StoreError:
    if budget_bytes is not None:
        return ConfigError(
            f"the data takes {needed_bytes:,} bytes in the cache, which may hold {budget_bytes:,} "
            "(cache.size): raise that, or name fewer paths; nothing was fetched"
        )
    return LocalDiskFull(
        f"the data takes {needed_bytes:,} bytes in the cache, for which the disk of {folder} has "
        "no room (a tenth of it stays free): make room, or name fewer paths; nothing was fetched"
    )
