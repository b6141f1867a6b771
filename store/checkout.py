"""Checkout and pull: the data of tracked files is written over their pointers in the work tree.

Only a file that is, byte for byte, the pointer text that git's index has is touched. The index
learns the new stat, once for all files and also where the work ends early, so that `git status` is
clean and reads nothing.
"""

import logging
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from store.contents import ContentReader
from store.directories import Entry, Kind
from store.errors import PathNotFound, PathRefused, StoreError, is_of_the_remote, leaves_of
from store.git import blob_id
from store.git_index import MODE_EXECUTABLE, IndexedBlob
from store.local_store import LocalStore
from store.materialise import (
    Failure,
    FetchAhead,
    FileItem,
    FileWriter,
    batch_bytes,
)
from store.opening import Reading, WrapRemote, open_reading, unwrapped
from store.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.target_folder import FolderCursor, TargetFolder, load_file
from store.walk import Argument
from store.work_tree import Placing, WorkTreeTarget, WorkTreeWriter
from store.work_tree_files import FILE_MODES, is_small_blob, local_source, take_up

log = logging.getLogger(__name__)


class PointerFile(NamedTuple):
    """A file of the work tree that is the text of a pointer, just as git's index has it."""

    path: bytes
    indexed: IndexedBlob
    pointer: Pointer
    permissions: int


@dataclass(frozen=True, slots=True)
class CheckoutSummary:
    """Files and bytes that were written; files that stay pointers because their data is not here;
    those that could not be written, with the causes; bytes that came from the remote."""

    files: int
    written_bytes: int
    absent: int
    failures: Sequence[Failure]
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class CheckoutPlan:
    """The pointers to write data over, in order of path."""

    local: LocalStore
    work_tree: Path
    files: Sequence[PointerFile]

    @property
    def bytes_to_write(self) -> int:
        """The sizes of all files, whether their data is here or not."""
        return sum(file.pointer.size for file in self.files)

    def execute(
        self, progress: ByteProgress, *, fetch: bool, wrap_remote: WrapRemote = unwrapped
    ) -> CheckoutSummary:
        """Write the files whose data is here; with `fetch`, have the remote send what is not.

        What goes wrong with one file is put to the summary. Raises StoreError for what concerns all
        of them. However it ends, git's index then knows of every file that was written.
        """
        with WorkTreeWriter(self.local.repository, self.work_tree) as writer:
            work = _Checkout(self, writer, progress)
            try:
                trio.run(partial(work.run, fetch=fetch, wrap_remote=wrap_remote))
            except BaseExceptionGroup as group:
                raise next(leaves_of(group)) from group
            finally:
                writer.refresh_index(self.local.open_stat_cache())
        return work.summary()


def plan_checkout(
    local: LocalStore, work_tree: Path, arguments: Sequence[Argument]
) -> CheckoutPlan:
    """Look for pointers at and below `arguments` (none: everywhere) that git's index has; changes
    nothing. Raises PathNotFound for an argument that git's index has nothing of."""
    entries = select_entries(local.repository.index.load_entries(), arguments)
    return CheckoutPlan(local, work_tree, find_pointers(work_tree, entries))


def find_pointers(work_tree: Path, entries: Mapping[bytes, IndexedBlob]) -> list[PointerFile]:
    """Those of these entries of git's index that the work tree has as pointers, by path."""
    tree = TargetFolder(work_tree)
    with closing(tree), closing(FolderCursor(tree)) as cursor:
        found = (_look(cursor, path, entries[path]) for path in sorted(entries))
        return [file for file in found if file is not None]


def select_entries(
    entries: Mapping[bytes, IndexedBlob], arguments: Sequence[Argument]
) -> dict[bytes, IndexedBlob]:
    """The entries at and below the arguments; all where there are none. Raises PathNotFound."""
    if not arguments:
        return dict(entries)
    chosen: dict[bytes, IndexedBlob] = {}
    for argument in arguments:
        folder = argument.path + b"/" if argument.path else b""
        below = {
            path: entry
            for path, entry in entries.items()
            if path == argument.path or path.startswith(folder)
        }
        if not below and argument.path:
            raise PathNotFound(f"{escape_name(argument.path)} is not in git's index")
        chosen |= below
    return chosen


def _look(cursor: FolderCursor, path: bytes, entry: IndexedBlob) -> PointerFile | None:
    """The pointer at a path; None for anything else, and for what cannot be looked at."""
    if entry.skipped or entry.mode not in FILE_MODES:
        return None
    folder, name = os.path.split(path)
    try:
        status = cursor.load_stat(path)
        descriptor = cursor.get_folder(folder)
        if status is None or descriptor is None or not _may_be_pointer(status):
            return None
        text = load_file(descriptor, name, MAX_POINTER_BYTES)
    except (OSError, PathRefused) as error:
        # What lies beyond a link is not git's file, and what cannot be read is left alone.
        log.debug("%s is passed over: %s", escape_name(path), error)
        return None
    pointer = None if text is None else parse_pointer(text)
    if text is None or pointer is None or blob_id(text) != entry.blob:
        return None
    return PointerFile(path, entry, pointer, stat.S_IMODE(status.st_mode))


