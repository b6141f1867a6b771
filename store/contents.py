"""ContentReader: (pointer, offset, size) → bytes, each byte proven against the pointer.

Knows files as runs of chunks. A file that is read in order is fetched ahead of its reader, with a
window that doubles while the reading goes on and starts anew where it jumps.
"""

from collections import OrderedDict
from dataclasses import dataclass

from store.chunk_list import ChunkList, ChunkSpan, parse_chunk_list
from store.chunk_source import ChunkSource
from store.errors import ChunkUnreadable, MalformedObject, StoreError
from store.ids import ChunkId
from store.memory_cache import MemoryCache
from store.pointer import Pointer

_LIST_BYTES = 48 << 20
_STREAMS = 1024
_FIRST_WINDOW_BYTES = 1 << 20
_LAST_WINDOW_BYTES = 64 << 20
# The kernel asks for read-ahead in pieces that may arrive out of order; this much is still "in
# order".
_SLACK_BYTES = 2 << 20


@dataclass(slots=True)
class ReadStream:
    """How one content is being read.

    Invariant: everything before `ahead` was asked for; `ahead` is 0 until reading proved to go in
    order.
    """

    next_offset: int = 0
    window_bytes: int = 0
    ahead: int = 0


def plan_ahead(stream: ReadStream, offset: int, size: int, file_size: int) -> tuple[int, int]:
    """Which bytes (start, end) to fetch ahead for this read, updating `stream`; empty if none.

    The first read of a file proves nothing. Pure but for `stream`.
    """
    end = min(offset + size, file_size)
    in_order = stream.next_offset - _SLACK_BYTES <= offset <= stream.next_offset + _SLACK_BYTES
    if stream.next_offset == 0 or not in_order:
        stream.next_offset, stream.window_bytes, stream.ahead = end, 0, 0
        return end, end
    stream.next_offset = max(stream.next_offset, end)
    if stream.ahead - end > stream.window_bytes // 2:
        return end, end
    stream.window_bytes = min(max(2 * stream.window_bytes, _FIRST_WINDOW_BYTES), _LAST_WINDOW_BYTES)
    start = max(end, stream.ahead)
    stream.ahead = min(end + stream.window_bytes, file_size)
    return min(start, stream.ahead), stream.ahead


class ContentReader:
    """Reads tracked files. Belongs to one trio loop; any number of tasks may read at once."""

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._lists: MemoryCache[ChunkId, ChunkList] = MemoryCache(_LIST_BYTES)
        self._streams: OrderedDict[ChunkId, ReadStream] = OrderedDict()

    async def read(self, pointer: Pointer, offset: int, size: int) -> bytes:
        """The bytes from `offset`, `size` of them or as many as there are before the end.

        Raises StoreError where they cannot be had or proven; never returns others.
        """
        length = min(size, pointer.size - offset)
        if length <= 0:
            return b""
        if pointer.chunks == 1:
            return await self._read_single(pointer, offset, length)
        chunks = await self.read_chunk_list(pointer)
        self._fetch_ahead(pointer, chunks, offset, length)
        parts = []
        for number in chunks.covering(offset, length):
            parts.append(await self._read_span(chunks.span(number), offset, length))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_chunk_list(self, pointer: Pointer) -> ChunkList:
        """The chunk list of a file of more than one chunk, proven to be the pointer's own."""
        found = self._lists.get(pointer.content)
        if found is None:
            raw = await self._source.read_chunk(pointer.content)
            try:
                found = parse_chunk_list(raw, pointer)
            except MalformedObject as error:
                raise ChunkUnreadable(
                    f"the chunk list {pointer.content.hex()} does not fit its pointer: {error}"
                ) from error
            self._lists.put(pointer.content, found, len(raw))
        return found

    async def is_here(self, pointer: Pointer) -> bool:
        """Whether all of a file can be read without a network, as far as the tables know. Fetches
        nothing, not even its chunk list."""
        if not self._source.is_here(pointer.content):
            return False
        if pointer.chunks == 1:
            return True
        try:
            chunks = await self.read_chunk_list(pointer)
        except StoreError:
            return False
        return all(self._source.is_here(chunks.span(number).chunk) for number in range(len(chunks)))

    async def _read_single(self, pointer: Pointer, offset: int, length: int) -> bytes:
        return await self._source.read_range(pointer.content, pointer.size, offset, length)

    async def _read_span(self, span: ChunkSpan, offset: int, length: int) -> bytes:
        low = max(offset, span.start) - span.start
        high = min(offset + length, span.start + span.length) - span.start
        return await self._source.read_range(span.chunk, span.length, low, high - low)

    def _fetch_ahead(self, pointer: Pointer, chunks: ChunkList, offset: int, length: int) -> None:
        stream = self._streams.setdefault(pointer.content, ReadStream())
        self._streams.move_to_end(pointer.content)
        while len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        start, end = plan_ahead(stream, offset, length, pointer.size)
        if end > start:
            wanted = chunks.covering(start, end - start)
            self._source.prefetch([chunks.span(number).chunk for number in wanted])
