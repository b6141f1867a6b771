"""Materialising: files of a revision on their way to a disk, many at once.

They are read in the order of their paths, in which they lie in the packs, and what the next ones
need is fetched while these are written. A large file goes in pieces; no file is held whole but a
small one. Where a file goes, and when it is in place, is for its Target to say.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import trio

from store.chunk_source import ChunkSource
from store.concurrency import DISK_WRITES, GIT_READS
from store.contents import ContentReader
from store.directories import FOLDER_KINDS, MAX_DEPTH, TRACKED_KINDS, Entry, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError, LocalDiskFull, StoreError
from store.ids import ChunkId
from store.paths import PathEntry
from store.plain_files import PlainFiles
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.tables import is_no_space

log = logging.getLogger(__name__)

FILES_AT_ONCE = 32
"""How many files are read and written side by side, where nobody says."""

_PIECE_BYTES = 4 << 20
_BATCH_FILES = 512
# Twice this is fetched ahead at most, and must not push out of a small cache what is not read yet.
_BATCH_BYTES = 32 << 20
_SHARE_OF_CACHE = 8

T = TypeVar("T")


class FileItem(NamedTuple):
    """A file, link or submodule of a revision, and its path from where writing begins."""

    path: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be written; the text of the error begins with its path."""

    path: bytes
    error: StoreError


class Target(Protocol):
    """Where one file goes. Its calls wait for a disk, and may raise OSError or StoreError."""

    def write(self, content: bytes) -> None:
        """Take the next bytes of the file; of a link, its target."""
        ...

    def finish(self) -> None:
        """Put the file in its place."""
        ...

    def discard(self) -> None:
        """Leave nothing of it."""
        ...


class Contents(Protocol):
    """Gives the bytes of entries."""

    async def read(self, entry: Entry, offset: int, size: int) -> bytes:
        """The bytes from `offset`, `size` of them or as many as there are; of a link, its target.
        Raises StoreError."""
        ...


class FileContents:
    """The bytes of entries of every kind: tracked ones from chunks, all others from git."""

    def __init__(self, tracked: ContentReader, plain: PlainFiles) -> None:
        self._tracked = tracked
        self._plain = plain

    async def read(self, entry: Entry, offset: int, size: int) -> bytes:
        """As in `Contents`."""
        if entry.kind in TRACKED_KINDS:
            return await self._tracked.read(entry.pointer, offset, size)
        if entry.kind == Kind.SYMLINK:
            return await self._plain.read_link(entry)
        return await self._plain.read(entry, offset, size)


def walk_files(loader: DirectoryLoader, found: PathEntry) -> Iterator[FileItem]:
    """Everything but folders at or below an entry, in order of path; paths are from the folder, or
    the name alone where it is a file. Raises GitError for what git cannot give."""
    if found.entry.kind in FOLDER_KINDS:
        yield from _walk_folder(loader, found.entry, b"", 0)
    else:
        yield FileItem(found.entry.name, found.entry)


def _walk_folder(
    loader: DirectoryLoader, folder: Entry, path: bytes, depth: int
) -> Iterator[FileItem]:
    if depth > MAX_DEPTH:
        raise GitError(f"the folders of {escape_name(path)} are nested too deeply")
    for entry in loader.load_entry(folder):
        below = path + b"/" + entry.name if path else entry.name
        if entry.kind == Kind.FOLDER:
            yield from _walk_folder(loader, entry, below, depth + 1)
        else:
            yield FileItem(below, entry)


