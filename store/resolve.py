"""Resolve: a conflict over data files ends with the one side or the other.

Git keeps both sides in its index: stage 2 is "ours", stage 3 "theirs", in a merge as in a rebase
what git itself means by these words. The chosen side goes to the work tree (its data if that is
here, else its pointer) and becomes the entry of the index; a side that deleted the file deletes it.
"""

import logging
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from store.contents import ContentReader
from store.directories import GIT_ID_BYTES, Entry, Kind
from store.errors import PathNotFound, PathRefused, StoreError, leaves_of
from store.git import blob_id
from store.git_index import IndexedBlob
from store.local_store import LocalStore
from store.materialise import FileContents, FileItem, FileWriter, named
from store.opening import open_reading
from store.plain_files import PlainFiles
from store.pointer import Pointer
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.stat_cache import same_file_state
from store.target_folder import TargetFolder, load_file, load_stat
from store.walk import Argument
from store.work_tree import Placing, WorkTreeTarget, WorkTreeWriter
from store.work_tree_files import (
    FILE_MODES,
    holding_stat,
    is_small_blob,
    load_pointer,
    local_source,
    take_up,
)

log = logging.getLogger(__name__)


class Side(IntEnum):
    """A side of a conflict; the value is its stage in git's index."""

    OURS = 2
    THEIRS = 3


class _Version(NamedTuple):
    """What one side has: git's blob and mode, and the pointer, if the blob is one."""

    indexed: IndexedBlob
    pointer: Pointer | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """A data file in conflict: what each side has (by stage; one that deleted it is not there)."""

    path: bytes
    versions: Mapping[int, _Version]


@dataclass(frozen=True, slots=True)
class ResolveSummary:
    """Files that were written with their data, those that were left as pointers because it is not
    here, those that were removed; and files in conflict that are git's own to resolve."""

    written: int
    pointers: int
    removed: int
    left_to_git: int


@dataclass(frozen=True, slots=True)
class ResolvePlan:
    """The conflicts to end, in order of path, and the side that wins."""

    local: LocalStore
    work_tree: Path
    side: Side
    conflicts: Sequence[Conflict]
    left_to_git: int

    def execute(self, progress: ByteProgress, *, force: bool) -> ResolveSummary:
        """Do it. Raises PathRefused, nothing then being changed, for a file of the work tree that
        is neither side's, unless `force`; StoreError for one that cannot be written."""
        with WorkTreeWriter(self.local.repository, self.work_tree) as writer:
            work = _Resolving(self, writer, progress)
            try:
                trio.run(partial(work.run, force=force))
            except BaseExceptionGroup as group:
                raise next(leaves_of(group)) from group
            finally:
                writer.stage(work.removed, self.local.open_stat_cache())
        return work.summary()


def plan_resolve(
    local: LocalStore, work_tree: Path, arguments: Sequence[Argument], side: Side
) -> ResolvePlan:
    """Look for data files in conflict at and below `arguments`; changes nothing.

    Raises PathRefused for an argument that is not in conflict, or only over files that git keeps.
    """
    found = local.repository.index.load_conflicts()
    chosen: dict[bytes, Conflict] = {}
    plain: set[bytes] = set()
    for argument in arguments:
        paths = [path for path in found if _is_below(path, argument.path)]
        conflicts = [_conflict(local, path, found[path]) for path in paths]
        data = {conflict.path: conflict for conflict in conflicts if _is_data(conflict)}
        if not paths:
            raise PathRefused(f"{escape_name(argument.path) or '.'} is not in conflict")
        if not data:
            raise PathRefused(_is_gits_own(argument, conflicts[0], side))
        chosen |= data
        plain |= set(paths) - data.keys()
    return ResolvePlan(
        local=local,
        work_tree=work_tree,
        side=side,
        conflicts=[chosen[path] for path in sorted(chosen)],
        left_to_git=len(plain),
    )


def _is_below(path: bytes, place: bytes) -> bool:
    return not place or path == place or path.startswith(place + b"/")


def _conflict(local: LocalStore, path: bytes, stages: dict[int, IndexedBlob]) -> Conflict:
    versions = {
        stage: _Version(indexed, load_pointer(local.repository, indexed))
        for stage, indexed in stages.items()
    }
    return Conflict(path, versions)


def _is_data(conflict: Conflict) -> bool:
    """Whether a side has data, and none a thing that is no file. Where both have nothing, as when
    each gave the file another name, what they began with tells."""
    sides = [conflict.versions[side] for side in Side if side in conflict.versions]
    sides = sides or list(conflict.versions.values())
    return any(version.pointer is not None for version in sides) and all(
        version.indexed.mode in FILE_MODES for version in sides
    )


def _is_gits_own(argument: Argument, conflict: Conflict, side: Side) -> str:
    shown = escape_name(argument.path) or "."
    name = escape_name(conflict.path)
    end = f"git checkout --{side.name.lower()} {name} and git add {name} end it"
    if side not in conflict.versions:
        end = f"git rm {name} ends it"
    return f"{shown} is in conflict, but not over data: {end}"


