"""Export: a revision, or a part of one, as plain files in a folder.

Each file is written under a temporary name beside its place, gets its time, and is renamed; so what
has its name is whole. The time is the second of the commit, and a fraction that stands for the
content (`time_of`). A file that is there with the right size and that very time counts as done,
which is how a run goes on after one that was interrupted.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from pathlib import Path

from store.directories import EXECUTABLE_KINDS, Entry, Kind
from store.errors import Busy, PathRefused
from store.git import Revision
from store.local_store import LocalStore
from store.materialise import (
    FILES_AT_ONCE,
    FetchAhead,
    FileContents,
    FileItem,
    FileWriter,
    batch_bytes,
    walk_files,
)
from store.opening import WrapRemote, open_reading, unwrapped
from store.paths import PathEntry, load_path
from store.plain_files import PlainFiles
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.target_folder import (
    FolderCursor,
    TargetFolder,
    create_file,
    is_temporary_name,
    load_stat,
    temporary_name,
    write_all,
)

TEMPORARY_PREFIX = b".revfs-export-"

_NS = 1_000_000_000
# What times are told apart by: not every file system keeps nanoseconds.
_MICROSECONDS = 1_000_000
# What a file's time can be in nanoseconds; git takes any number.
_LATEST_SECONDS = 1 << 33


class _Found(Enum):
    """What lies where a file is to go."""

    NOTHING = "nothing"
    DONE = "done"
    """The file itself, as an earlier run wrote it."""
    OTHER = "other"
    """A file or link that --force replaces."""
    FOLDER = "folder"
    """What is never replaced."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """Files and bytes written by this run, files that were there already, and submodules, which
    are left out."""

    files: int
    written_bytes: int
    done_files: int
    submodules: int


@dataclass(slots=True)
class _Survey:
    """What an export found in its folder: counts, what is in the way, what a killed run left."""

    files: int = 0
    bytes_to_write: int = 0
    done_files: int = 0
    submodules: int = 0
    in_the_way: int = 0
    first_in_the_way: bytes = b""
    first_folder: bytes = b""


class _Places:
    """Tells what lies at the places that entries go to. Belongs to one thread at a time."""

    def __init__(self, local: LocalStore, target: TargetFolder, seconds: int) -> None:
        self._local = local
        self._cursor = FolderCursor(target)
        self._seconds = seconds

    def close(self) -> None:
        """Let go of folders."""
        self._cursor.close()

    def look(self, item: FileItem) -> _Found:
        """What is there. Raises PathRefused where a link or file stands for a folder above it."""
        status = self._cursor.load_stat(item.path)
        if status is None:
            return _Found.NOTHING
        if stat.S_ISDIR(status.st_mode):
            return _Found.FOLDER
        return _Found.DONE if self._is_done(item, status) else _Found.OTHER

    def _is_done(self, item: FileItem, status: os.stat_result) -> bool:
        if status.st_size != item.entry.size:
            return False
        if item.entry.kind != Kind.SYMLINK:
            return stat.S_ISREG(status.st_mode) and _has_time(
                status, time_of(item.entry, self._seconds)
            )
        if not stat.S_ISLNK(status.st_mode):
            return False
        folder, name = os.path.split(item.path)
        descriptor = self._cursor.get_folder(folder)
        target = self._local.repository.load_blob(bytes.fromhex(item.entry.git_id))
        return os.readlink(name, dir_fd=descriptor) == target


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What is to be written where; nothing of it is in the way."""

    local: LocalStore
    revision: Revision
    found: PathEntry
    folder: Path
    force: bool
    files: int
    bytes_to_write: int
    done_files: int
    submodules: int

    async def execute(
        self,
        progress: ByteProgress,
        jobs: int = FILES_AT_ONCE,
        wrap_remote: WrapRemote = unwrapped,
    ) -> ExportSummary:
        """Write the files, `jobs` at once. Raises StoreError naming the file at fault; what is in
        place by then stays, and the next run goes on from there."""
        target = _make_folder(self.folder)
        with closing(target), _locked(target, self.folder):
            _sweep(self.local, self.found, target)
            async with open_reading(self.local, self.revision.commit, wrap_remote) as reading:
                plain = PlainFiles(self.local.repository, self.local.settings.cache_directory)
                writer = FileWriter(
                    FileContents(reading.contents, plain),
                    partial(_ExportTarget, target, _seconds_of(self.revision), self.force),
                    progress,
                    at_once=jobs,
                    ahead_bytes=batch_bytes(self.local.settings.cache_size_bytes),
                    ahead=FetchAhead(reading.source),
                )
                with closing(_Places(self.local, target, _seconds_of(self.revision))) as places:
                    await writer.write(_unfinished(self.local, self.found, places))
        return ExportSummary(self.files, self.bytes_to_write, self.done_files, self.submodules)


