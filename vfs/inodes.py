"""Inode numbers: `directory number << 32 | entry number + 1`, both ways.

The root is entry 0 of directory 0, which nobody sees, and so has the number 1 that FUSE demands.
A directory's number is given out when its parent is first listed, in one block with its sisters;
from then on every number can be worked out from two small tables, without any state of requests.
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


def split_inode(inode: int) -> EntryNumber:
    """The entry behind an inode number."""
    return EntryNumber(inode >> _ENTRY_BITS, (inode & _ENTRY_MASK) - 1)


class DirectoryPlace(NamedTuple):
    """Which directory a number stands for: its tree (raw id; all zero for a submodule), the entry
    that it is of its parent, and how deep it lies (the root at 1)."""

    tree: bytes
    parent: EntryNumber
    depth: int


class DirectoryNumbers:
    """Directory number → place. Grows by blocks, never changes what it gave out."""

    def __init__(self, root_tree: bytes) -> None:
        # Parallel columns by directory number; number 0 is the parent of the root.
        self._trees = bytearray(2 * _TREE_BYTES)
        self._trees[_TREE_BYTES:] = root_tree
        self._parents = array("I", (0, 0))
        self._entries = array("I", (0, 0))
        self._depths = array("H", (0, 1))
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
        return DirectoryPlace(tree, parent, self._depths[number])

    def block(self, number: int, folders: Sequence[tuple[int, bytes]]) -> int:
        """The first number of the block for the folders of a directory, given out now if it is the
        first time. `folders` are (entry number, tree) in order of entry number."""
        if not self._blocks[number]:
            self._blocks[number] = len(self)
            for entry, tree in folders:
                self._trees += tree
                self._parents.append(number)
                self._entries.append(entry)
                self._depths.append(self._depths[number] + 1)
                self._blocks.append(0)
        return self._blocks[number]

    def has_block(self, number: int) -> bool:
        """Whether the folders of a directory have their numbers."""
        return bool(self._blocks[number])
