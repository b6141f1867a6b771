"""WorkTreeWriter: files of a work tree are replaced whole, and git's index learns their new stat.

A file is written in the git directory and renamed to its place. Before each rename its path goes to
a journal, so that after a kill the next run knows which files may hold data that git's index has
not been told of. One writer at a time in a work tree.
"""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import NamedTuple

from store import add
from store.errors import Busy, PathRefused, StoreError
from store.git import GitRepository
from store.git_index import MODE_EXECUTABLE, IndexChange
from store.pointer import Pointer
from store.shown_names import escape_name
from store.stat_cache import StatCache
from store.target_folder import (
    TargetFolder,
    create_file,
    is_temporary_name,
    load_stat,
    open_file,
    temporary_name,
    write_all,
)

_SCRATCH = "revfs-checkout"
_JOURNAL = b"journal"
_PREFIX = b".revfs-checkout-"
_COPY_BYTES = 4 << 20
# What a line of the journal tells: a file that got its place, or a temporary one beside its place.
_PLACED = b"p"
_BESIDE = b"b"


@dataclass(frozen=True, slots=True)
class Placing:
    """A file to put in place: its path, the blob and mode that git's index has or gets for it.

    `pointer` is that of its content, None where that is a pointer's text or git's own.
    `is_expected(folder descriptor, name)` says whether what lies there may be replaced.
    `permissions` are those of the new file; None stands for what the umask makes of `mode`.
    """

    path: bytes
    blob: bytes
    mode: int
    pointer: Pointer | None
    is_expected: Callable[[int, bytes], bool]
    permissions: int | None = None
    make_folder: bool = False


class Placed(NamedTuple):
    """A file that lies in its place, as git's index is to have it, and the pointer of its
    content."""

    change: IndexChange
    pointer: Pointer | None


class WorkTreeWriter:
    """Replaces files of one work tree. Its targets may be used from several threads."""

    def __init__(self, repository: GitRepository, work_tree: Path) -> None:
        """Raises Busy where another one is at work, StoreError where nothing can be written."""
        self._repository = repository
        self._top = os.fsencode(work_tree)
        git_dir = repository.paths.git_dir
        with ExitStack() as opened:
            try:
                (git_dir / _SCRATCH).mkdir(mode=0o700, exist_ok=True)
                self.scratch = opened.enter_context(closing(TargetFolder(git_dir / _SCRATCH)))
                self.tree = opened.enter_context(closing(TargetFolder(work_tree)))
                _lock(self.scratch.descriptor)
                self.interrupted = self._clear()
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._journal = os.open(_JOURNAL, flags, 0o600, dir_fd=self.scratch.descriptor)
            except OSError as error:
                raise StoreError(
                    f"nothing can be written in {git_dir}: {error.strerror}"
                ) from error
            opened.pop_all()
        # Appended to from any thread.
        self._placed: list[Placed] = []

    def close(self) -> None:
        """Let go. What was placed and not told to git's index stays in the journal."""
        os.close(self._journal)
        self.tree.close()
        self.scratch.close()

    def __enter__(self) -> "WorkTreeWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def note_placed(self, placed: Placed) -> None:
        """Have a file among those that the index is told of."""
        self._placed.append(placed)

    def refresh_index(self, stat_cache: StatCache) -> None:
        """Have git's index take what was placed for clean, and the stat cache know it. Entries that
        were staged anew meanwhile are left alone. Raises GitError, the journal then staying."""
        settled = self._settle()
        entries = self._repository.index.load_entries() if settled else {}
        changes = []
        for change in settled:
            entry = entries.get(change.path)
            unchanged = entry is not None and entry.blob == change.blob and not entry.skipped
            if entry is not None and unchanged and change.status is not None:
                # The index's own mode: whoever made the file executable did not stage that.
                changes.append(IndexChange(change.path, entry.mode, entry.blob, change.status))
        self._write_index(changes, (), stat_cache)

    def stage(self, removed: Sequence[bytes], stat_cache: StatCache) -> None:
        """Have git's index hold what was placed, in place of whatever it had for those paths, and
        `removed` no more. Raises GitError."""
        self._write_index(self._settle(), removed, stat_cache)

    def note_in_journal(self, kind: bytes, path: bytes) -> None:
        """Write a line of the journal, before what it tells of is done."""
        write_all(self._journal, kind + path + b"\0")

    def _settle(self) -> list[IndexChange]:
        changes = {placed.change.path: placed.change for placed in self._placed}
        return add.wait_for_git(self._top, list(changes.values()))

    def _write_index(
        self, changes: Sequence[IndexChange], removed: Sequence[bytes], stat_cache: StatCache
    ) -> None:
        if changes or removed:
            self._repository.index.write(changes, removed)
        os.ftruncate(self._journal, 0)
        pointers = {placed.change.path: placed.pointer for placed in self._placed}
        stat_cache.keep(
            (os.path.join(self._top, change.path), change.status, pointer)
            for change in changes
            if change.status is not None and (pointer := pointers[change.path]) is not None
        )

    def _clear(self) -> list[bytes]:
        """Remove what a killed run left, but for its journal; the paths that it may have placed."""
        folder = self.scratch.descriptor
        for text in os.listdir(folder):
            if is_temporary_name(os.fsencode(text), _PREFIX):
                os.unlink(text, dir_fd=folder)
        lines = _load_journal(folder)
        for path in (line[1:] for line in lines if line[:1] == _BESIDE):
            above, name = os.path.split(path)
            if is_temporary_name(name, _PREFIX):
                with suppress(OSError, PathRefused), self.tree.opened(above) as descriptor:
                    os.unlink(name, dir_fd=descriptor)
        return [line[1:] for line in lines if line[:1] == _PLACED]


