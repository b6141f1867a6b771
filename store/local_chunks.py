"""LocalChunks: where many chunks are and which of them are here, looked up in bulk.

For those who count. Nothing here asks a remote, and looking does not count as using a cached pack.
Who reads goes through `store.chunk_source`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from store import byte_ranges
from store.cache_rows import PackPlace, PackSpan
from store.chunk_list import ChunkList, parse_chunk_list
from store.errors import StoreError
from store.ids import ChunkId, pack_name_from_bytes
from store.local_folders import is_on_network
from store.local_store import LocalStore
from store.packs import unpack_chunk
from store.pointer import Pointer
from store.remote import pack_key


class Held(NamedTuple):
    """Where a chunk is. `staged`: in a staged pack. `here`: it can be read without a network."""

    place: PackPlace
    staged: bool
    here: bool


class Presence(NamedTuple):
    """As in `Held`, without the place; of a chunk that is known of nowhere neither is true."""

    staged: bool
    here: bool


_STAGED = Presence(True, True)
_HERE = Presence(False, True)
_ABSENT = Presence(False, False)


class LocalChunks:
    """What a local store knows of chunks at one moment: what is fetched later is not seen."""

    def __init__(self, local: LocalStore) -> None:
        remote = local.settings.remote
        self._staging = local.staging
        self._index = local.index
        self._cache = local.cache
        self._store = local.load_store_id()
        # Packs of a folder remote are read in place, and so are here, unless a network is between.
        self._folder = None if remote is None else remote.folder
        self._folder_is_here = self._folder is not None and not is_on_network(self._folder)
        # By raw name, of packs of which it was asked.
        self._ranges: dict[bytes, list[tuple[int, int]]] = {}

    def load(self, chunks: Sequence[ChunkId]) -> list[Held | None]:
        """Where each chunk is, in the order asked; None for one that is known of nowhere."""
        found: list[Held | None] = [None] * len(chunks)
        if self._staging is not None:
            for number, place in enumerate(self._staging.load_places(chunks)):
                if place is not None:
                    found[number] = Held(place, True, True)
        if self._store is not None:
            missing = [number for number, held in enumerate(found) if held is None]
            places = self._index.load_places(self._store, [chunks[number] for number in missing])
            for number, place in zip(missing, places, strict=True):
                if place is not None:
                    entry = place.entry
                    span = PackSpan(bytes.fromhex(place.pack), entry.offset, entry.end)
                    found[number] = Held(place, False, self._is_cached(span))
        return found

    def load_presence(self, chunks: Sequence[ChunkId]) -> list[Presence]:
        """Whether each chunk is staged, and whether it is here, in the order asked; at a fraction
        of the cost of `load`, for whoever asks about all files of a revision."""
        found = [_ABSENT] * len(chunks)
        if self._staging is not None:
            staged = self._staging.load_present(chunks)
            found = [_STAGED if is_staged else _ABSENT for is_staged in staged]
        if self._store is not None:
            missing = [number for number, presence in enumerate(found) if presence is _ABSENT]
            spans = self._index.load_spans(self._store, [chunks[number] for number in missing])
            for number, span in zip(missing, spans, strict=True):
                if span is not None and self._is_cached(span):
                    found[number] = _HERE
        return found

    def load_files_here(self, pointers: Sequence[Pointer]) -> list[bool]:
        """Of each file whether all its chunks are here, in the order asked."""
        here = [found.here for found in self.load_presence([p.content for p in pointers])]
        several = [number for number, pointer in enumerate(pointers) if pointer.chunks > 1]
        candidates = [number for number in several if here[number]]
        lists = self.load_chunk_lists([pointers[number] for number in candidates])
        chunks = {chunk for found in lists.values() for chunk in chunks_of(found)}
        present = self._present(chunks)
        for number in candidates:
            found = lists.get(pointers[number].content)
            if found is None or not found.fits(pointers[number]):
                here[number] = False
            else:
                here[number] = present.issuperset(chunks_of(found))
        return here

    def load_chunk_lists(self, pointers: Iterable[Pointer]) -> dict[ChunkId, ChunkList]:
        """By content id, the chunk lists of those files of several chunks whose list is here and
        sound; of files that name the same list it fits one at least."""
        wanted: dict[ChunkId, list[Pointer]] = {}
        for pointer in pointers:
            if pointer.chunks > 1:
                wanted.setdefault(pointer.content, []).append(pointer)
        places = self.load(list(wanted))
        located = [held for held in places if held is not None and held.here]
        lists: dict[ChunkId, ChunkList] = {}
        for held, stored in self._read_stored(located):
            chunk = held.place.entry.chunk
            with suppress(StoreError):
                raw = unpack_chunk(held.place.entry, stored)
                lists |= _fitting_list(raw, dict.fromkeys(wanted[chunk]))
        return lists

    def _present(self, chunks: Iterable[ChunkId]) -> set[ChunkId]:
        wanted = list(chunks)
        found = zip(wanted, self.load_presence(wanted), strict=True)
        return {chunk for chunk, presence in found if presence.here}

    def _is_cached(self, span: PackSpan) -> bool:
        if self._folder is not None:
            return self._folder_is_here
        pack, start, end = span
        ranges = self._ranges.get(pack)
        if ranges is None:
            ranges = byte_ranges.pairs(self._index.load_ranges(pack_name_from_bytes(pack)))
            self._ranges[pack] = ranges
        return byte_ranges.covered_by(ranges, start, end)

    def _path_of(self, held: Held) -> Path:
        pack = held.place.pack
        if held.staged and self._staging is not None:
            return self._staging.path_of(pack)
        if self._folder is not None:
            return self._folder / pack_key(pack)
        return self._cache.path_of(pack)

    def _read_stored(self, located: Iterable[Held]) -> Iterator[tuple[Held, bytes]]:
        """The stored bytes of each, pack by pack; what cannot be read is left out."""
        by_path: dict[Path, list[Held]] = {}
        for held in located:
            by_path.setdefault(self._path_of(held), []).append(held)
        for path, inside in by_path.items():
            with suppress(OSError), path.open("rb") as file:
                for held in inside:
                    entry = held.place.entry
                    yield held, os.pread(file.fileno(), entry.stored_length, entry.offset)


def _fitting_list(raw: bytes, pointers: Iterable[Pointer]) -> dict[ChunkId, ChunkList]:
    """The chunk list in these bytes by its id, if it fits one of the pointers, which name it."""
    for pointer in pointers:
        with suppress(StoreError):
            return {pointer.content: parse_chunk_list(raw, pointer)}
    return {}


def chunks_of(chunks: ChunkList) -> Iterator[ChunkId]:
    """The ids of a list's chunks, in order."""
    return (chunks.span(number).chunk for number in range(len(chunks)))