class _Resolving:
    """One run: what it has come to so far."""

    def __init__(self, plan: ResolvePlan, writer: WorkTreeWriter, progress: ByteProgress) -> None:
        self._plan = plan
        self._local = plan.local
        self._writer = writer
        self._progress = progress
        self._written = 0
        self._pointers = 0
        # By path: the version that wins, where that is a file, and what the work tree had.
        self._chosen = {
            conflict.path: conflict.versions[plan.side]
            for conflict in plan.conflicts
            if plan.side in conflict.versions
        }
        self._before: dict[bytes, os.stat_result | None] = {}
        # Files that are gone from the work tree, and are to go from the index.
        self.removed: list[bytes] = []

    def summary(self) -> ResolveSummary:
        """What was done."""
        return ResolveSummary(
            written=self._written,
            pointers=self._pointers,
            removed=len(self.removed),
            left_to_git=self._plan.left_to_git,
        )

    async def run(self, *, force: bool) -> None:
        """Do it all, but for git's index."""
        async with open_reading(self._local, None) as reading:
            with closing(local_source(self._local, reading)) as source:
                contents = ContentReader(source)
                await take_up(self._local, self._writer, contents)
                for conflict in self._plan.conflicts:
                    self._before[conflict.path] = await self._look(conflict, contents, force)
                for conflict in self._plan.conflicts:
                    if self._plan.side not in conflict.versions:
                        self._remove(conflict.path)
                await self._write(contents)

    async def _look(
        self, conflict: Conflict, contents: ContentReader, force: bool
    ) -> os.stat_result | None:
        """The stat of the file that the work tree has, None for none. Raises PathRefused for one
        that holds what no side has."""
        shown = escape_name(conflict.path)
        try:
            status, is_a_sides = await _examine(self._writer.tree, conflict, contents)
        except OSError as error:
            raise PathNotFound(f"{shown} cannot be read: {error.strerror}") from error
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise PathRefused(f"{shown} is a folder in the work tree; move it away")
        if not (is_a_sides or force):
            raise PathRefused(
                f"{shown} was edited since: it is neither side's version; nothing was changed "
                "(--force replaces it)"
            )
        return status

    def _remove(self, path: bytes) -> None:
        folder, name = os.path.split(path)
        try:
            with self._writer.tree.opened(folder) as above:
                if not _is_as_before(self._before[path], above, name):
                    raise PathRefused(f"{escape_name(path)} was changed meanwhile")
                os.unlink(name, dir_fd=above)
        except FileNotFoundError:
            log.debug("%s is gone already", escape_name(path))
        except OSError as error:
            raise named(path, error) from error
        self.removed.append(path)
        self._remove_empty_folders(folder)

    def _remove_empty_folders(self, folder: bytes) -> None:
        # As git does when it removes the last file of a folder.
        with suppress(OSError, PathRefused):
            while folder:
                above, name = os.path.split(folder)
                with self._writer.tree.opened(above) as descriptor:
                    os.rmdir(name, dir_fd=descriptor)
                folder = above

    async def _write(self, contents: ContentReader) -> None:
        items = []
        for conflict in self._plan.conflicts:
            version = conflict.versions.get(self._plan.side)
            if version is not None:
                items.append(await self._item(conflict.path, version, contents))
        plain = PlainFiles(self._local.repository, self._local.settings.cache_directory)
        writer = FileWriter(FileContents(contents, plain), self._open_target, self._progress)
        await writer.write(iter(items))

    async def _item(self, path: bytes, version: _Version, contents: ContentReader) -> FileItem:
        """The file to write: data that is here, else what git keeps, which may be a pointer."""
        pointer, blob = version.pointer, version.indexed.blob
        name = os.path.basename(path)
        if pointer is not None and await contents.is_here(pointer):
            self._written += 1
            entry = Entry(name, Kind.TRACKED, pointer.size, pointer.chunks, pointer.content)
            return FileItem(path, entry)
        self._written += pointer is None
        self._pointers += pointer is not None
        raw_id = blob + bytes(32 - GIT_ID_BYTES)
        size = self._local.repository.load_blob_size(blob)
        return FileItem(path, Entry(name, Kind.PLAIN, size, 0, raw_id))

    def _open_target(self, item: FileItem) -> WorkTreeTarget:
        indexed, pointer = self._chosen[item.path]
        placing = Placing(
            path=item.path,
            blob=indexed.blob,
            mode=indexed.mode,
            pointer=pointer if item.entry.kind == Kind.TRACKED else None,
            is_expected=partial(_is_as_before, self._before[item.path]),
            make_folder=True,
        )
        return WorkTreeTarget(self._writer, placing)


def _is_as_before(before: os.stat_result | None, folder: int, name: bytes) -> bool:
    """Whether a name in an open folder is what was looked at."""
    now = load_stat(folder, name)
    if now is None or before is None:
        return now is None and before is None
    return same_file_state(before, now)


async def _examine(
    tree: TargetFolder, conflict: Conflict, contents: ContentReader
) -> tuple[os.stat_result | None, bool]:
    """The stat of the file in conflict (None: there is none), and whether it is what a side, or
    their common ancestor, has: nothing, a pointer or the content. Raises OSError."""
    folder, name = os.path.split(conflict.path)
    try:
        with tree.opened(folder) as above:
            status = load_stat(above, name)
            if status is None or not stat.S_ISREG(status.st_mode):
                return status, status is None
            for version in conflict.versions.values():
                if await _is_version(above, name, version, status, contents):
                    return status, True
            return status, False
    except FileNotFoundError:
        return None, True


async def _is_version(
    folder: int, name: bytes, version: _Version, status: os.stat_result, contents: ContentReader
) -> bool:
    if version.pointer is None:
        content = load_file(folder, name, status.st_size)
        return content is not None and blob_id(content) == version.indexed.blob
    if is_small_blob(version.indexed.blob, folder, name):
        return True
    try:
        return await holding_stat(folder, name, version.pointer, contents) is not None
    except StoreError as error:
        # Its list of chunks is not here, so nobody can tell; it counts as edited.
        log.debug("a version in conflict cannot be compared: %s", error)
        return False
