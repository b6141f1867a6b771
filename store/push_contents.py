"""What commits need of a remote: their chunks, what of them the remote lacks, and their packs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from store.cache_index import CacheIndex, PackPlace
from store.chunk_list import ChunkList
from store.contents import ContentReader
from store.directories import TRACKED_KINDS, Kind
from store.directory_loader import DirectoryLoader
from store.errors import ChunkMissing, StoreError
from store.git import Commit
from store.ids import ChunkId, PackName
from store.packs import PackKind, PackTable
from store.pointer import Pointer
from store.shown_names import escape_name

_LOOKUPS_AT_ONCE = 4096


class LostChunk(ChunkMissing):
    """A chunk that a commit needs and that is nowhere to be had; the text names its path."""

    def __init__(self, text: str, chunk: ChunkId) -> None:
        super().__init__(text)
        self.chunk = chunk


@dataclass(frozen=True, slots=True)
class RemoteHoldings:
    """What a remote holds by its own lists: its store id, and the size of each pack in it.

    A chunk whose only known pack is absent, or not of the size that its table makes, counts as
    missing.
    """

    store: str
    pack_sizes: dict[PackName, int]
    index: CacheIndex
    _sound: dict[PackName, bool] = field(default_factory=dict)

    def load_places(self, chunks: Sequence[ChunkId]) -> list[PackPlace | None]:
        """Where the remote has each of the chunks, or None."""
        places = self.index.load_places(self.store, chunks)
        return [p if p is not None and self._is_sound(p.pack) else None for p in places]

    def _is_sound(self, pack: PackName) -> bool:
        if pack not in self._sound:
            table = self.index.load_pack_table(self.store, pack)
            listed = self.pack_sizes.get(pack)
            self._sound[pack] = table is not None and listed == table.pack_size
        return self._sound[pack]

    def forget_unsound(self) -> None:
        """Drop what is known of chunks in packs that are absent or wrong, asked for or not, so that
        one `add` stages all of them anew. Nothing of them can be read from the cache after that."""
        for pack in self.index.load_known_packs(self.store):
            if not self._is_sound(pack):
                self.index.forget_chunks(self.store, pack)

    def add_pack(self, pack: PackName, table: PackTable) -> None:
        """Take note of a pack that was just uploaded and whose rows are in the index."""
        self.pack_sizes[pack] = table.pack_size
        self._sound.pop(pack, None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Why a chunk is wanted: the first path and commit that need it, and its kind."""

    path: bytes
    commit: str
    kind: PackKind

    def __str__(self) -> str:
        return f"{escape_name(self.path)} (commit {self.commit[:12]})"


@dataclass(frozen=True, slots=True)
class TreeContents:
    """Reads what trees need: their pointers, and the chunks behind each pointer."""

    directories: DirectoryLoader
    # Tried in this order.
    readers: Sequence[ContentReader]

    async def collect_missing(
        self, commits: Sequence[Commit], holdings: RemoteHoldings
    ) -> dict[ChunkId, Wanted]:
        """Every chunk that the commits need and the remote lacks, in order of path.

        Raises LostChunk where not even the list of a file's chunks is to be had.
        """
        missing: dict[ChunkId, Wanted] = {}
        for batch in _batches(self._new_pointers(commits)):
            wanted: dict[ChunkId, Wanted] = {}
            for pointer, where in batch:
                await self._add_chunks(pointer, where, wanted)
            places = holdings.load_places(list(wanted))
            for (chunk, why), place in zip(wanted.items(), places, strict=True):
                if place is None:
                    missing.setdefault(chunk, why)
        return missing

    def _new_pointers(self, commits: Sequence[Commit]) -> Iterator[tuple[Pointer, Wanted]]:
        seen_trees: set[bytes] = set()
        seen_contents: set[bytes] = set()
        for commit in commits:
            for path, entry in self.directories.walk_new(commit.tree, seen_trees):
                if entry.kind in TRACKED_KINDS and entry.raw_id not in seen_contents:
                    seen_contents.add(entry.raw_id)
                    yield entry.pointer, Wanted(path, commit.commit, PackKind.DATA)

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
            if entry.kind in TRACKED_KINDS:
                await self._add_chunks(entry.pointer, Wanted(entry.name, "", PackKind.DATA), wanted)
            elif entry.kind == Kind.FOLDER:
                packs |= await self.collect_packs(entry.tree, holdings, known)
        for place, (_, where) in zip(
            holdings.load_places(list(wanted)), wanted.items(), strict=True
        ):
            if place is None:
                raise ChunkMissing(f"the remote lost a chunk of {where} during the push")
            packs.add(place.pack)
        known[tree] = frozenset(packs)
        return known[tree]


def _batches(
    pointers: Iterable[tuple[Pointer, Wanted]],
) -> Iterator[list[tuple[Pointer, Wanted]]]:
    batch: list[tuple[Pointer, Wanted]] = []
    for pair in pointers:
        batch.append(pair)
        if len(batch) >= _LOOKUPS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
