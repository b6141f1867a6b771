"""NamedRevisions: folders of names (branches, tags, commits) with a revision behind each.

The entry numbers of a folder of names are given out here and nowhere else: one for each name and
commit, never another's and never taken back. So an inode number means one commit for ever, and one
commit under two names has two (the kernel takes a folder with two names for one that was moved).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from store.directories import Entry
from store.directory_loader import DirectoryLoader
from store.git_refs import Tip
from vfs.attributes import MOVING_SECONDS, Attributes, attributes_of
from vfs.errors import StaleInode
from vfs.folders import Folder
from vfs.inodes import ROOT_DIRECTORY, ROOT_INODE, EntryNumber, inode_of, split_inode
from vfs.ref_names import COMMITS, Names, Path, RefNames, Snapshot
from vfs.tree import NO_TREE, Absent, RevisionTree, folder_entry


class _Named(NamedTuple):
    """An entry of a folder of names: the number of its directory, and what that shows; None for
    another folder of names."""

    name: bytes
    directory: int
    tip: Tip | None

    @property
    def entry(self) -> Entry:
        return folder_entry(self.name, NO_TREE if self.tip is None else self.tip.tree)


@dataclass(slots=True)
class NameFolder:
    """The entries of one folder of names. They only grow."""

    number: int
    path: Path
    entries: list[_Named] = field(default_factory=list)
    # (name, commit or None for a folder) → entry number: one for each entry.
    _numbers: dict[tuple[bytes, str | None], int] = field(default_factory=dict)

    def number_of(self, name: bytes, tip: Tip | None) -> int | None:
        """The number of an entry, if it has one yet."""
        return self._numbers.get((name, None if tip is None else tip.commit))

    def append(self, entry: _Named) -> None:
        """Give the entry the next number."""
        self._numbers[entry.name, None if entry.tip is None else entry.tip.commit] = len(
            self.entries
        )
        self.entries.append(entry)


class NameListing(NamedTuple):
    """A folder of names as it is at one moment; see `vfs.folders.Folder`."""

    folder: NameFolder
    current: dict[bytes, int]
    listed: Sequence[int]
    time_seconds: int

    @property
    def number(self) -> int:
        """Its directory number."""
        return self.folder.number

    def number_of(self, name: bytes) -> int | None:
        """The number of the entry that has that name now."""
        return self.current.get(name)

    def item(self, entry_number: int) -> tuple[bytes, Attributes]:
        """The name of an entry, and its attributes: the time is its commit's."""
        named = self.folder.entries[entry_number]
        time_seconds = self.time_seconds if named.tip is None else named.tip.time_seconds
        inode = inode_of(self.number, entry_number)
        return named.name, attributes_of(inode, named.entry, time_seconds, MOVING_SECONDS)

    def items(self, numbers: Sequence[int]) -> Iterable[tuple[bytes, Attributes]]:
        """Those of several entries."""
        return map(self.item, numbers)


class NamedRevisions(RevisionTree):
    """All revisions of a repository by name; below each, a RevisionTree like any other."""

    def __init__(self, loader: DirectoryLoader, names: RefNames) -> None:
        super().__init__(loader, NO_TREE, 0)
        self.keeps_listings = False
        self._names = names
        self._folders = {ROOT_DIRECTORY: NameFolder(ROOT_DIRECTORY, ())}
        # The last listing of each folder, and the snapshot that it is of.
        self._listings: dict[int, tuple[Snapshot, NameListing]] = {}

    def get_entry(self, inode: int) -> Entry:
        named = self._named(inode)
        return super().get_entry(inode) if named is None else named.entry

    def get_attributes(self, inode: int) -> Attributes:
        named = self._named(inode)
        if named is None and inode != ROOT_INODE:
            return super().get_attributes(inode)
        tip = None if named is None else named.tip
        time_seconds = self._get_names().time_seconds if tip is None else tip.time_seconds
        return attributes_of(inode, self.get_entry(inode), time_seconds, MOVING_SECONDS)

    def get_folder(self, inode: int) -> Folder:
        named = self._named(inode)
        number = ROOT_DIRECTORY if named is None else named.directory
        folder = self._folders.get(number)
        if folder is None or (named is None and inode != ROOT_INODE):
            return super().get_folder(inode)
        return self._list(folder, self._get_names())

    def get_number_in(self, folder: Folder, name: bytes) -> int | None:
        found = folder.number_of(name)
        if found is None and _is_of_commits(folder):
            # Perhaps it is one that is not listed: only git knows.
            raise Absent(NO_TREE)
        return found

    async def load_number_in(self, folder: Folder, name: bytes) -> int | None:
        """The number of the entry of that name, in `commits` also by the beginning of an id."""
        found = folder.number_of(name)
        if found is not None or not isinstance(folder, NameListing):
            return found
        if not _is_of_commits(folder):
            return None
        tip = await self._names.find_commit(name)
        return None if tip is None else self._number(folder.folder, name, tip)

    def _get_number(self, inode: int) -> int:
        named = self._named(inode)
        return super()._get_number(inode) if named is None else named.directory

    def _get_names(self) -> Snapshot:
        snapshot = self._names.get()
        if snapshot is None:
            raise Absent(NO_TREE)
        return snapshot

    async def _bring(self, absent: Absent) -> None:
        if absent.tree == NO_TREE:
            await self._names.load()
        else:
            await super()._bring(absent)

    def _named(self, inode: int) -> _Named | None:
        """The entry of a folder of names behind an inode number, if it is one."""
        directory, number = split_inode(inode)
        folder = self._folders.get(directory)
        if folder is None:
            return None
        if not 0 <= number < len(folder.entries):
            raise StaleInode(inode)
        return folder.entries[number]

    def _list(self, folder: NameFolder, snapshot: Snapshot) -> NameListing:
        known = self._listings.get(folder.number)
        if known is not None and known[0] is snapshot:
            return known[1]
        names: Names = snapshot.folder(folder.path)
        current: dict[bytes, int] = {}
        for name in sorted(names):
            target = names[name]
            current[name] = self._number(folder, name, target if isinstance(target, Tip) else None)
        listing = NameListing(folder, current, sorted(current.values()), snapshot.time_seconds)
        self._listings[folder.number] = snapshot, listing
        return listing

    def _number(self, folder: NameFolder, name: bytes, tip: Tip | None) -> int:
        """The number of an entry, given out now if it is the first time."""
        known = folder.number_of(name, tip)
        if known is not None:
            return known
        number = len(folder.entries)
        place = EntryNumber(folder.number, number)
        if tip is None:
            directory = self.add_root(NO_TREE, 0, place)
            self._folders[directory] = NameFolder(directory, (*folder.path, name))
        else:
            directory = self.add_root(tip.tree, tip.time_seconds, place)
        folder.append(_Named(name, directory, tip))
        return number


def _is_of_commits(folder: Folder) -> bool:
    return isinstance(folder, NameListing) and folder.folder.path == (COMMITS,)
