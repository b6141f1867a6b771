"""Git's index: its entries, its conflicts, and writes to it under git's own lock.

Written with the stat data of the real files, which lets `git status` see at a glance that a file is
clean. The index is opened by itself, not through a repository: libgit2 would else re-read the
contents of every file that changed within the last second.
"""

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pygit2
from pygit2.ffi import C, ffi

from store.directories import refusal_of_name
from store.errors import GitError
from store.file_state import Status
from store.git_index_file import (
    NotPlain,
    encode_entry,
    encode_index_file,
    read_entries,
    rebuild_index_file,
)
from store.shown_names import escape_name

log = logging.getLogger(__name__)

MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
_MODE_SUBMODULE = 0o160000
_MODES = frozenset((MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, _MODE_SUBMODULE))

# From here on changes one by one, each of which moves what lies behind it in the index, cost more
# than building the index anew in order.
_REBUILD_FROM_ENTRIES = 1000
GIT_ERRORS = (pygit2.GitError, KeyError, ValueError, OSError)
# index-format.txt: the flag that says that more flags follow, and one of those.
_EXTENDED = 1 << 14
_SKIP_WORKTREE = 1 << 14
_OWN_LOCK = b"revfs\n"
LOCK_NAME = "index.lock"
OWN_FRESH_INDEX = "index.revfs"
"""What is to become git's index, while it is written under git's lock."""


class IndexChange(NamedTuple):
    """One path for git's index: the blob that stands for it (raw id) and, where the index should
    take the file on disk for clean, the stat of that file. With `skipped` the path is to have no
    file in the work tree, and git does not miss it (skip-worktree)."""

    path: bytes
    mode: int
    blob: bytes
    status: Status | None
    skipped: bool = False


class IndexedBlob(NamedTuple):
    """What git's index has for a path: the raw id of a blob, git's mode, and whether it is there on
    purpose without a file (skip-worktree)."""

    blob: bytes
    mode: int
    skipped: bool


# The path of an entry, its stage (0 where it is merged), and what is there.
_Found = tuple[bytes, int, IndexedBlob]
T = TypeVar("T")


class GitIndex:
    """The index of one work tree."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load_entries(self) -> dict[bytes, IndexedBlob]:
        """Every merged entry of git's index, by path."""
        return self._gather(
            lambda found: {path: blob for path, stage, blob in found if not stage},
        )

    def load_conflicts(self) -> dict[bytes, dict[int, IndexedBlob]]:
        """Every path in conflict: its blobs by stage, 1 the common ancestor, 2 ours, 3 theirs."""
        return self._gather(_conflicts)

    def write(self, changes: Sequence[IndexChange], removed: Iterable[bytes] = ()) -> None:
        """Put `changes` into git's index and take `removed` out, in one step under git's lock.

        Raises GitError, the index then being as it was.
        """
        gone = set(removed)
        with _locked(self._path) as fresh:
            try:
                if len(changes) + len(gone) >= _REBUILD_FROM_ENTRIES:
                    parts = _rebuilt(self._path, changes, gone)
                    with fresh.open("wb") as file:
                        file.writelines(parts)
                    return
            except NotPlain:
                log.debug("git's index is not plain, and is rebuilt entry by entry")
            except OSError as error:
                raise GitError(f"git's index cannot be written: {error.strerror}") from error
            self._write_by_entry(fresh, changes, gone)

    def _write_by_entry(
        self, fresh: Path, changes: Sequence[IndexChange], removed: set[bytes]
    ) -> None:
        index = self._open(fresh)
        _distrust_racy_entries(index, self._path)
        gone = removed | _displaced_paths(index, changes)
        if len(changes) + len(gone) < _REBUILD_FROM_ENTRIES:
            _change_entries(index, changes, gone)
        else:
            _rebuild_entries(index, changes, gone)
        try:
            index.write()
        except GIT_ERRORS as error:
            raise GitError(f"git's index cannot be written: {error}") from error

    def _gather(self, gather: Callable[[Iterable[_Found]], T]) -> T:
        """What `gather` makes of all entries, in their order."""
        try:
            entries = read_entries(self._path.read_bytes())
            return gather(
                (e.path, e.stage, IndexedBlob(e.blob, e.mode, e.skipped)) for e in entries
            )
        except (NotPlain, OSError):
            entries_of_libgit2 = _raw_entries(self._open(self._path))
            return gather(
                (ffi.string(e.path), _stage(e), _indexed_blob(e)) for e in entries_of_libgit2
            )

    def _open(self, path: Path) -> pygit2.Index:
        try:
            # Not pygit2.Index(path): one that cannot be opened complains again when it is freed.
            pointer = ffi.new("git_index **")
            pygit2.errors.check_error(C.git_index_open(pointer, os.fsencode(path)))
            index: pygit2.Index = pygit2.Index.from_c(None, pointer)  # type: ignore[no-untyped-call]
            index.read()
        except GIT_ERRORS as error:
            raise GitError(
                f"git's index cannot be read: {error} (a split or sparse index is not supported; "
                "git update-index --no-split-index or git sparse-checkout disable ends either)"
            ) from error
        return index


