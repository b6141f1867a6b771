"""What commits need of a remote: their chunks, what of them the remote lacks, and their packs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from store.chunk_list import ChunkList
from store.directories import TRACKED_KINDS, Kind
from store.directory_loader import DirectoryLoader
from store.errors import ChunkMissing, StoreError
from store.git import Commit
from store.ids import ChunkId, PackName, pack_name_from_bytes
from store.packs import PackKind
from store.pointer import Pointer
from store.remote_holdings import RemoteHoldings
from store.shown_names import escape_name

_LOOKUPS_AT_ONCE = 4096


class LostChunk(ChunkMissing):
    """A chunk that a commit needs and that is nowhere to be had; the text names its path."""

    def __init__(self, text: str, chunk: ChunkId) -> None:
        super().__init__(text)
        self.chunk = chunk


class Wanted(NamedTuple):
    """Why a chunk is wanted: the first path and commit that need it, and its kind."""

    path: bytes
    commit: str
    kind: PackKind

    def __str__(self) -> str:
        return f"{escape_name(self.path)} (commit {self.commit[:12]})"


class WantedFile(NamedTuple):
    """A file whose chunks are wanted, and why."""

    pointer: Pointer
    why: Wanted


class ReadsLists(Protocol):
    """What gives the chunk lists of files."""

    async def read_chunk_list(self, pointer: Pointer) -> ChunkList:
        """The list of a file of several chunks. Raises StoreError."""
        ...


class ReadsChunks(Protocol):
    """What gives chunks."""

    def can_read(self, chunk: ChunkId) -> bool:
        """Whether the chunk is likely to be had here."""
        ...

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """The whole chunk, proven. Raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class TreeContents:
    """Reads what trees need: their pointers, and the chunks behind each pointer. `left_out` are the
    contents (raw ids) of files that are passed over, since nobody has their data any more."""

    directories: DirectoryLoader
    # Tried in this order.
    readers: Sequence[ReadsLists]
    left_out: frozenset[bytes] = frozenset()

    def new_files(self, commits: Sequence[Commit]) -> Iterator[Sequence[WantedFile]]:
        """Every tracked file of the commits in order of path, some thousand at a time; of several
        with the same content the first."""
        batch: list[WantedFile] = []
        for file in self._new_files(commits):
            batch.append(file)
            if len(batch) >= _LOOKUPS_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    def _new_files(self, commits: Sequence[Commit]) -> Iterator[WantedFile]:
        seen_trees: set[bytes] = set()
        seen_contents: set[bytes] = set(self.left_out)
        for commit in commits:
            for path, entry in self.directories.walk_new(commit.tree, seen_trees):
                if entry.kind in TRACKED_KINDS and entry.raw_id not in seen_contents:
                    seen_contents.add(entry.raw_id)
                    yield WantedFile(entry.pointer, Wanted(path, commit.commit, PackKind.DATA))

    async def load_missing(
        self, files: Sequence[WantedFile], holdings: RemoteHoldings
    ) -> dict[ChunkId, Wanted]:
        """Every chunk that the files need and the remote lacks, in the order of the files.

        Raises LostChunk where not even the list of a file's chunks is to be had.
        """
        wanted = await self._load_wanted(files)
        packs = holdings.load_packs(list(wanted))
        return {
            chunk: why
            for (chunk, why), pack in zip(wanted.items(), packs, strict=True)
            if pack is None
        }

    async def load_chunks(self, files: Sequence[WantedFile]) -> list[ChunkId]:
        """Every chunk that the files need, lists included. Raises LostChunk."""
        return list(await self._load_wanted(files))

    async def _load_wanted(self, files: Sequence[WantedFile]) -> dict[ChunkId, Wanted]:
        wanted: dict[ChunkId, Wanted] = {}
        for pointer, where in files:
            await self._add_chunks(pointer, where, wanted)
        return wanted

    async def _add_chunks(
        self, pointer: Pointer, where: Wanted, wanted: dict[ChunkId, Wanted]
    ) -> None:
        if pointer.chunks == 1:
            wanted.setdefault(pointer.content, where)
            return
        wanted.setdefault(pointer.content, Wanted(where.path, where.commit, PackKind.LISTS))
        chunks = await self._read_chunk_list(pointer, where)
        for number in range(len(chunks)):
            wanted.setdefault(chunks.span(number).chunk, where)

    async def _read_chunk_list(self, pointer: Pointer, where: Wanted) -> ChunkList:
        errors: list[StoreError] = []
        for reader in self.readers:
            try:
                return await reader.read_chunk_list(pointer)
            except StoreError as error:
                errors.append(error)
        raise LostChunk(
            f"the chunk list of {where} is not to be had: {errors[0]}; "
            "revfs push where it was added, or revfs add it again where the file still is",
            pointer.content,
        ) from errors[0]

    async def collect_packs(
        self, tree: bytes, holdings: RemoteHoldings, known: dict[bytes, frozenset[PackName]]
    ) -> frozenset[PackName]:
        """The packs in the remote that a tree needs; `known` holds the answers by tree id.

        Raises ChunkMissing where the remote lacks a chunk after all.
        """
        if tree in known:
            return known[tree]
        packs: set[PackName] = set()
        wanted: dict[ChunkId, Wanted] = {}
        for entry in self.directories.load(tree):
            if entry.kind in TRACKED_KINDS and entry.raw_id not in self.left_out:
                await self._add_chunks(entry.pointer, Wanted(entry.name, "", PackKind.DATA), wanted)
            elif entry.kind == Kind.FOLDER:
                packs |= await self.collect_packs(entry.tree, holdings, known)
        found = holdings.load_packs(list(wanted))
        for raw_name, where in zip(found, wanted.values(), strict=True):
            if raw_name is None:
                raise ChunkMissing(f"the remote lost a chunk of {where} during the push")
        packs.update(pack_name_from_bytes(raw_name) for raw_name in set(found) if raw_name)
        known[tree] = frozenset(packs)
        return known[tree]
