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
from vfs.first_reads import FirstReads
from vfs.folders import Folder
from vfs.tree import RevisionTree

# "." and ".." come before the entries of a directory.
_DOT_ENTRIES = 2
_POLL_SECONDS = 0.02


class Listing(NamedTuple):
    """The names of a directory, and the inodes of its own two."""

    folder: Folder
    own_inode: int
    parent_inode: int

    @property
    def dots(self) -> tuple[tuple[bytes, int, int], ...]:
        """`.` and `..`, each with its inode and the position behind it."""
        return (b".", self.own_inode, 1), (b"..", self.parent_inode, _DOT_ENTRIES)

    def items(self, position: int, most: int) -> Iterator[tuple[bytes, Attributes, int]]:
        """The other names that stand at `position` or behind it, `most` of them at the most, each
        with its attributes and the position behind it."""
        # By number and not by rank: where names come and go none is left out or told twice.
        listed = self.folder.listed
        rank = bisect_left(listed, position - _DOT_ENTRIES)
        numbers = listed[rank : rank + most]
        for number, (name, attributes) in zip(numbers, self.folder.items(numbers), strict=True):
            yield name, attributes, number + 1 + _DOT_ENTRIES


class RevisionFilesystem:
    """What one mount shows. Belongs to one trio loop."""

    def __init__(
        self,
        tree: RevisionTree,
        contents: ContentReader,
        plain_files: PlainFiles,
        timeout_seconds: float,
        reads: FirstReads | None = None,
    ) -> None:
        """`reads` is told of the files that are read, while it wants that."""
        self._tree = tree
        self._reads = FirstReads(tree) if reads is None else reads
        self._contents = contents
        self._plain_files = plain_files
        self._timeout_seconds = timeout_seconds
        self._failures = FailedReads()
        self._reads_under_way = 0
        self._ending = False

    @property
    def keeps_listings(self) -> bool:
        """Whether a listing of any directory holds for ever."""
        return self._tree.keeps_listings

    # `get_…` answer from memory, or raise Absent; the others from wherever it is.

    def get_attributes(self, inode: int) -> Attributes:
        """The attributes of a node. Raises Absent."""
        return self._tree.get_attributes(inode)

    def get_lookup(self, parent: int, name: bytes) -> Attributes:
        """As `lookup`; raises also Absent."""
        _require_possible(name)
        folder = self._tree.get_folder(parent)
        if name in (b".", b".."):
            return self._tree.get_attributes(self._dot_inode(folder, parent, name))
        return _item_of(folder, name, self._tree.get_number_in(folder, name))

    def get_listing(self, handle: int) -> "Listing":
        """As `list_directory`; raises also Absent."""
        return self._listing(self._tree.get_folder(handle))

    async def load_attributes(self, inode: int) -> Attributes:
        """The attributes of a node."""
        return await self._tree.load_attributes(inode)

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        """The attributes of the entry of that name. Raises NoSuchName, NameTooLong,
        NotADirectory."""
        _require_possible(name)
        folder = await self._tree.load_folder(parent)
        if name in (b".", b".."):
            return await self._tree.load_attributes(self._dot_inode(folder, parent, name))
        return _item_of(folder, name, await self._tree.load_number_in(folder, name))

    async def open_directory(self, inode: int) -> int:
        """The handle for `list_directory`. Raises NotADirectory unless the node is a directory that
        can be read."""
        return await self._tree.load_handle(inode)

    async def list_directory(self, handle: int) -> "Listing":
        """The names of a directory. Raises NotADirectory."""
        return self._listing(await self._tree.load_folder(handle))

    def _dot_inode(self, folder: Folder, parent: int, name: bytes) -> int:
        return parent if name == b"." else self._tree.get_parent_inode(folder.number)

    def _listing(self, folder: Folder) -> "Listing":
        number = folder.number
        return Listing(
            folder, self._tree.get_own_inode(number), self._tree.get_parent_inode(number)
        )

    def read_now(self, inode: int, offset: int, size: int) -> bytes | None:
        """As `read`, where nothing has to be waited for; None where something has."""
        entry = self._tree.get_entry(inode)
        if self._reads.are_wanted:
            self._reads.note(inode, entry.name, offset)
        if self._ending or entry.kind not in TRACKED_KINDS:
            return None
        return self._contents.read_now(entry.pointer, offset, size)

    async def read(self, inode: int, offset: int, size: int) -> bytes:
        """The bytes of a file from `offset`: `size` of them, fewer only at its end.

        Raises StoreError, within the deadline, where they cannot be had or proven.
        """
        if self._ending:
            raise StoreError("the mount is being taken down")
        if self._failures.covers(inode, offset, trio.current_time()):
            raise FailedJustNow(inode)
        entry = await self._tree.load_entry(inode)
        if self._reads.are_wanted:
            self._reads.note(inode, entry.name, offset)
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


def _require_possible(name: bytes) -> None:
    if len(name) > MAX_NAME_BYTES:
        raise NameTooLong(name)


def _item_of(folder: Folder, name: bytes, number: int | None) -> Attributes:
    if number is None:
        raise NoSuchName(name)
    return folder.item(number)[1]
