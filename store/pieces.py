"""Pieces: the chunks of a file on their way into staged packs, and the pointer that they make."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from store.chunk_list import encode_chunk_list
from store.codec import compress_chunk
from store.ids import ChunkId, chunk_id
from store.pack_sink import PackSink
from store.pointer import Pointer

IsKnown = Callable[[ChunkId], bool]
# Whether each of many chunks is known, in the order asked.
LoadKnown = Callable[[Sequence[ChunkId]], Sequence[bool]]


class Piece(NamedTuple):
    """One chunk of a file. `stored` is None where it need not be written: it is known already."""

    chunk: ChunkId
    raw_length: int
    codec: int
    stored: bytes | None


def prepare_piece(raw: bytes, is_known: IsKnown) -> Piece:
    """The piece of these bytes, compressed where that pays. Safe in many threads at once."""
    chunk = chunk_id(raw)
    if is_known(chunk):
        return Piece(chunk, len(raw), 0, None)
    codec, stored = compress_chunk(raw)
    return Piece(chunk, len(raw), codec, stored)


def prepare_pieces(chunks: Sequence[bytes], load_known: LoadKnown) -> list[Piece]:
    """As `prepare_piece`, for many at once."""
    names = [chunk_id(raw) for raw in chunks]
    return [
        Piece(name, len(raw), 0, None) if known else Piece(name, len(raw), *compress_chunk(raw))
        for name, raw, known in zip(names, chunks, load_known(names), strict=True)
    ]


def pointer_of(
    chunks: Sequence[tuple[ChunkId, int]], name_list: Callable[[bytes], ChunkId]
) -> Pointer:
    """The pointer of a file of these chunks (id and length in bytes each, at least one);
    `name_list` gives the id of the list of several. Raises StoreError for too many chunks."""
    if len(chunks) == 1:
        return Pointer(*chunks[0])
    size = sum(length for _, length in chunks)
    return Pointer(name_list(encode_chunk_list(chunks)), size, len(chunks))


def stage_pointer(
    chunks: Sequence[tuple[ChunkId, int]], lists: PackSink, prepare: Callable[[bytes], Piece]
) -> Pointer:
    """As `pointer_of`; the list of several is made a piece by `prepare`, and goes to `lists` where
    it is new."""

    def stage_list(raw: bytes) -> ChunkId:
        piece = prepare(raw)
        if piece.stored is not None:
            lists.append(piece.chunk, piece.codec, piece.stored, piece.raw_length)
        return piece.chunk

    return pointer_of(chunks, stage_list)