def lie_apart(folder: int, other: int) -> bool:
    """Whether two open folders are plainly not in one file system."""
    return os.fstat(folder).st_dev != os.fstat(other).st_dev


def _load_journal(folder: int) -> list[bytes]:
    try:
        descriptor = open_file(folder, _JOURNAL)
    except FileNotFoundError:
        return []
    with open(descriptor, "rb") as file:
        # What follows the last NUL was not written whole, and so not acted on.
        return file.read().split(b"\0")[:-1]


def _lock(descriptor: int) -> None:
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError as error:
        raise Busy(
            "another revfs checkout, pull or resolve is at work in this work tree; wait for it"
        ) from error
    except OSError:
        # A file system without locks: two at once are the caller's to avoid.
        return


class WorkTreeTarget:
    """A file on its way into the work tree; a Target of store.materialise."""

    def __init__(self, writer: WorkTreeWriter, placing: Placing) -> None:
        """Raises OSError, and PathRefused where a link stands for a folder above it."""
        self._writer = writer
        self._placing = placing
        self._above, self._name = os.path.split(placing.path)
        self._folder = writer.tree.open_folder(self._above, make=placing.make_folder)
        self._temporary = temporary_name(_PREFIX)
        # The folder that the temporary file is in; a rename reaches no other file system.
        self._place = writer.scratch.descriptor
        self._descriptor = -1
        try:
            beside = lie_apart(self._place, self._folder)
            self._descriptor = self._create_beside() if beside else self._create()
        except BaseException:
            os.close(self._folder)
            raise

    def write(self, content: bytes) -> None:
        """Take the next bytes."""
        write_all(self._descriptor, content)

    def finish(self) -> None:
        """Put the file in its place. Raises PathRefused where that is not as it was expected."""
        placing = self._placing
        if not placing.is_expected(self._folder, self._name):
            raise PathRefused(
                f"{escape_name(placing.path)} was changed meanwhile, and is left as it is"
            )
        if placing.permissions is not None:
            os.fchmod(self._descriptor, placing.permissions)
        self._writer.note_in_journal(_PLACED, placing.path)
        self._rename()
        status = load_stat(self._folder, self._name)
        if status is not None and os.path.samestat(status, os.fstat(self._descriptor)):
            change = IndexChange(placing.path, placing.mode, placing.blob, status)
            self._writer.note_placed(Placed(change, placing.pointer))
        self._close()

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._place)
            self._close()

    def _rename(self) -> None:
        try:
            self._rename_from(self._place)
        except OSError as error:
            # Within one file system too, where a folder of it is mounted into the work tree.
            if error.errno != errno.EXDEV:
                raise
            self._copy_beside()
            self._rename_from(self._place)

    def _rename_from(self, place: int) -> None:
        os.rename(self._temporary, self._name, src_dir_fd=place, dst_dir_fd=self._folder)

    def _copy_beside(self) -> None:
        source = open_file(self._place, self._temporary)
        try:
            os.unlink(self._temporary, dir_fd=self._place)
            os.close(self._descriptor)
            self._descriptor = self._create_beside()
            while piece := os.read(source, _COPY_BYTES):
                write_all(self._descriptor, piece)
            if self._placing.permissions is not None:
                os.fchmod(self._descriptor, self._placing.permissions)
        finally:
            os.close(source)

    def _create_beside(self) -> int:
        self._place = self._folder
        self._writer.note_in_journal(_BESIDE, os.path.join(self._above, self._temporary))
        return self._create()

    def _create(self) -> int:
        mode = 0o777 if self._placing.mode == MODE_EXECUTABLE else 0o666
        return create_file(self._place, self._temporary, mode)

    def _close(self) -> None:
        os.close(self._descriptor)
        os.close(self._folder)
        self._descriptor = -1