def plan_export(
    local: LocalStore, revision: Revision, path: bytes, folder: Path, *, force: bool
) -> ExportPlan:
    """Look at the entry at `path` of a revision (empty: all of it) and at what is in `folder`
    already; changes nothing.

    Raises PathNotFound, and PathRefused naming the first thing that is in the way: with `force`
    only what is never replaced, a folder where a file goes or anything else where a folder goes.
    """
    found = load_path(local.directories, revision.tree, path)
    survey = _Survey()
    target = _open_folder(folder)
    if target is None:
        _count_all(local, found, survey)
    else:
        with closing(target), closing(_Places(local, target, _seconds_of(revision))) as places:
            for item in walk_files(local.directories, found):
                _count(item, places.look(item), survey)
    _require_free(survey, folder, force=force)
    return ExportPlan(
        local=local,
        revision=revision,
        found=found,
        folder=folder,
        force=force,
        files=survey.files,
        bytes_to_write=survey.bytes_to_write,
        done_files=survey.done_files,
        submodules=survey.submodules,
    )


def _count_all(local: LocalStore, found: PathEntry, survey: _Survey) -> None:
    for item in walk_files(local.directories, found):
        _count(item, _Found.NOTHING, survey)


def _count(item: FileItem, there: _Found, survey: _Survey) -> None:
    if item.entry.kind == Kind.SUBMODULE:
        survey.submodules += 1
        return
    if there is _Found.DONE:
        survey.done_files += 1
        return
    survey.files += 1
    survey.bytes_to_write += item.entry.size
    if there is _Found.OTHER:
        survey.in_the_way += 1
        survey.first_in_the_way = survey.first_in_the_way or item.path
    elif there is _Found.FOLDER:
        survey.first_folder = survey.first_folder or item.path


def _require_free(survey: _Survey, folder: Path, *, force: bool) -> None:
    if survey.first_folder:
        raise PathRefused(
            f"{escape_name(survey.first_folder)} is a folder in {folder}, where a file goes; move "
            "it away"
        )
    if survey.in_the_way and not force:
        more = survey.in_the_way - 1
        others = f" and {more:,} more" if more else ""
        raise PathRefused(
            f"{escape_name(survey.first_in_the_way)}{others} in {folder} would be replaced; "
            "nothing was written (--force replaces them)"
        )


def _unfinished(local: LocalStore, found: PathEntry, places: _Places) -> Iterator[FileItem]:
    for item in walk_files(local.directories, found):
        if item.entry.kind != Kind.SUBMODULE and places.look(item) is not _Found.DONE:
            yield item


def _seconds_of(revision: Revision) -> int:
    return min(max(revision.time_seconds, 0), _LATEST_SECONDS)


def time_of(entry: Entry, seconds: int) -> int:
    """The time in nanoseconds of an exported file, of a commit made in that second. Its fraction,
    never 0, comes from the content id (git's own id of a plain file) and the execute bit: two
    commits may be of one second, and their files of one size."""
    number = 2 * int.from_bytes(entry.raw_id[:8], "big") + (entry.kind in EXECUTABLE_KINDS)
    return seconds * _NS + (1 + number % (_MICROSECONDS - 1)) * 1000


