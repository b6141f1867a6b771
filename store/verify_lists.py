"""The chunk lists of files, for `verify`: those that are here, the rest from the remote, a piece of
a pack at a time."""

from collections.abc import Iterable, Sequence

from store.cache_rows import PackPlace
from store.chunk_list import ChunkList, parse_chunk_list
from store.errors import IntegrityError, MalformedObject, ObjectMissing
from store.ids import ChunkId, PackName
from store.local_chunks import LocalChunks
from store.memory_cache import MemoryCache
from store.packs import unpack_chunk
from store.pointer import Pointer
from store.remote import Remote, pack_key
from store.verify_places import Places

_PIECE_BYTES = 1 << 20
_MEMORY_BYTES = 32 << 20


class ListReader:
    """Reads chunk lists."""

    def __init__(
        self,
        local: LocalChunks,
        remote: Remote,
        sizes: dict[PackName, int],
        timeout_seconds: float,
        *,
        anywhere: bool = False,
    ) -> None:
        """`sizes` are those of the remote's packs. With `anywhere`, lists are also looked for where
        no reader would find them."""
        self._anywhere = anywhere
        self._local = local
        self._remote = remote
        self._sizes = sizes
        self._timeout_seconds = timeout_seconds
        self._pieces: MemoryCache[tuple[PackName, int], bytes] = MemoryCache(_MEMORY_BYTES)

    async def read(
        self, pointers: Iterable[Pointer], places: Sequence[Places]
    ) -> dict[ChunkId, ChunkList]:
        """By content, the lists of those files of several chunks whose list is to be had; of each
        content id its places, in the order of the pointers. Raises RemoteError."""
        several = [
            (pointer, places[number])
            for number, pointer in enumerate(pointers)
            if pointer.chunks > 1
        ]
        lists = self._local.load_chunk_lists(pointer for pointer, _ in several)
        for pointer, found in several:
            if pointer.content not in lists:
                chunks = await self._find(pointer, found)
                if chunks is not None:
                    lists[pointer.content] = chunks
        return lists

    async def _find(self, pointer: Pointer, places: Places) -> ChunkList | None:
        for place in (*places.sound, *(places.damaged if self._anywhere else ())):
            chunks = await self._fetch(pointer, place)
            if chunks is not None:
                return chunks
        return None

    async def _fetch(self, pointer: Pointer, place: PackPlace) -> ChunkList | None:
        entry = place.entry
        first = entry.offset // _PIECE_BYTES
        numbers = range(first, (entry.end - 1) // _PIECE_BYTES + 1)
        try:
            raw = b"".join([await self._piece(place.pack, number) for number in numbers])
            start = entry.offset - first * _PIECE_BYTES
            chunk = unpack_chunk(entry, raw[start : start + entry.stored_length])
            return parse_chunk_list(chunk, pointer)
        except (IntegrityError, MalformedObject, ObjectMissing):
            return None

    async def _piece(self, pack: PackName, number: int) -> bytes:
        piece = self._pieces.get((pack, number))
        if piece is None:
            start = number * _PIECE_BYTES
            length = min(_PIECE_BYTES, self._sizes.get(pack, 0) - start)
            if length <= 0:
                raise ObjectMissing(f"pack {pack} is not there")
            piece = await self._remote.fetch_range(
                pack_key(pack), start, length, timeout_seconds=self._timeout_seconds
            )
            self._pieces.put((pack, number), piece, len(piece))
        return piece
