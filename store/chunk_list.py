"""The chunk list: which chunks a file of more than one chunk consists of, and how it is stored.

The list is itself stored as a chunk, so it is proven by its id before it is parsed; the parser is
strict all the same, since whoever wrote the pointer chose that id.

    magic "RVCL" | u32 version | u64 count | then per chunk: 32-byte id | u32 length
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from store.chunking import MAX_CHUNK_BYTES
from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.ids import CHUNK_ID_BYTES, ChunkId
from store.pointer import Pointer

_MAGIC = b"RVCL"
_VERSION = 1
_HEADER = struct.Struct("<4sIQ")
_ENTRY = struct.Struct(f"<{CHUNK_ID_BYTES}sI")

MAX_CHUNKS_PER_FILE = (MAX_CHUNK_BYTES - _HEADER.size) // _ENTRY.size


class ChunkSpan(NamedTuple):
    """One chunk of a file: where it starts in the file, and how long it is, in bytes."""

    chunk: ChunkId
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class ChunkList:
    """The chunks of one file in order; 40 bytes of memory for each.

    `ids` holds the chunk ids back to back, `starts` the offset in the file of each chunk and,
    last, the file's size.
    """

    ids: bytes
    starts: "array[int]"

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.starts[-1]

    def fits(self, pointer: Pointer) -> bool:
        """Whether it is that of a file of this size and number of chunks: two pointers may name the
        same list, and one of them lie."""
        return (len(self), self.size) == (pointer.chunks, pointer.size)

    def span(self, index: int) -> ChunkSpan:
        """The chunk of that index, 0 ≤ index < len(self)."""
        start = self.starts[index]
        chunk = ChunkId(self.ids[index * CHUNK_ID_BYTES : (index + 1) * CHUNK_ID_BYTES])
        return ChunkSpan(chunk, start, self.starts[index + 1] - start)

    def covering(self, offset: int, length: int) -> range:
        """The indexes of the chunks that hold some of the bytes from `offset` on, `length` of them.

        What lies outside the file is left away; the range is empty if nothing is left.
        """
        start = max(offset, 0)
        end = min(offset + length, self.size)
        if start >= end:
            return range(0)
        return range(bisect_right(self.starts, start) - 1, bisect_left(self.starts, end))


def encode_chunk_list(chunks: Sequence[tuple[ChunkId, int]]) -> bytes:
    """The stored form of a file's chunks, each given as its id and its length in bytes.

    Raises StoreError if they are too many for a list to be one chunk itself.
    """
    assert len(chunks) > 1, "a file of one chunk has no chunk list"
    if len(chunks) > MAX_CHUNKS_PER_FILE:
        raise StoreError(
            f"a file of {len(chunks)} chunks is too large; {MAX_CHUNKS_PER_FILE} is the most"
        )
    entries = [_ENTRY.pack(chunk, length) for chunk, length in chunks]
    return _HEADER.pack(_MAGIC, _VERSION, len(chunks)) + b"".join(entries)


def parse_chunk_list(raw: bytes, pointer: Pointer) -> ChunkList:
    """The chunk list of the file that `pointer` stands for.

    `raw` is already known to hash to `pointer.content`. Raises MalformedObject if it is not a
    chunk list through and through, or not that of a file of this size and number of chunks.
    """
    count = _checked_count(raw)
    if count != pointer.chunks:
        raise MalformedObject(
            f"a chunk list names {count} chunks where its pointer says {pointer.chunks}"
        )
    starts = array("Q", [0])
    ids = []
    end = 0
    for chunk, length in _ENTRY.iter_unpack(memoryview(raw)[_HEADER.size :]):
        if not 1 <= length <= MAX_CHUNK_BYTES:
            raise MalformedObject(f"a chunk list holds a chunk of {length} bytes")
        end += length
        starts.append(end)
        ids.append(chunk)
    if end != pointer.size:
        raise MalformedObject(
            f"the chunks of a list are {end} bytes together where its pointer says {pointer.size}"
        )
    return ChunkList(b"".join(ids), starts)


def _checked_count(raw: bytes) -> int:
    """The count of a list whose header is right and whose length is what that count makes it."""
    if len(raw) < _HEADER.size:
        raise MalformedObject(f"a chunk list of {len(raw)} bytes is cut short")
    magic, version, count = _HEADER.unpack_from(raw)
    if magic != _MAGIC:
        raise MalformedObject("the content of a file of many chunks is not a chunk list")
    if version != _VERSION:
        raise UnsupportedVersion(f"a chunk list has the unknown version {version}")
    if not 2 <= count <= MAX_CHUNKS_PER_FILE or len(raw) != _HEADER.size + count * _ENTRY.size:
        raise MalformedObject(f"a chunk list of {len(raw)} bytes says that it names {count} chunks")
    return int(count)