def _has_time(status: os.stat_result, time_ns: int) -> bool:
    # Where files have no fraction at all (Lustre, some of FUSE), the second has to do.
    keeps_fractions = status.st_ctime_ns % _NS or status.st_mtime_ns % _NS
    return status.st_mtime_ns == (time_ns if keeps_fractions else time_ns - time_ns % _NS)


def _open_folder(folder: Path) -> TargetFolder | None:
    try:
        return TargetFolder(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PathRefused(f"{folder} cannot be written to: {error.strerror}") from error


def _make_folder(folder: Path) -> TargetFolder:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return TargetFolder(folder)
    except OSError as error:
        raise PathRefused(f"{folder} cannot be made or opened: {error.strerror}") from error


@contextmanager
def _locked(target: TargetFolder, folder: Path) -> Iterator[None]:
    """Hold the folder for this export. Raises Busy where another one is at work in it."""
    try:
        flock(target.descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError as error:
        raise Busy(f"another revfs export is writing to {folder}; wait for it") from error
    except OSError:
        # A file system without locks: two exports to one folder are the caller's to avoid.
        pass
    # Closing the folder lets go of it.
    yield


def _sweep(local: LocalStore, found: PathEntry, target: TargetFolder) -> None:
    """Remove what a killed run left in any of the folders that are written to."""
    swept: bytes | None = None
    with closing(FolderCursor(target)) as cursor:
        for item in walk_files(local.directories, found):
            folder = os.path.dirname(item.path)
            if folder == swept:
                continue
            swept = folder
            descriptor = cursor.get_folder(folder)
            if descriptor is not None:
                _sweep_folder(descriptor)


def _sweep_folder(descriptor: int) -> None:
    for text in os.listdir(descriptor):
        name = os.fsencode(text)
        if is_temporary_name(name, TEMPORARY_PREFIX):
            with suppress(OSError):
                os.unlink(name, dir_fd=descriptor)


class _ExportTarget:
    """A file on its way into the exported folder, by a temporary name beside its place."""

    def __init__(self, target: TargetFolder, seconds: int, force: bool, item: FileItem) -> None:
        folder, self._name = os.path.split(item.path)
        self._item = item
        self._time_ns = time_of(item.entry, seconds)
        self._force = force
        self._temporary = temporary_name(TEMPORARY_PREFIX)
        self._descriptor: int | None = None
        self._folder: int | None = target.open_folder(folder, make=True)
        self._write: Callable[[bytes], None] = self._write_link
        if item.entry.kind != Kind.SYMLINK:
            self._open(item.entry)

    def write(self, content: bytes) -> None:
        """As in `Target`."""
        self._write(content)

    def finish(self) -> None:
        """As in `Target`."""
        assert self._folder is not None
        if self._descriptor is not None:
            os.utime(self._descriptor, ns=(self._time_ns, self._time_ns))
        if not self._force and load_stat(self._folder, self._name) is not None:
            raise PathRefused(
                f"{escape_name(self._item.path)} was made by somebody else meanwhile, or has a "
                "name that this file system takes for another one's"
            )
        os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._close()

    def discard(self) -> None:
        """As in `Target`."""
        if self._folder is not None:
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        self._close()

    def _open(self, entry: Entry) -> None:
        assert self._folder is not None
        mode = 0o777 if entry.kind in EXECUTABLE_KINDS else 0o666
        try:
            descriptor = create_file(self._folder, self._temporary, mode)
        except OSError:
            self._close()
            raise
        self._descriptor = descriptor
        self._write = partial(write_all, descriptor)

    def _write_link(self, content: bytes) -> None:
        assert self._folder is not None
        os.symlink(content, self._temporary, dir_fd=self._folder)

    def _close(self) -> None:
        for descriptor in (self._descriptor, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._folder = None
