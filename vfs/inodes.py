"""Inode numbers: `directory number << 32 | entry number + 1`, both ways.

The root is entry 0 of directory 0, which nobody sees, and so has the number 1 that FUSE demands.
A directory's number is given out when its parent is first listed, in one block with its sisters;
from then on every number can be worked out from one table, without any state of requests. The table
lies in memory that all processes of a mount share, so each of them gives the same answers. A mount
that shows several commits has a root for each, which gets its number when it is first shown.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

ROOT_INODE = 1
ROOT_DIRECTORY = 1
_ENTRY_BITS = 32
_ENTRY_MASK = (1 << _ENTRY_BITS) - 1

# The shared memory: how many numbers were given out, and from _HEAD_BYTES on a row for each.
_COUNT = struct.Struct("=Q")
_HEAD_BYTES = 64
_ROW = struct.Struct("=20sIIIIIH6x")
_NUMBER = struct.Struct("=I")
# Where in a row these columns are.
_ENTRY_COLUMN, _FOLDERS_COLUMN, _BLOCK_COLUMN = 24, 28, 32
_FIRST_BYTES = 1 << 20


class EntryNumber(NamedTuple):
    """An entry by the number of its directory and its own number in it."""

    directory: int
    entry: int


def inode_of(directory: int, entry: int) -> int:
    """The inode number of an entry."""
    return directory << _ENTRY_BITS | (entry + 1)


def handle_of(directory: int) -> int:
    """A file handle that means a directory itself, whatever its place shows by then; no inode has
    that number."""
    return directory << _ENTRY_BITS


def split_inode(inode: int) -> EntryNumber:
    """The entry behind an inode number; for a handle of a directory, its number and entry -1."""
    return EntryNumber(inode >> _ENTRY_BITS, (inode & _ENTRY_MASK) - 1)


class DirectoryPlace(NamedTuple):
    """Which directory a number stands for: its tree (raw id; all zero for a submodule, and for a
    folder that no commit holds), the entry that it is of its parent, how deep it lies (a root at
    1), and the number of the root that it is below or is."""

    tree: bytes
    parent: EntryNumber
    depth: int
    root: int


class _Row(NamedTuple):
    """A directory in the table. Its folders have the numbers from `block` on, `folders` of them;
    `block` is 0 until it was listed."""

    tree: bytes
    parent: int
    entry: int
    folders: int
    block: int
    root: int
    depth: int


class DirectoryNumbers:
    """Directory number → place. Grows by blocks and roots, never changes what it gave out.

    Shared with all processes that are forked from the one that made it. Invariant: a row below the
    count is whole, and the number of a block is the last to be written; a process that is killed
    while it gives out numbers wastes at most some that nobody has seen.
    """

    def __init__(self, root_tree: bytes) -> None:
        self._descriptor = os.memfd_create("revfs-directories", os.MFD_CLOEXEC)
        self._pid = os.getpid()
        os.ftruncate(self._descriptor, _FIRST_BYTES)
        self._map = mmap.mmap(self._descriptor, _FIRST_BYTES)
        # Number 0 is the parent of the root.
        self._append([_Row(bytes(20), 0, 0, 1, ROOT_DIRECTORY, 0, 0)])
        self._append([_Row(root_tree, 0, 0, 0, 0, ROOT_DIRECTORY, 1)])

    def __del__(self) -> None:
        os.close(self._descriptor)

    def __len__(self) -> int:
        return int(_COUNT.unpack_from(self._map)[0])

    def place(self, number: int) -> DirectoryPlace | None:
        """What a directory number stands for, or None for one that was never given out."""
        row = self._row(number) if number else None
        if row is None:
            return None
        return DirectoryPlace(row.tree, EntryNumber(row.parent, row.entry), row.depth, row.root)

    def root_of(self, number: int) -> int:
        """The number of the root that a directory is below or is; 0 for one that was never given
        out."""
        row = self._row(number)
        return 0 if row is None else row.root

    def add_root(self, tree: bytes, parent: EntryNumber) -> int:
        """A number for another root: of that tree, shown as that entry."""
        with self._locked():
            number = len(self)
            self._append([_Row(tree, parent.directory, parent.entry, 0, 0, number, 1)])
            return number

    def block(self, number: int, folders: Sequence[tuple[int, bytes]]) -> int:
        """The first number of the block for the folders of a directory, given out now if it is the
        first time. `folders` are (entry number, tree) in order of entry number."""
        if not self.has_block(number):
            with self._locked():
                # Another process may have been quicker.
                if not self.has_block(number):
                    self._add_block(number, folders)
        row = self._row(number)
        return 0 if row is None else row.block

    def has_block(self, number: int) -> bool:
        """Whether the folders of a directory have their numbers."""
        row = self._row(number)
        return row is not None and row.block != 0

    def folder_at(self, place: EntryNumber) -> int | None:
        """The number of the directory that an entry is; None where it is no folder, or that of a
        directory that was not listed."""
        above = self._row(place.directory)
        if above is None or not above.block:
            return None
        low, high = above.block, above.block + above.folders
        while low < high:
            middle = (low + high) // 2
            if self._entry(middle) < place.entry:
                low = middle + 1
            else:
                high = middle
        is_there = low < above.block + above.folders and self._entry(low) == place.entry
        return low if is_there else None

    def _add_block(self, number: int, folders: Sequence[tuple[int, bytes]]) -> None:
        row = self._row(number)
        assert row is not None, "only a directory that has a number can be listed"
        first = len(self)
        self._append(
            [_Row(tree, number, entry, 0, 0, row.root, row.depth + 1) for entry, tree in folders]
        )
        _NUMBER.pack_into(self._map, _offset(number) + _FOLDERS_COLUMN, len(folders))
        _NUMBER.pack_into(self._map, _offset(number) + _BLOCK_COLUMN, first)

    def _append(self, rows: Sequence[_Row]) -> None:
        first = len(self)
        needed = _offset(first + len(rows))
        if needed > len(self._map):
            size = os.fstat(self._descriptor).st_size
            os.ftruncate(self._descriptor, max(size, 2 * needed))
        for number, row in enumerate(rows, first):
            _ROW.pack_into(self._mapped(number), _offset(number), *row)
        _COUNT.pack_into(self._map, 0, first + len(rows))

    def _row(self, number: int) -> _Row | None:
        if not 0 <= number < len(self):
            return None
        return _Row._make(_ROW.unpack_from(self._mapped(number), _offset(number)))

    def _entry(self, number: int) -> int:
        return int(_NUMBER.unpack_from(self._mapped(number), _offset(number) + _ENTRY_COLUMN)[0])

    def _mapped(self, number: int) -> mmap.mmap:
        """The memory, mapped as far as that row."""
        if _offset(number + 1) > len(self._map):
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return self._map

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only process that gives out numbers; one that is killed lets go."""
        if self._pid != os.getpid():
            # A lock is shared with whoever shares the opening of a file.
            inherited, self._pid = self._descriptor, os.getpid()
            self._descriptor = os.open(f"/proc/self/fd/{inherited}", os.O_RDWR | os.O_CLOEXEC)
            os.close(inherited)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _offset(number: int) -> int:
    return _HEAD_BYTES + number * _ROW.size