def _may_be_pointer(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_POINTER_BYTES


class _Checkout:
    """One run: what it has come to so far."""

    def __init__(self, plan: CheckoutPlan, writer: WorkTreeWriter, progress: ByteProgress) -> None:
        self._plan = plan
        self._local = plan.local
        self._writer = writer
        self._progress = progress
        self._absent = 0
        self._failures: list[Failure] = []
        self._wanted: dict[bytes, PointerFile] = {}
        self._fetched_bytes = 0

    def summary(self) -> CheckoutSummary:
        """What was done."""
        failed = {failure.path for failure in self._failures}
        written = [file for path, file in self._wanted.items() if path not in failed]
        return CheckoutSummary(
            files=len(written),
            written_bytes=sum(file.pointer.size for file in written),
            absent=self._absent,
            failures=self._failures,
            fetched_bytes=self._fetched_bytes,
        )

    async def run(self, *, fetch: bool, wrap_remote: WrapRemote) -> None:
        """Do it all, but for git's index."""
        repository = self._local.repository
        commit = repository.resolve("HEAD").commit if repository.head_exists() else None
        async with open_reading(self._local, commit, wrap_remote) as reading:
            with closing(local_source(self._local, reading)) as source:
                here = ContentReader(source)
                await take_up(self._local, self._writer, here)
                files, absent = await _split(self._plan.files, here)
                if fetch:
                    files += await self._known(reading, absent)
                    await self._write(files, reading.contents, reading)
                else:
                    self._absent = len(absent)
                    await self._write(files, here, None)
            if reading.remote is not None:
                self._fetched_bytes = reading.remote.fetcher.fetched_bytes

    async def _known(self, reading: Reading, absent: Sequence[PointerFile]) -> list[PointerFile]:
        """Those of the absent files that are worth asking for, once the remote has said what it
        holds; none where it does not answer."""
        if not absent:
            return []
        try:
            await reading.source.learn_commit()
        except StoreError as error:
            self._failures += [Failure(file.path, _named(file.path, error)) for file in absent]
            return []
        return list(absent)

    async def _write(
        self, files: Sequence[PointerFile], contents: ContentReader, fetching: Reading | None
    ) -> None:
        self._wanted = {file.path: file for file in sorted(files)}
        writer = FileWriter(
            _Guarded(contents),
            self._open_target,
            self._progress,
            ahead_bytes=batch_bytes(self._local.settings.cache_size_bytes),
            ahead=None if fetching is None else FetchAhead(fetching.source),
        )
        try:
            await writer.write(map(_item, self._wanted.values()), go_on=True)
        finally:
            self._failures += writer.failures

    def _open_target(self, item: FileItem) -> WorkTreeTarget:
        file = self._wanted[item.path]
        placing = Placing(
            path=file.path,
            blob=file.indexed.blob,
            mode=file.indexed.mode,
            pointer=file.pointer,
            is_expected=partial(is_small_blob, file.indexed.blob),
            permissions=file.permissions,
        )
        return WorkTreeTarget(self._writer, placing)


class _Guarded:
    """Contents of tracked files; once the remote cannot be used, what is not here is not asked for
    again: each file would wait as long as the first."""

    def __init__(self, contents: ContentReader) -> None:
        self._contents = contents
        self._failed: StoreError | None = None

    async def read(self, entry: Entry, offset: int, size: int) -> bytes:
        """As in store.materialise.Contents."""
        if self._failed is not None and not await self._contents.is_here(entry.pointer):
            raise self._failed
        try:
            return await self._contents.read(entry.pointer, offset, size)
        except StoreError as error:
            if is_of_the_remote(error):
                self._failed = error
            raise


async def _split(
    files: Sequence[PointerFile], here: ContentReader
) -> tuple[list[PointerFile], list[PointerFile]]:
    """The files whose data is here, and the others."""
    present: list[PointerFile] = []
    absent: list[PointerFile] = []
    for file in files:
        (present if await here.is_here(file.pointer) else absent).append(file)
    return present, absent


def _item(file: PointerFile) -> FileItem:
    kind = Kind.TRACKED_EXECUTABLE if file.indexed.mode == MODE_EXECUTABLE else Kind.TRACKED
    pointer = file.pointer
    name = os.path.basename(file.path)
    return FileItem(file.path, Entry(name, kind, pointer.size, pointer.chunks, pointer.content))


def _named(path: bytes, error: StoreError) -> StoreError:
    return StoreError(f"{escape_name(path)}: {error}")
