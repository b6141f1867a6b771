"""The stat fields of a node, from what git and the pointers say."""

import stat
from typing import NamedTuple

from store.directories import EXECUTABLE_KINDS, FOLDER_KINDS, Entry, Kind

BLOCK_BYTES = 512
# What readers take as the size of one read: the kernel's own read-ahead.
PREFERRED_READ_BYTES = 128 * 1024
_FOLDER_MODE = stat.S_IFDIR | 0o555
_LINK_MODE = stat.S_IFLNK | 0o777


class Attributes(NamedTuple):
    """What differs from node to node; owner and times are the same for a whole mount."""

    inode: int
    mode: int
    size: int

    @property
    def blocks(self) -> int:
        """The size in blocks of 512 bytes, rounded up."""
        return -(-self.size // BLOCK_BYTES)


def attributes_of(inode: int, entry: Entry) -> Attributes:
    """The attributes of an entry: 0555 for folders and executables, 0444 for other files."""
    return Attributes(inode, mode_of(entry.kind), entry.size)


def mode_of(kind: Kind) -> int:
    """Type and permission bits."""
    if kind in FOLDER_KINDS:
        return _FOLDER_MODE
    if kind == Kind.SYMLINK:
        return _LINK_MODE
    return stat.S_IFREG | (0o555 if kind in EXECUTABLE_KINDS else 0o444)
