"""Inode numbers: `directory number << 32 | entry number + 1`, both ways.

The root is entry 0 of directory 0, which nobody sees, and so has the number 1 that FUSE demands.
A directory's number is given out when its parent is first listed, in one block with its sisters;
from then on every number can be worked out from two small tables, without any state of requests.
A mount that shows several commits has a root for each, which gets its number when it is first
shown.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

ROOT_INODE = 1
ROOT_DIRECTORY = 1
_ENTRY_BITS = 32
_ENTRY_MASK = (1 << _ENTRY_BITS) - 1
_TREE_BYTES = 20


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


class DirectoryNumbers:
    """Directory number → place. Grows by blocks and roots, never changes what it gave out."""

    def __init__(self, root_tree: bytes) -> None:
        # Parallel columns by directory number; number 0 is the parent of the root.
        self._trees = bytearray(2 * _TREE_BYTES)
        self._trees[_TREE_BYTES:] = root_tree
        self._parents = array("I", (0, 0))
        self._entries = array("I", (0, 0))
        self._depths = array("H", (0, 1))
        self._roots = array("I", (0, ROOT_DIRECTORY))
        # The first number of the block of its folders; 0 until the directory was listed.
        self._blocks = array("I", (ROOT_DIRECTORY, 0))

    def __len__(self) -> int:
        return len(self._parents)

    def place(self, number: int) -> DirectoryPlace | None:
        """What a directory number stands for, or None for one that was never given out."""
        if not 0 < number < len(self):
            return None
        tree = bytes(self._trees[number * _TREE_BYTES : (number + 1) * _TREE_BYTES])
        parent = EntryNumber(self._parents[number], self._entries[number])
        return DirectoryPlace(tree, parent, self._depths[number], self._roots[number])

    def root_of(self, number: int) -> int:
        """The number of the root that a directory is below or is; 0 for one that was never given
        out."""
        return self._roots[number] if 0 < number < len(self) else 0

    def add_root(self, tree: bytes, parent: EntryNumber) -> int:
        """A number for another root: of that tree, shown as that entry."""
        number = len(self)
        self._append(tree, parent, depth=1, root=number)
        return number

    def block(self, number: int, folders: Sequence[tuple[int, bytes]]) -> int:
        """The first number of the block for the folders of a directory, given out now if it is the
        first time. `folders` are (entry number, tree) in order of entry number."""
        if not self._blocks[number]:
            self._blocks[number] = len(self)
            depth, root = self._depths[number] + 1, self._roots[number]
            for entry, tree in folders:
                self._append(tree, EntryNumber(number, entry), depth, root)
        return self._blocks[number]

    def has_block(self, number: int) -> bool:
        """Whether the folders of a directory have their numbers."""
        return bool(self._blocks[number])

    def _append(self, tree: bytes, parent: EntryNumber, depth: int, root: int) -> None:
        self._trees += tree
        self._parents.append(parent.directory)
        self._entries.append(parent.entry)
        self._depths.append(depth)
        self._roots.append(root)
        self._blocks.append(0)
