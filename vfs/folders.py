"""Folders as a mount lists them: numbered entries with their attributes.

A folder of a revision never changes; what a folder of names (`vfs.named_revisions`) shows does.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from store.directories import Directory
from vfs.attributes import Attributes, attributes_of, mode_of
from vfs.inodes import inode_of


class Folder(Protocol):
    """A directory, whose number is that in the inode numbers of its entries."""

    @property
    def number(self) -> int: ...

    @property
    def listed(self) -> Sequence[int]:
        """The numbers of the entries that are there now, rising."""
        ...

    def number_of(self, name: bytes) -> int | None:
        """The number of the entry that has that name now."""
        ...

    def item(self, entry_number: int) -> tuple[bytes, Attributes]:
        """The name of an entry, and its attributes."""
        ...

    def items(self, numbers: Sequence[int]) -> Iterable[tuple[bytes, Attributes]]:
        """Those of several entries, a part of `listed`."""
        ...


class RevisionFolder(NamedTuple):
    """A directory of a commit of that time; its entries hold for `valid_seconds`."""

    number: int
    directory: Directory
    time_seconds: int
    valid_seconds: float

    @property
    def listed(self) -> Sequence[int]:
        """All of them."""
        return range(len(self.directory))

    def number_of(self, name: bytes) -> int | None:
        """The number of the entry of that name."""
        return self.directory.number_of(name)

    def item(self, entry_number: int) -> tuple[bytes, Attributes]:
        """The name of an entry, and its attributes."""
        entry = self.directory.entry(entry_number)
        inode = inode_of(self.number, entry_number)
        return entry.name, attributes_of(inode, entry, self.time_seconds, self.valid_seconds)

    def items(self, numbers: Sequence[int]) -> Iterable[tuple[bytes, Attributes]]:
        """Those of several entries, a part of `listed`. By the column: of a million files each is
        listed."""
        if not numbers:
            return ()
        first, behind = numbers[0], numbers[-1] + 1
        names, kinds, sizes = self.directory.columns(first, behind)
        inodes = range(inode_of(self.number, first), inode_of(self.number, behind))
        modes = map(mode_of, kinds)
        times, valid = repeat(self.time_seconds), repeat(self.valid_seconds)
        return zip(names, map(Attributes, inodes, modes, sizes, times, valid), strict=True)
