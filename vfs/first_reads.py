"""FirstReads: what a process that serves a mount tells the keeper of the files that are read, while
the keeper wants to hear of it.

Told is the beginning of each reading: the first read of a file here, and every one of its first
byte. Nobody who reads waits for that.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio

from store.errors import StoreError
from store.messages import FileRead
from vfs.errors import RequestError
from vfs.inodes import split_inode
from vfs.tree import RevisionTree

log = logging.getLogger(__name__)

# What comes in so short a time is told at once.
_BATCH_SECONDS = 0.004
_MOST_PER_MESSAGE = 10_000
# What is forgotten of these, while nobody listens, is a hint less.
_MOST_WAITING = 100_000
_KNOWN_FOLDERS = 65_536

Tell = Callable[[Sequence[FileRead]], Awaitable[None]]


class InodeSet:
    """A set of inode numbers: a bit for each entry of a directory."""

    def __init__(self) -> None:
        self._directories: dict[int, bytearray] = {}

    def add(self, inode: int) -> bool:
        """Add one; whether it is new."""
        directory, entry = split_inode(inode)
        bits = self._directories.setdefault(directory, bytearray())
        place, bit = entry >> 3, 1 << (entry & 7)
        if place >= len(bits):
            bits.extend(bytes(place + 1 - len(bits)))
        is_new = not bits[place] & bit
        bits[place] |= bit
        return is_new


class _Note(NamedTuple):
    seconds: float
    inode: int
    is_first: bool
    name: bytes


class FirstReads:
    """Notes of reads, and who tells of them. Belongs to one trio loop."""

    def __init__(self, tree: RevisionTree) -> None:
        self._tree = tree
        self.are_wanted = False
        self._seen = InodeSet()
        self._last = 0
        # In the order in which they were made.
        self._waiting: list[_Note] = []
        self._woken = trio.Event()
        self._telling = trio.Lock()
        # The path of each directory number, with a slash behind it unless it is the root.
        self._folders: dict[int, bytes] = {}

    def watch(self, wanted: bool) -> None:
        """From now on reads are to be noted, or are not."""
        self.are_wanted = wanted
        if not wanted:
            self._waiting.clear()

    def note(self, inode: int, name: bytes, offset: int) -> None:
        """A file is being read at that offset; to be called while they are wanted."""
        if inode == self._last:
            return
        self._last = inode
        is_first = self._seen.add(inode)
        if (is_first or not offset) and len(self._waiting) < _MOST_WAITING:
            self._waiting.append(_Note(time.monotonic(), inode, is_first, name))
            self._woken.set()

    async def run(self, tell: Tell) -> None:
        """Tell of reads until cancelled."""
        while True:
            await self._woken.wait()
            await trio.sleep(_BATCH_SECONDS)
            self._woken = trio.Event()
            await self.tell_waiting(tell)

    async def tell_waiting(self, tell: Tell) -> None:
        """Tell of all that was noted so far; return when it was heard."""
        async with self._telling:
            while self._waiting:
                notes = self._waiting[:_MOST_PER_MESSAGE]
                del self._waiting[:_MOST_PER_MESSAGE]
                try:
                    await tell([await self._read_of(note) for note in notes])
                except (StoreError, RequestError) as error:
                    # Whoever listens will do without them.
                    log.debug("reads are not told of: %s", error)

    async def _read_of(self, note: _Note) -> FileRead:
        number = split_inode(note.inode).directory
        folder = self._folders.get(number)
        if folder is None:
            folder = await self._tree.load_path(self._tree.get_own_inode(number))
            folder = folder + b"/" if folder else b""
            if len(self._folders) >= _KNOWN_FOLDERS:
                self._folders.clear()
            self._folders[number] = folder
        return FileRead(note.seconds, note.inode, note.is_first, folder + note.name)
