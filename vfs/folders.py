"""Folders as a mount lists them: numbered entries with their attributes.

A folder of a revision never changes; what a folder of names (`vfs.named_revisions`) shows does.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from store.directories import Directory
from vfs.attributes import Attributes, attributes_of
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
