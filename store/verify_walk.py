"""Every file of commits, directory by directory, against the places of its chunks. A directory that
several commits have is looked at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import trio

from store.chunk_list import ChunkList
from store.directories import MAX_DEPTH, TRACKED_KINDS, Entry, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from store.ids import ChunkId, PackName
from store.local_chunks import chunks_of
from store.pointer import Pointer
from store.progress import ByteProgress
from store.verify_places import Places

_FILES_AT_ONCE = 4096
_NO_PACKS: frozenset[PackName] = frozenset()


class Hurt(NamedTuple):
    """A file of a directory that cannot be read whole. `pack` is one that should have a chunk of
    it and does not; None where no pack is known that should. `is_list` says that its chunk list
    could not be read there. `cause` is set for a folder that git cannot give."""

    name: bytes
    content: ChunkId | None
    pack: PackName | None
    cause: str = ""
    is_list: bool = False


@dataclass(slots=True)
class TreeLook:
    """What was seen of a directory and all below: how many tracked files, the packs that they are
    read from, the files in it that are hurt, and the folders with such files below."""

    files: int = 0
    packs: frozenset[PackName] = _NO_PACKS
    hurt: list[Hurt] = field(default_factory=list)
    hurt_below: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def is_hurt(self) -> bool:
        """Whether any file is hurt."""
        return bool(self.hurt or self.hurt_below)


class LoadsPlaces(Protocol):
    """What knows the places of chunks."""

    def load(self, chunks: Sequence[ChunkId]) -> list[Places]:
        """The places of each chunk, in the order asked."""
        ...


class ReadsManyLists(Protocol):
    """What gives chunk lists, many at a time."""

    async def read(
        self, pointers: Iterable[Pointer], places: Sequence[Places]
    ) -> dict[ChunkId, ChunkList]:
        """By content, the lists that are to be had; `places` are those of the contents."""
        ...


class CommitWalk:
    """Looks at directories, each once. With `allowed`, only places in those packs count."""

    def __init__(
        self,
        directories: DirectoryLoader,
        lists: ReadsManyLists,
        book: LoadsPlaces,
        progress: ByteProgress,
        allowed: frozenset[PackName] | None = None,
    ) -> None:
        self._directories = directories
        self._lists = lists
        self._book = book
        self._progress = progress
        self._allowed = allowed
        self._seen: dict[bytes, TreeLook] = {}

    async def look_at(self, tree: bytes, depth: int = 0) -> TreeLook:
        """What there is to say of a directory and all below. Raises RemoteError."""
        known = self._seen.get(tree)
        if known is not None:
            return known
        look = TreeLook()
        packs: set[PackName] = set()
        directory = self._directories.load(tree)
        for files in _batches(entry for entry in directory if entry.kind in TRACKED_KINDS):
            look.files += len(files)
            look.hurt += await self._look_at_files(files, packs)
            self._progress.advance(0, items=len(files))
        for entry in directory:
            if entry.kind == Kind.FOLDER:
                await self._look_below(entry, look, packs, depth)
        look.packs = frozenset(packs)
        self._seen[tree] = look
        await trio.lowlevel.checkpoint()
        return look

    async def _look_below(
        self, entry: Entry, look: TreeLook, packs: set[PackName], depth: int
    ) -> None:
        try:
            if depth >= MAX_DEPTH:
                raise GitError("the folders are nested too deeply")
            below = await self.look_at(entry.tree, depth + 1)
        except GitError as error:
            look.hurt.append(Hurt(entry.name, None, None, str(error)))
            return
        look.files += below.files
        packs |= below.packs
        if below.is_hurt:
            look.hurt_below.append((entry.name, entry.tree))

    async def _look_at_files(self, files: Sequence[Entry], packs: set[PackName]) -> list[Hurt]:
        contents = self._book.load([ChunkId(entry.raw_id) for entry in files])
        lists = await self._lists.read((entry.pointer for entry in files), contents)
        wanted = {chunk for chunks in lists.values() for chunk in chunks_of(chunks)}
        pieces = self._load_places(wanted)
        hurt = []
        for entry, places in zip(files, contents, strict=True):
            chunk_list = lists.get(ChunkId(entry.raw_id))
            damaged = self._damage_of(entry, places, chunk_list, pieces, packs)
            if damaged is not None:
                hurt.append(damaged)
        return hurt

    def _load_places(self, wanted: set[ChunkId]) -> dict[ChunkId, Places]:
        found: dict[ChunkId, Places] = {}
        chunks = iter(wanted)
        while batch := list(islice(chunks, _FILES_AT_ONCE)):
            found.update(zip(batch, self._book.load(batch), strict=True))
        return found

    def _damage_of(
        self,
        entry: Entry,
        places: Places,
        chunk_list: ChunkList | None,
        pieces: dict[ChunkId, Places],
        packs: set[PackName],
    ) -> Hurt | None:
        """What hurts a file; the packs that it is read from are added to `packs`."""
        needed = [places]
        if chunk_list is not None:
            needed += [pieces[chunk] for chunk in chunks_of(chunk_list)]
        damaged: Hurt | None = None
        for found in needed:
            pack = self._sound_pack(found)
            if pack is not None:
                packs.add(pack)
            elif damaged is None:
                damaged = Hurt(entry.name, ChunkId(entry.raw_id), self._blamed_pack(found))
        if damaged is None and entry.chunks > 1 and chunk_list is None:
            pack = self._sound_pack(places)
            damaged = Hurt(entry.name, ChunkId(entry.raw_id), pack, is_list=pack is not None)
        return damaged

    def _blamed_pack(self, places: Places) -> PackName | None:
        packs = [place.pack for place in (*places.damaged, *places.sound)]
        if self._allowed is not None:
            packs.sort(key=lambda pack: pack not in (self._allowed or ()))
        return packs[0] if packs else None

    def _sound_pack(self, places: Places) -> PackName | None:
        for place in places.sound:
            if self._allowed is None or place.pack in self._allowed:
                return place.pack
        return None

    def hurt_files(self, tree: bytes, path: bytes = b"") -> Iterator[tuple[bytes, Hurt]]:
        """Every hurt file below a directory that was looked at, with its path."""
        look = self._seen[tree]
        above = path + b"/" if path else b""
        for hurt in look.hurt:
            yield above + hurt.name, hurt
        for name, below in look.hurt_below:
            yield from self.hurt_files(below, above + name)


def _batches(files: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(files, _FILES_AT_ONCE)):
        yield batch
