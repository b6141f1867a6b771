"""RevisionTree: the directories and entries of a mount by number, loaded on demand."""

import logging

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

NO_TREE = bytes(GIT_ID_BYTES)


def folder_entry(name: bytes, tree: bytes) -> Entry:
    """A folder of that tree, as an entry."""
    return Entry(name, Kind.FOLDER, 0, 0, tree + bytes(32 - GIT_ID_BYTES))


class RevisionTree:
    """One revision, or with `moves` the one that `move_to` named last; whatever was shown before
    keeps its numbers. Nothing here touches the network; loading may wait for a disk, in a
    thread."""

    def __init__(
        self, loader: DirectoryLoader, root_tree: bytes, time_seconds: int, *, moves: bool = False
    ) -> None:
        """`root_tree` is a raw tree id, `time_seconds` the time that all of it shows."""
        self._loader = loader
        self._numbers = DirectoryNumbers(root_tree)
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

    async def load_directory(self, number: int) -> Directory:
        """The directory of that number, its folders numbered. Raises StaleInode, GitError."""
        place = self._numbers.place(number)
        if place is None:
            raise StaleInode(number)
        if place.tree == NO_TREE:
            return EMPTY_DIRECTORY
        if place.depth > MAX_DEPTH:
            raise GitError("the folders are nested too deeply")
        found = self._loader.get(place.tree)
        if found is None:
            load = self._loader.load
            found = await trio.to_thread.run_sync(load, place.tree, limiter=GIT_READS)
        self._number_folders(number, found)
        return found

    async def load_entry(self, inode: int) -> Entry:
        """The entry behind an inode number. Raises StaleInode, GitError."""
        if inode == ROOT_INODE:
            return folder_entry(b"", NO_TREE)
        directory, number = split_inode(inode)
        entries = await self.load_directory(directory)
        if not 0 <= number < len(entries):
            raise StaleInode(inode)
        return entries.entry(number)

    async def load_attributes(self, inode: int) -> Attributes:
        """The attributes of a node. Raises as `load_entry` does."""
        entry = await self.load_entry(inode)
        if inode == ROOT_INODE:
            valid_seconds = MOVING_SECONDS if self._moves else FOR_EVER_SECONDS
            return attributes_of(inode, entry, self._times[self._shown], valid_seconds)
        return attributes_of(inode, entry, self._time_of(split_inode(inode).directory))

    async def load_folder(self, inode: int) -> Folder:
        """What is listed of a directory, by its inode number or handle. Raises NotADirectory,
        StaleInode, GitError."""
        number = await self._load_number(inode)
        directory = await self.load_directory(number)
        # Only the names in a root can come to mean something else.
        moves = self._moves and self._numbers.root_of(number) == number
        valid_seconds = MOVING_SECONDS if moves else FOR_EVER_SECONDS
        return RevisionFolder(number, directory, self._time_of(number), valid_seconds)

    async def load_number_in(self, folder: Folder, name: bytes) -> int | None:
        """The number of the entry of that name in a folder, or None. Raises GitError."""
        return folder.number_of(name)

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

    async def _load_number(self, inode: int) -> int:
        """The number of the directory that an inode, or a handle, means."""
        if inode == ROOT_INODE:
            return self._shown
        parent, entry = split_inode(inode)
        if entry < 0:
            return parent
        above = await self.load_directory(parent)
        if entry >= len(above):
            raise StaleInode(inode)
        if above.entry(entry).kind not in FOLDER_KINDS:
            raise NotADirectory(inode)
        return self._numbers.block(parent, ()) + above.folder_rank(entry)

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
