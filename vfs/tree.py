"""RevisionTree: the directories and entries of a mount by number, loaded on demand."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from store.concurrency import GIT_READS
from store.directories import (
    EMPTY_DIRECTORY,
    FOLDER_KINDS,
    GIT_ID_BYTES,
    MAX_DEPTH,
    Directory,
    Entry,
    Kind,
)
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from vfs.attributes import FOR_EVER_SECONDS, MOVING_SECONDS, Attributes, attributes_of
from vfs.errors import NotADirectory, StaleInode
from vfs.folders import Folder, RevisionFolder
from vfs.inodes import (
    ROOT_DIRECTORY,
    ROOT_INODE,
    DirectoryNumbers,
    EntryNumber,
    handle_of,
    inode_of,
    split_inode,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

NO_TREE = bytes(GIT_ID_BYTES)


def folder_entry(name: bytes, tree: bytes) -> Entry:
    """A folder of that tree, as an entry."""
    return Entry(name, Kind.FOLDER, 0, 0, tree + bytes(32 - GIT_ID_BYTES))


class Absent(Exception):
    """A directory is not in memory: loading it may wait for a disk."""

    def __init__(self, tree: bytes) -> None:
        super().__init__(tree.hex())
        self.tree = tree


class RevisionTree:
    """One revision, or with `moves` the one that `move_to` named last; whatever was shown before
    keeps its numbers. Nothing here touches the network; loading may wait for a disk, in a
    thread."""

    def __init__(
        self,
        loader: DirectoryLoader,
        root_tree: bytes,
        time_seconds: int,
        *,
        moves: bool = False,
        numbers: DirectoryNumbers | None = None,
    ) -> None:
        """`root_tree` is a raw tree id, `time_seconds` the time that all of it shows; `numbers` are
        those of that root that other processes share."""
        self._loader = loader
        # At most one: the loader does not keep one that is larger than all that it may keep.
        self._just_loaded: dict[bytes, Directory] = {}
        self._numbers = DirectoryNumbers(root_tree) if numbers is None else numbers
        # Whether a listing holds for ever, also in the kernel.
        self.keeps_listings = not moves
        self._moves = moves
        # The number of the root that the mount's own root shows now, and of each that it showed.
        self._shown = ROOT_DIRECTORY
        self._roots = {(root_tree, time_seconds): ROOT_DIRECTORY}
        # The time of everything below a root, by its number; 0 stands for what is no directory.
        self._times = {0: 0, ROOT_DIRECTORY: time_seconds}

    def move_to(self, root_tree: bytes, time_seconds: int) -> None:
        """Show another revision from now on; one that was shown before gets its numbers back."""
        assert self._moves, "the kernel was told that nothing ever changes"
        number = self._roots.get((root_tree, time_seconds))
        if number is None:
            number = self.add_root(root_tree, time_seconds, split_inode(ROOT_INODE))
            self._roots[root_tree, time_seconds] = number
        self._shown = number

    def add_root(self, root_tree: bytes, time_seconds: int, parent: EntryNumber) -> int:
        """The number of another root, shown as that entry."""
        number = self._numbers.add_root(root_tree, parent)
        self._times[number] = time_seconds
        return number

    # What is asked for is first looked for in memory (`get_…`, which raise Absent); `load_…` bring
    # what is not there.

    def get_directory(self, number: int) -> Directory:
        """The directory of that number, its folders numbered. Raises Absent, StaleInode,
        GitError."""
        place = self._numbers.place(number)
        if place is None:
            raise StaleInode(number)
        if place.tree == NO_TREE:
            return EMPTY_DIRECTORY
        if place.depth > MAX_DEPTH:
            raise GitError("the folders are nested too deeply")
        found = self._loader.get(place.tree)
        if found is None:
            found = self._just_loaded.get(place.tree)
        if found is None:
            raise Absent(place.tree)
        self._number_folders(number, found)
        return found

    def get_entry(self, inode: int) -> Entry:
        """The entry behind an inode number. Raises Absent, StaleInode, GitError."""
        if inode == ROOT_INODE:
            return folder_entry(b"", NO_TREE)
        directory, number = split_inode(inode)
        entries = self.get_directory(directory)
        if not 0 <= number < len(entries):
            raise StaleInode(inode)
        return entries.entry(number)

    def get_attributes(self, inode: int) -> Attributes:
        """The attributes of a node. Raises as `get_entry` does."""
        entry = self.get_entry(inode)
        if inode == ROOT_INODE:
            valid_seconds = MOVING_SECONDS if self._moves else FOR_EVER_SECONDS
            return attributes_of(inode, entry, self._times[self._shown], valid_seconds)
        return attributes_of(inode, entry, self._time_of(split_inode(inode).directory))

    def get_folder(self, inode: int) -> Folder:
        """What is listed of a directory, by its inode number or handle. Raises Absent,
        NotADirectory, StaleInode, GitError."""
        number = self._get_number(inode)
        directory = self.get_directory(number)
        # Only the names in a root can come to mean something else.
        moves = self._moves and self._numbers.root_of(number) == number
        valid_seconds = MOVING_SECONDS if moves else FOR_EVER_SECONDS
        return RevisionFolder(number, directory, self._time_of(number), valid_seconds)

    def get_number_in(self, folder: Folder, name: bytes) -> int | None:
        """The number of the entry of that name in a folder, or None. Raises Absent."""
        return folder.number_of(name)

    async def load_directory(self, number: int) -> Directory:
        """As `get_directory`, from wherever it is."""
        return await self._load(partial(self.get_directory, number))

    async def load_entry(self, inode: int) -> Entry:
        """As `get_entry`, from wherever it is."""
        return await self._load(partial(self.get_entry, inode))

    async def load_attributes(self, inode: int) -> Attributes:
        """As `get_attributes`, from wherever it is."""
        return await self._load(partial(self.get_attributes, inode))

    async def load_folder(self, inode: int) -> Folder:
        """As `get_folder`, from wherever it is."""
        return await self._load(partial(self.get_folder, inode))

    async def load_number_in(self, folder: Folder, name: bytes) -> int | None:
        """As `get_number_in`, from wherever it is."""
        return self.get_number_in(folder, name)

    async def load_handle(self, inode: int) -> int:
        """A handle by which a directory can be listed: one listing is of one revision. Raises as
        `load_folder` does."""
        folder = await self.load_folder(inode)
        return handle_of(folder.number) if self._moves and inode == ROOT_INODE else inode

    def get_own_inode(self, number: int) -> int:
        """The inode of a directory itself."""
        place = self._numbers.place(number)
        return ROOT_INODE if place is None else inode_of(*place.parent)

    def get_parent_inode(self, number: int) -> int:
        """The inode of the directory above a directory; the root is its own."""
        place = self._numbers.place(number)
        return ROOT_INODE if place is None else self.get_own_inode(place.parent.directory)

    async def load_path(self, inode: int) -> bytes:
        """The path of an inode from the root, for messages."""
        names: list[bytes] = []
        while inode != ROOT_INODE:
            names.append((await self.load_entry(inode)).name)
            inode = self.get_own_inode(split_inode(inode).directory)
        return b"/".join(reversed(names))

    async def _load(self, get: Callable[[], T]) -> T:
        """What `get` gives once nothing that it needs is absent any more."""
        while True:
            try:
                return get()
            except Absent as absent:
                # Once it is there, nothing comes between it and the next try.
                await self._bring(absent)

    async def _bring(self, absent: Absent) -> None:
        load = partial(self._loader.load, absent.tree)
        found = await trio.to_thread.run_sync(load, limiter=GIT_READS)
        self._just_loaded = {absent.tree: found}

    def _get_number(self, inode: int) -> int:
        """The number of the directory that an inode, or a handle, means."""
        if inode == ROOT_INODE:
            return self._shown
        place = split_inode(inode)
        if place.entry < 0:
            return place.directory
        found = self._numbers.folder_at(place)
        if found is not None:
            return found
        above = self.get_directory(place.directory)
        if place.entry >= len(above):
            raise StaleInode(inode)
        if above.entry(place.entry).kind not in FOLDER_KINDS:
            raise NotADirectory(inode)
        return self._numbers.block(place.directory, ()) + above.folder_rank(place.entry)

    def _time_of(self, number: int) -> int:
        return self._times[self._numbers.root_of(number)]

    def _number_folders(self, number: int, directory: Directory) -> None:
        if self._numbers.has_block(number):
            return
        folders = []
        for entry_number in directory.folder_numbers():
            entry = directory.entry(entry_number)
            folders.append((entry_number, entry.tree if entry.kind == Kind.FOLDER else NO_TREE))
        self._numbers.block(number, folders)
