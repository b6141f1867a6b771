"""The stat fields of a node, from what git and the pointers say; and how long they hold."""

import stat
from typing import NamedTuple

from store.directories import EXECUTABLE_KINDS, FOLDER_KINDS, Entry, Kind

BLOCK_BYTES = 512
# What readers take as the size of one read: the kernel's own read-ahead.
PREFERRED_READ_BYTES = 128 * 1024
FOR_EVER_SECONDS = 2.0**31
"""As good as for ever, for what is inside a commit (the kernel cuts larger numbers)."""
MOVING_SECONDS = 0.5
"""For names that a commit may leave: half of the second in which a move is to be seen."""
MODE_OF_FOLDER = stat.S_IFDIR | 0o555
_LINK_MODE = stat.S_IFLNK | 0o777


class Attributes(NamedTuple):
    """What differs from node to node. `time_seconds` is the commit's time since 1970, for
    `valid_seconds` the kernel need not ask again."""

    inode: int
    mode: int
    size: int
    time_seconds: int
    valid_seconds: float

    @property
    def blocks(self) -> int:
        """The size in blocks of 512 bytes, rounded up."""
        return -(-self.size // BLOCK_BYTES)


def attributes_of(
    inode: int, entry: Entry, time_seconds: int, valid_seconds: float = FOR_EVER_SECONDS
) -> Attributes:
    """The attributes of an entry: 0555 for folders and executables, 0444 for other files."""
    return Attributes(inode, mode_of(entry.kind), entry.size, time_seconds, valid_seconds)


def mode_of(kind: int) -> int:
    """Type and permission bits of a Kind."""
    return _MODES[kind]


def _mode_of(kind: Kind) -> int:
    if kind in FOLDER_KINDS:
        return MODE_OF_FOLDER
    if kind == Kind.SYMLINK:
        return _LINK_MODE
    return stat.S_IFREG | (0o555 if kind in EXECUTABLE_KINDS else 0o444)


_MODES = tuple(map(_mode_of, Kind))