def batch_bytes(cache_size_bytes: int | None) -> int:
    """How much is fetched ahead at a time with a cache of that size (None: no limit is set)."""
    if cache_size_bytes is None:
        return _BATCH_BYTES
    return min(_BATCH_BYTES, cache_size_bytes // _SHARE_OF_CACHE)


class FetchAhead:
    """Has a remote send what is not read yet. Belongs to one trio loop."""

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._asked = False

    async def fetch(self, contents: list[ChunkId]) -> None:
        """Begin to get these. Where one is not known the remote is asked, once, what it holds; that
        it does not answer is for the reader of that file to find."""
        unknown = (content for content in contents if self._source.locate(content) is None)
        if not self._asked and next(unknown, None) is not None:
            self._asked = True
            try:
                await self._source.learn_commit()
            except StoreError as error:
                log.debug("nothing is fetched ahead: %s", error)
        self._source.prefetch(contents)


class FileWriter:
    """Writes many files at once. Belongs to one trio loop."""

    def __init__(
        self,
        contents: Contents,
        open_target: Callable[[FileItem], Target],
        progress: ByteProgress,
        *,
        at_once: int = FILES_AT_ONCE,
        ahead_bytes: int = _BATCH_BYTES,
        ahead: FetchAhead | None = None,
    ) -> None:
        """`ahead` gets what is read next, up to `ahead_bytes` at a time."""
        self._contents = contents
        self._open_target = open_target
        self._progress = progress
        self._places = trio.Semaphore(at_once)
        self._ahead_bytes = ahead_bytes
        self._ahead = ahead
        self.failures: list[Failure] = []

    async def write(self, items: Iterator[FileItem], *, go_on: bool = False) -> None:
        """Write all of `items`, which are asked for in a thread where git may be read.

        The first StoreError, which names its file, ends the work and is raised; with `go_on` it is
        put to `failures` and the other files are written.
        """
        async with trio.open_nursery() as nursery:
            following = await self._take(items)
            while following and (go_on or not self.failures):
                batch, following = following, await self._take(items)
                for item in batch:
                    await self._places.acquire()
                    nursery.start_soon(self._run, item, nursery.cancel_scope, go_on)
        if self.failures and not go_on:
            raise self.failures[0].error

    async def _take(self, items: Iterator[FileItem]) -> Sequence[FileItem]:
        take = partial(_take_batch, items, self._ahead_bytes)
        batch = await trio.to_thread.run_sync(take, limiter=GIT_READS)
        if self._ahead is not None:
            tracked = [item.entry for item in batch if item.entry.kind in TRACKED_KINDS]
            await self._ahead.fetch([entry.pointer.content for entry in tracked])
        return batch

    async def _run(self, item: FileItem, scope: trio.CancelScope, go_on: bool) -> None:
        try:
            await self._write_file(item)
        except StoreError as error:
            self.failures.append(Failure(item.path, error))
            if not go_on:
                scope.cancel()
        finally:
            self._places.release()

    async def _write_file(self, item: FileItem) -> None:
        first = await self._read(item, 0)
        if item.entry.size <= _PIECE_BYTES:
            await _in_thread(item, partial(self._write_whole, item, first))
        else:
            await self._write_pieces(item, first)
        self._progress.advance(0, items=1)

    def _write_whole(self, item: FileItem, content: bytes) -> None:
        target = self._open_target(item)
        try:
            target.write(content)
            target.finish()
        except BaseException:
            target.discard()
            raise

    async def _write_pieces(self, item: FileItem, first: bytes) -> None:
        target = await _in_thread(item, partial(self._open_target, item))
        try:
            await _in_thread(item, partial(target.write, first))
            for offset in range(_PIECE_BYTES, item.entry.size, _PIECE_BYTES):
                content = await self._read(item, offset)
                await _in_thread(item, partial(target.write, content))
            await _in_thread(item, target.finish)
        except BaseException:
            # Not in a thread: whoever cancels waits for nothing more.
            target.discard()
            raise

    async def _read(self, item: FileItem, offset: int) -> bytes:
        try:
            content = await self._contents.read(item.entry, offset, _PIECE_BYTES)
        except StoreError as error:
            raise StoreError(f"{escape_name(item.path)}: {error}") from error
        self._progress.advance(len(content))
        return content


def _take_batch(items: Iterator[FileItem], most_bytes: int) -> list[FileItem]:
    batch: list[FileItem] = []
    total = 0
    for item in items:
        batch.append(item)
        total += item.entry.size
        if total >= most_bytes or len(batch) >= _BATCH_FILES:
            break
    return batch


async def _in_thread(item: FileItem, work: Callable[[], T]) -> T:
    """What `work` returns, which may wait for a disk; its OSError as a StoreError that names the
    file."""
    try:
        return await trio.to_thread.run_sync(work, limiter=DISK_WRITES)
    except OSError as error:
        raise named(item.path, error) from error


def named(path: bytes, error: OSError) -> StoreError:
    """What a person is told of an error of the disk that `path` ran into."""
    kind = LocalDiskFull if is_no_space(error) else StoreError
    return kind(f"{escape_name(path)} cannot be written: {error.strerror or error}")
