"""RevisionTree: the directories and entries of one revision by number, loaded on demand."""

import logging

import trio

from store.concurrency import GIT_READS
from store.directories import (
    EMPTY_DIRECTORY,
    GIT_ID_BYTES,
    MAX_DEPTH,
    Directory,
    Entry,
    Kind,
)
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from vfs.errors import NotADirectory, StaleInode
from vfs.inodes import (
    ROOT_DIRECTORY,
    ROOT_INODE,
    DirectoryNumbers,
    inode_of,
    split_inode,
)

log = logging.getLogger(__name__)

_NO_TREE = bytes(GIT_ID_BYTES)


class RevisionTree:
    """One revision. Nothing here touches the network; loading may wait for a disk, in a thread."""

    def __init__(self, loader: DirectoryLoader, root_tree: bytes) -> None:
        self._loader = loader
        self._numbers = DirectoryNumbers(root_tree)
        self._root = Entry(b"", Kind.FOLDER, 0, 0, root_tree + bytes(32 - GIT_ID_BYTES))

    async def load_directory(self, number: int) -> Directory:
        """The directory of that number, its folders numbered. Raises StaleInode, GitError."""
        place = self._numbers.place(number)
        if place is None:
            raise StaleInode(number)
        if place.tree == _NO_TREE:
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
            return self._root
        directory, number = split_inode(inode)
        entries = await self.load_directory(directory)
        if not 0 <= number < len(entries):
            raise StaleInode(inode)
        return entries.entry(number)

    async def load_directory_of(self, inode: int) -> tuple[int, Directory]:
        """Number and entries of the directory that an inode is. Raises NotADirectory."""
        if inode == ROOT_INODE:
            return ROOT_DIRECTORY, await self.load_directory(ROOT_DIRECTORY)
        parent, entry = split_inode(inode)
        above = await self.load_directory(parent)
        if not 0 <= entry < len(above):
            raise StaleInode(inode)
        if above.entry(entry).kind not in (Kind.FOLDER, Kind.SUBMODULE):
            raise NotADirectory(inode)
        number = self._numbers.block(parent, ()) + above.folder_rank(entry)
        return number, await self.load_directory(number)

    def get_parent_inode(self, number: int) -> int:
        """The inode of the directory above a directory; the root is its own."""
        place = self._numbers.place(number)
        if place is None or number == ROOT_DIRECTORY:
            return ROOT_INODE
        above = self._numbers.place(place.parent.directory)
        return ROOT_INODE if above is None else inode_of(*above.parent)

    async def load_path(self, inode: int) -> bytes:
        """The path of an inode from the root, for messages."""
        names: list[bytes] = []
        while inode != ROOT_INODE:
            names.append((await self.load_entry(inode)).name)
            inode = self._containing_inode(split_inode(inode).directory)
        return b"/".join(reversed(names))

    def _containing_inode(self, directory: int) -> int:
        place = self._numbers.place(directory)
        return ROOT_INODE if place is None else inode_of(*place.parent)

    def _number_folders(self, number: int, directory: Directory) -> None:
        if self._numbers.has_block(number):
            return
        folders = []
        for entry_number in directory.folder_numbers():
            entry = directory.entry(entry_number)
            folders.append((entry_number, entry.tree if entry.kind == Kind.FOLDER else _NO_TREE))
        self._numbers.block(number, folders)