def _conflicts(found: Iterable[_Found]) -> dict[bytes, dict[int, IndexedBlob]]:
    conflicts: dict[bytes, dict[int, IndexedBlob]] = {}
    for path, stage, blob in found:
        if stage:
            conflicts.setdefault(path, {})[stage] = blob
    return conflicts


def _rebuilt(index: Path, changes: Sequence[IndexChange], gone: set[bytes]) -> Iterator[bytes]:
    """The file of the index with these changes. Raises NotPlain, GitError for what no index may
    hold, OSError."""
    for change in changes:
        if change.mode not in _MODES:
            raise GitError(f"git's index refuses an entry: {change.mode:o} is no mode of git's")
    _require_names(change.path for change in changes)
    new = {c.path: encode_entry(c.path, c.mode, c.blob, c.status, c.skipped) for c in changes}
    if not index.exists():
        return rebuild_index_file(b"".join(encode_index_file(())), new, gone, 0)
    return rebuild_index_file(index.read_bytes(), new, gone, int(index.stat().st_mtime))


def _require_names(paths: Iterable[bytes]) -> None:
    sound: set[bytes] = set()
    for path in paths:
        folder, _, name = path.rpartition(b"/")
        parts = [name] if folder in sound or not folder else path.split(b"/")
        if any(refusal_of_name(part) for part in parts):
            raise GitError(f"git's index refuses an entry: {escape_name(path)} is no path of git's")
        sound.add(folder)


@contextmanager
def _locked(index: Path) -> Iterator[Path]:
    """Hold git's lock on the index, give a copy of it to change, and put that in its place."""
    lock = index.with_name(LOCK_NAME)
    fresh = index.with_name(OWN_FRESH_INDEX)
    held = _take_lock(lock)
    try:
        # What a killed run left; the second is libgit2's own temporary file.
        for leftover in (fresh, fresh.with_name(f"{OWN_FRESH_INDEX}.lock")):
            leftover.unlink(missing_ok=True)
        if index.exists():
            shutil.copyfile(index, fresh)
        yield fresh
        shutil.copymode(index if index.exists() else lock, fresh)
        fresh.rename(index)
    finally:
        fresh.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        os.close(held)


def _take_lock(lock: Path) -> int:
    """Make git's lock file and return its open descriptor. Ours is marked as such and locked while
    we live, so that one that a killed run left is known and taken away."""
    try:
        try:
            held = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            if not remove_stale_lock(lock):
                raise
            held = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise GitError(
            f"another git command is at work in this repository; if none is, delete {lock}"
        ) from error
    except OSError as error:
        raise GitError(f"git's index cannot be locked: {error.strerror}") from error
    # The mark comes after the lock: whoever sees it without a lock sees a dead run's.
    flock(held, LOCK_EX)
    os.write(held, _OWN_LOCK)
    return held


def remove_stale_lock(lock: Path) -> bool:
    """Take git's lock on an index away if a killed run of ours left it; whether it was that."""
    if lock.name != LOCK_NAME:
        return False
    try:
        with lock.open("rb") as file:
            flock(file, LOCK_EX | LOCK_NB)
            # The name may stand for another lock by now than for the one that was opened.
            stale = file.read() == _OWN_LOCK and os.path.samestat(
                os.fstat(file.fileno()), os.stat(lock)
            )
            if stale:
                lock.unlink()
            return stale
    except OSError:
        return False


def _distrust_racy_entries(index: pygit2.Index, written: Path) -> None:
    """Give entries whose file changed in the second in which the index was written a size of 0, as
    git itself does before it writes: git then compares contents. Without, a newer index would make
    a change in that second invisible (racy-git.txt in git's documentation)."""
    if not written.exists():
        return
    written_seconds = int(written.stat().st_mtime)
    for entry in _raw_entries(index):
        if entry.mtime.seconds >= written_seconds:
            entry.file_size = 0


