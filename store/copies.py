"""Copies of chunks that a remote has lost: staged, cached, in the work tree's own files, in other
remotes, and what is left of them in damaged packs. Each is proven before it counts.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple, Protocol

import trio

from store.cache_rows import PackPlace
from store.chunk_list import ChunkList, encode_chunk_list, parse_chunk_list
from store.chunking import ChunkingParameters, read_chunks
from store.concurrency import DISK_READS
from store.errors import ChunkMissing, StoreError
from store.ids import ChunkId, chunk_id
from store.local_chunks import chunks_of
from store.local_store import LocalStore
from store.packs import PackEntry, unpack_chunk
from store.pointer import Pointer
from store.push_contents import ReadsChunks, WantedFile
from store.remote import Remote, pack_key
from store.verify_places import PlaceBook

_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Stretch(NamedTuple):
    """A stretch of a local file, in bytes."""

    path: bytes
    start: int
    length: int

    def read(self) -> bytes:
        """What is there now. Raises ChunkMissing where that is nothing, or too little."""
        try:
            descriptor = os.open(self.path, _OPEN_FLAGS)
        except OSError as error:
            raise ChunkMissing(f"{os.fsdecode(self.path)}: {error.strerror}") from error
        try:
            found = os.pread(descriptor, self.length, self.start)
        except OSError as error:
            raise ChunkMissing(f"{os.fsdecode(self.path)}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if len(found) != self.length:
            raise ChunkMissing(f"{os.fsdecode(self.path)} is shorter than it was")
        return found


class FindsCopies(Protocol):
    """One kind of places where a copy may be. `name` is what a person knows it by."""

    @property
    def name(self) -> str: ...

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """The whole chunk, proven. Raises StoreError."""
        ...


class LocalCopies:
    """Chunks that are staged, or in the pack cache, whatever its tables say of the remote."""

    name = "staged or cached"

    def __init__(self, local: LocalStore, book: PlaceBook) -> None:
        self._local = local
        self._book = book
        # Where a chunk was found: what the tables say of a pack may be forgotten meanwhile.
        self._found: dict[ChunkId, tuple[Path, PackEntry]] = {}

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """See FindsCopies."""
        return await trio.to_thread.run_sync(self._read, chunk, limiter=DISK_READS)

    def _read(self, chunk: ChunkId) -> bytes:
        known = self._found.get(chunk)
        for path, entry in [known] if known is not None else self._places(chunk):
            try:
                stored = Stretch(os.fsencode(path), entry.offset, entry.stored_length).read()
                raw = unpack_chunk(entry, stored)
            except StoreError:
                continue
            self._found[chunk] = path, entry
            return raw
        raise ChunkMissing(f"chunk {chunk.hex()} is not here")

    def _places(self, chunk: ChunkId) -> list[tuple[Path, PackEntry]]:
        local = self._local
        found: list[tuple[Path, PackEntry]] = []
        staged = None if local.staging is None else local.staging.load_place(chunk)
        if local.staging is not None and staged is not None:
            found.append((local.staging.path_of(staged.pack), staged.entry))
        (places,) = self._book.load([chunk])
        cached: list[PackPlace | None] = [*places.sound, *places.damaged]
        store = local.load_store_id()
        if store is not None:
            cached.append(local.index.load_place(store, chunk))
        found += [(local.cache.path_of(p.pack), p.entry) for p in cached if p is not None]
        return found


class RemoteCopies:
    """Chunks that another remote of the repository has."""

    def __init__(
        self, name: str, source: ReadsChunks, learn: Callable[[], Awaitable[None]]
    ) -> None:
        """`learn` makes all known here that the remote holds; it is awaited before the first chunk
        is looked for."""
        self.name = f"remote {name}"
        self._source = source
        self._learn = learn
        self._has_learnt = False

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """See FindsCopies."""
        if not self._has_learnt:
            self._has_learnt = True
            await self._learn()
        if not self._source.can_read(chunk):
            raise ChunkMissing(f"chunk {chunk.hex()} is not in {self.name}")
        return await self._source.read_chunk(chunk)


class SalvagedCopies:
    """What can be read still of packs that are damaged, or that no index object tells of."""

    name = "damaged packs"

    def __init__(self, remote: Remote, book: PlaceBook, timeout_seconds: float) -> None:
        self._remote = remote
        self._book = book
        self._timeout_seconds = timeout_seconds

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """See FindsCopies."""
        (places,) = self._book.load([chunk])
        for place in (*places.sound, *places.damaged):
            try:
                return await self._read(place)
            except StoreError:
                continue
        raise ChunkMissing(f"chunk {chunk.hex()} is in no pack that can be read")

    def can_read(self, chunk: ChunkId) -> bool:
        """Whether there is a pack that should have it."""
        (places,) = self._book.load([chunk])
        return bool(places.sound or places.damaged)

    async def _read(self, place: PackPlace) -> bytes:
        entry = place.entry
        stored = await self._remote.fetch_range(
            pack_key(place.pack),
            entry.offset,
            entry.stored_length,
            timeout_seconds=self._timeout_seconds,
        )
        return await trio.to_thread.run_sync(unpack_chunk, entry, stored, limiter=DISK_READS)


class WorkTreeCopies:
    """Chunks of files in the work tree that stand where a commit has them, and are as it has them.
    Who asks for a chunk has to `offer` its file before."""

    name = "work tree"

    def __init__(self, top: Path | None, chunking: ChunkingParameters) -> None:
        """`top` is None where there is no work tree."""
        self._top = None if top is None else os.fsencode(top)
        self._chunking = chunking
        self._stretches: dict[ChunkId, Stretch] = {}
        # Chunk lists that were made anew from a file.
        self._lists: dict[ChunkId, bytes] = {}

    async def offer(self, file: WantedFile, chunk_list: ChunkList | None) -> ChunkList | None:
        """Look whether the file stands in the work tree; its chunk list, where it has one that was
        known, or could be made anew."""
        return await trio.to_thread.run_sync(self._offer, file, chunk_list, limiter=DISK_READS)

    def _offer(self, file: WantedFile, chunk_list: ChunkList | None) -> ChunkList | None:
        if self._top is None:
            return chunk_list
        pointer, path = file.pointer, self._top + b"/" + file.why.path
        try:
            status = os.lstat(path)
        except OSError:
            return chunk_list
        if status.st_size != pointer.size:
            return chunk_list
        if pointer.chunks == 1:
            self._stretches[pointer.content] = Stretch(path, 0, pointer.size)
            return None
        if chunk_list is None:
            chunk_list = self._make_list(path, pointer)
        if chunk_list is not None:
            spans = map(chunk_list.span, range(len(chunk_list)))
            self._stretches |= {s.chunk: Stretch(path, s.start, s.length) for s in spans}
            self._lists[pointer.content] = _encode(chunk_list)
        return chunk_list

    def _make_list(self, path: bytes, pointer: Pointer) -> ChunkList | None:
        try:
            with FileIO(os.open(path, _OPEN_FLAGS), "rb") as file:
                cut = [(chunk_id(raw), len(raw)) for raw in read_chunks(file, self._chunking)]
        except OSError:
            return None
        if len(cut) != pointer.chunks:
            return None
        raw = encode_chunk_list(cut)
        return parse_chunk_list(raw, pointer) if chunk_id(raw) == pointer.content else None

    def known_list(self, pointer: Pointer) -> ChunkList | None:
        """The chunk list of a file that was offered, and has one."""
        raw = self._lists.get(pointer.content)
        return None if raw is None else parse_chunk_list(raw, pointer)

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """See FindsCopies."""
        return await trio.to_thread.run_sync(self._read, chunk, limiter=DISK_READS)

    def _read(self, chunk: ChunkId) -> bytes:
        made = self._lists.get(chunk)
        stretch = self._stretches.get(chunk)
        if made is None and stretch is None:
            raise ChunkMissing(f"chunk {chunk.hex()} is in no file of the work tree")
        raw = made if made is not None or stretch is None else stretch.read()
        if raw is None or chunk_id(raw) != chunk:
            raise ChunkMissing(f"chunk {chunk.hex()} is not in its file of the work tree any more")
        return raw


def _encode(chunk_list: ChunkList) -> bytes:
    spans = map(chunk_list.span, range(len(chunk_list)))
    return encode_chunk_list([(span.chunk, span.length) for span in spans])


@dataclass(slots=True)
class CopyCount:
    """How many chunks there are of a kind, and their bytes."""

    chunks: int = 0
    size_bytes: int = 0


class Copies:
    """All kinds of copies, tried in order; a chunk counts once it was found and proven."""

    def __init__(self, kinds: Sequence[FindsCopies]) -> None:
        self._kinds = kinds
        self._found: dict[ChunkId, FindsCopies] = {}
        self.counts: dict[str, CopyCount] = {}

    async def find(self, chunk: ChunkId) -> bool:
        """Whether there is a copy of a chunk."""
        if chunk in self._found:
            return True
        for kind in self._kinds:
            try:
                raw = await kind.read_chunk(chunk)
            except StoreError:
                continue
            self._found[chunk] = kind
            count = self.counts.setdefault(kind.name, CopyCount())
            count.chunks += 1
            count.size_bytes += len(raw)
            return True
        return False

    def can_read(self, chunk: ChunkId) -> bool:
        """Whether `find` has found it."""
        return chunk in self._found

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """A chunk that was found. Raises StoreError where it went away meanwhile."""
        return await self._found[chunk].read_chunk(chunk)


def all_chunks(pointer: Pointer, chunk_list: ChunkList | None) -> list[ChunkId]:
    """The chunks of a file, its list first."""
    return [pointer.content, *(chunks_of(chunk_list) if chunk_list is not None else ())]
