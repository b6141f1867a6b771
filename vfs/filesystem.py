"""RevisionFilesystem: what the kernel asks of a mount, in our own types and errors.

Requests are without state: an inode number says which entry is meant, a file handle is the inode
number, or for a root that moves the number of the directory that it was. Only `read` may touch the
network, and answers within its deadline.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import trio

from store.contents import ContentReader
from store.directories import FOLDER_KINDS, MAX_NAME_BYTES, TRACKED_KINDS, Entry, Kind
from store.errors import RepositoryGone, StoreError
from store.plain_files import PlainFiles
from store.shown_names import escape_name
from vfs.attributes import Attributes
from vfs.errors import FailedJustNow, IsADirectory, NameTooLong, NoSuchName, NotASymlink
from vfs.failed_reads import FailedReads
from vfs.tree import RevisionTree

# "." and ".." come before the entries of a directory.
_DOT_ENTRIES = 2
_POLL_SECONDS = 0.02


class DirectoryItem(NamedTuple):
    """One name of a listing, and the position at which a listing goes on behind it."""

    name: bytes
    attributes: Attributes
    next_position: int


class RevisionFilesystem:
    """What one mount shows. Belongs to one trio loop."""

    def __init__(
        self,
        tree: RevisionTree,
        contents: ContentReader,
        plain_files: PlainFiles,
        timeout_seconds: float,
    ) -> None:
        self._tree = tree
        self._contents = contents
        self._plain_files = plain_files
        self._timeout_seconds = timeout_seconds
        self._failures = FailedReads()
        self._reads_under_way = 0
        self._ending = False

    async def get_attributes(self, inode: int) -> Attributes:
        """The attributes of a node."""
        return await self._tree.load_attributes(inode)

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        """The attributes of the entry of that name. Raises NoSuchName, NameTooLong,
        NotADirectory."""
        if len(name) > MAX_NAME_BYTES:
            raise NameTooLong(name)
        folder = await self._tree.load_folder(parent)
        if name in (b".", b".."):
            return await self.get_attributes(
                parent if name == b"." else self._tree.get_parent_inode(folder.number)
            )
        entry_number = await self._tree.load_number_in(folder, name)
        if entry_number is None:
            raise NoSuchName(name)
        return folder.item(entry_number)[1]

    async def open_directory(self, inode: int) -> int:
        """The handle for `list_directory`. Raises NotADirectory unless the node is a directory that
        can be read."""
        return await self._tree.load_handle(inode)

    async def list_directory(self, handle: int, position: int) -> Iterator[DirectoryItem]:
        """The names of a directory from `position` on (0 at first)."""
        folder = await self._tree.load_folder(handle)
        own = self._tree.get_own_inode(folder.number)
        above = self._tree.get_parent_inode(folder.number)
        dots = [
            DirectoryItem(b".", await self.get_attributes(own), 1),
            DirectoryItem(b"..", await self.get_attributes(above), 2),
        ]

        def items() -> Iterator[DirectoryItem]:
            yield from dots[position:]
            # By number and not by rank: where names come and go none is left out or told twice.
            listed = folder.listed
            for rank in range(bisect_left(listed, position - _DOT_ENTRIES), len(listed)):
                number = listed[rank]
                name, attributes = folder.item(number)
                yield DirectoryItem(name, attributes, number + 1 + _DOT_ENTRIES)

        return items()

    async def check_file(self, inode: int) -> None:
        """Raise IsADirectory for a directory, StaleInode for nothing at all."""
        if (await self._tree.load_entry(inode)).kind in FOLDER_KINDS:
            raise IsADirectory(inode)

    async def read(self, inode: int, offset: int, size: int) -> bytes:
        """The bytes of a file from `offset`: `size` of them, fewer only at its end.

        Raises StoreError, within the deadline, where they cannot be had or proven.
        """
        if self._ending:
            raise StoreError("the mount is being taken down")
        if self._failures.covers(inode, offset, trio.current_time()):
            raise FailedJustNow(inode)
        entry = await self._tree.load_entry(inode)
        self._reads_under_way += 1
        try:
            with trio.fail_after(self._timeout_seconds):
                return await self._read_entry(entry, offset, size)
        except (trio.TooSlowError, StoreError) as error:
            self._failures.note(inode, offset, size, trio.current_time())
            cause = str(error)
            if isinstance(error, trio.TooSlowError):
                cause = f"no bytes within {self._timeout_seconds:g} s of {entry.raw_id.hex()}"
            kind = RepositoryGone if isinstance(error, RepositoryGone) else StoreError
            raise kind(await self._failure(inode, cause)) from error
        finally:
            self._reads_under_way -= 1

    async def finish_reads(self) -> None:
        """Refuse new reads, and wait until those under way have their answer."""
        self._ending = True
        while self._reads_under_way:
            await trio.sleep(_POLL_SECONDS)

    async def read_link(self, inode: int) -> bytes:
        """The target of a symbolic link, as git has it. Raises NotASymlink."""
        entry = await self._tree.load_entry(inode)
        if entry.kind != Kind.SYMLINK:
            raise NotASymlink(inode)
        return await self._plain_files.read_link(entry)

    async def _read_entry(self, entry: Entry, offset: int, size: int) -> bytes:
        if entry.kind in TRACKED_KINDS:
            return await self._contents.read(entry.pointer, offset, size)
        if entry.kind in FOLDER_KINDS:
            raise IsADirectory(entry.name)
        return await self._plain_files.read(entry, offset, size)

    async def _failure(self, inode: int, cause: str) -> str:
        path = escape_name(await self._tree.load_path(inode))
        return f"reading {path} failed: {cause}"