def _change_entries(index: pygit2.Index, changes: Sequence[IndexChange], gone: set[bytes]) -> None:
    for path in gone:
        C.git_index_remove(index._index, path, 0)
        C.git_index_conflict_remove(index._index, path)
    for change in changes:
        # Not there as a rule, which is no error.
        C.git_index_conflict_remove(index._index, change.path)
        _add_entry(index, change)


def _rebuild_entries(index: pygit2.Index, changes: Sequence[IndexChange], gone: set[bytes]) -> None:
    new = {change.path: change for change in changes}
    kept = [
        _copy_of(entry)
        for entry in _raw_entries(index)
        if (path := ffi.string(entry.path)) not in new and path not in gone
    ]
    index.clear()
    merged: list[tuple[bytes, Any]] = [(ffi.string(entry.path), entry) for entry, _ in kept]
    merged += list(new.items())
    for _, item in sorted(merged, key=lambda pair: pair[0]):
        if isinstance(item, IndexChange):
            _add_entry(index, item)
        else:
            _check(C.git_index_add(index._index, item))


def _displaced_paths(index: pygit2.Index, changes: Sequence[IndexChange]) -> set[bytes]:
    """What the changes leave no room for: files that became folders, and what was below a folder
    that became a file or link."""
    new = {change.path for change in changes}
    folders = {folder for path in new for folder in _folders_above(path)}
    paths = {ffi.string(entry.path) for entry in _raw_entries(index)} - new
    return {
        path
        for path in paths
        if path in folders or any(folder in new for folder in _folders_above(path))
    }


def _folders_above(path: bytes) -> Iterator[bytes]:
    slash = path.find(b"/")
    while slash >= 0:
        yield path[:slash]
        slash = path.find(b"/", slash + 1)


def _copy_of(entry: Any) -> tuple[Any, Any]:
    copy = ffi.new("git_index_entry *", entry[0])
    path = ffi.new("char[]", ffi.string(entry.path))
    copy.path = path
    # The path's memory lives as long as its owner, so the two travel together.
    return copy, path


def _add_entry(index: pygit2.Index, change: IndexChange) -> None:
    entry = ffi.new("git_index_entry *")
    ffi.buffer(ffi.addressof(entry, "id"))[:20] = change.blob
    entry.mode = change.mode
    path = ffi.new("char[]", change.path)
    entry.path = path
    if change.status is not None:
        _fill_stat(entry, change.status)
    if change.skipped:
        entry.flags |= _EXTENDED
        entry.flags_extended |= _SKIP_WORKTREE
    _check(C.git_index_add(index._index, entry))


def _fill_stat(entry: Any, status: Status) -> None:
    # As git's fill_stat_data does it: times split, all else cut to 32 bits (index-format.txt).
    fields = {
        "dev": status.st_dev,
        "ino": status.st_ino,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "file_size": status.st_size,
    }
    for name, value in fields.items():
        setattr(entry, name, value & 0xFFFFFFFF)
    for name, time_ns in (("ctime", status.st_ctime_ns), ("mtime", status.st_mtime_ns)):
        seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
        moment = getattr(entry, name)
        moment.seconds = (seconds + 2**31) % 2**32 - 2**31
        moment.nanoseconds = nanoseconds


def _stage(entry: Any) -> int:
    # Bits 12 and 13 of the flags: 0 for all that is not in conflict.
    return int(entry.flags >> 12 & 3)


def _indexed_blob(entry: Any) -> IndexedBlob:
    blob = bytes(ffi.buffer(ffi.addressof(entry, "id"))[:20])
    return IndexedBlob(blob, int(entry.mode), bool(entry.flags_extended & _SKIP_WORKTREE))


def _raw_entries(index: pygit2.Index) -> Iterator[Any]:
    for number in range(C.git_index_entrycount(index._index)):
        yield C.git_index_get_byindex(index._index, number)


def _check(code: int) -> None:
    if code < 0:
        try:
            pygit2.errors.check_error(code)
        except GIT_ERRORS as error:
            raise GitError(f"git's index refuses an entry: {error}") from error


def mode_of(status: Status) -> int:
    """Git's mode for a file of that stat: its owner's execute bit is all that git keeps."""
    if stat.S_ISLNK(status.st_mode):
        return MODE_SYMLINK
    return MODE_EXECUTABLE if status.st_mode & stat.S_IXUSR else MODE_FILE
