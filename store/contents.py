"""ContentReader: (pointer, offset, size) → bytes, each byte proven against the pointer.

Knows files as runs of chunks. A file that is read in order is fetched ahead of its reader, with a
window that doubles while the reading goes on. Several readers in one file, each in order at a place
of his own, have a window each.
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
_CONTENTS = 1024
_STREAMS_PER_CONTENT = 8
_FIRST_WINDOW_BYTES = 1 << 20
_LAST_WINDOW_BYTES = 64 << 20
# Whoever reads in long pieces is at least so many of them behind.
_READS_AHEAD = 4
_LONG_READ_BYTES = 1 << 20
# A wide window goes on in steps of about one range: where many ranges begin at once they also end
# at once, and the link is idle until the next ones have begun.
_STEP_BYTES = 6 << 20
# The kernel asks for read-ahead in pieces that may arrive out of order; this much is still "in
# order".
_SLACK_BYTES = 2 << 20


@dataclass(slots=True)
class ReadStream:
    """One reader of a content, as far as one can be told from another.

    Invariant: all from where the window began up to `ahead` was asked for; `ahead` and
    `window_bytes` are 0 until reading proved to go in order.
    """

    next_offset: int
    window_bytes: int = 0
    ahead: int = 0

    def is_near(self, offset: int) -> bool:
        """Whether a read there is still in order."""
        return abs(offset - self.next_offset) <= _SLACK_BYTES

    def plan_ahead(self, end: int, read_bytes: int, file_size: int) -> tuple[int, int]:
        """Which bytes (start, end) to fetch ahead after a read in order of so many bytes, up to
        `end`."""
        if end <= self.next_offset:
            # What was read before, or a piece that comes late, is no progress.
            return end, end
        self.next_offset = end
        if self.ahead - end > self.window_bytes - min(self.window_bytes // 2, _STEP_BYTES):
            return end, end
        grown = max(2 * self.window_bytes, _READS_AHEAD * read_bytes, _FIRST_WINDOW_BYTES)
        self.window_bytes = min(grown, _LAST_WINDOW_BYTES)
        start = max(end, self.ahead)
        self.ahead = min(end + self.window_bytes, file_size)
        return min(start, self.ahead), self.ahead


class ReadStreams:
    """How one content is being read: the streams in it, the last used one last."""

    def __init__(self) -> None:
        self._streams: list[ReadStream] = []

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def last(self) -> ReadStream:
        """The one that was read last; there is one after the first read."""
        return self._streams[-1]

    def plan_ahead(self, offset: int, size: int, file_size: int) -> tuple[int, int]:
        """Which bytes (start, end) to fetch ahead for this read; empty if none. Pure but for what
        is remembered.

        The first read at a place proves nothing, but a long one from the very beginning: what is
        behind it in order belongs to it.
        """
        end = min(offset + size, file_size)
        near = [stream for stream in self._streams if stream.is_near(offset)]
        if near:
            stream = min(near, key=lambda stream: abs(offset - stream.next_offset))
            self._streams.remove(stream)
            planned = stream.plan_ahead(end, size, file_size)
        elif offset == 0 and size >= _LONG_READ_BYTES:
            stream = ReadStream(0)
            planned = stream.plan_ahead(end, size, file_size)
        else:
            stream, planned = ReadStream(end), (end, end)
        self._streams.append(stream)
        del self._streams[:-_STREAMS_PER_CONTENT]
        return planned


class ContentReader:
    """Reads tracked files. Belongs to one trio loop; any number of tasks may read at once."""

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._lists: MemoryCache[ChunkId, ChunkList] = MemoryCache(_LIST_BYTES)
        self._streams: OrderedDict[ChunkId, ReadStreams] = OrderedDict()

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

    def read_now(self, pointer: Pointer, offset: int, size: int) -> bytes | None:
        """As `read`, where nothing has to be waited for; None where something has."""
        length = min(size, pointer.size - offset)
        if length <= 0:
            return b""
        if pointer.chunks == 1:
            return self._source.read_now(pointer.content, pointer.size, offset, length)
        chunks = self._lists.get(pointer.content)
        if chunks is None or not chunks.fits(pointer):
            return None
        parts = []
        for number in chunks.covering(offset, length):
            span = chunks.span(number)
            part = self._source.read_now(span.chunk, span.length, *_part_of(span, offset, length))
            if part is None:
                return None
            parts.append(part)
        self._fetch_ahead(pointer, chunks, offset, length)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_chunk_list(self, pointer: Pointer) -> ChunkList:
        """The chunk list of a file of more than one chunk, proven to be the pointer's own."""
        found = self._lists.get(pointer.content)
        if found is not None and found.fits(pointer):
            return found
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
        part = _part_of(span, offset, length)
        return await self._source.read_range(span.chunk, span.length, *part)

    def _fetch_ahead(self, pointer: Pointer, chunks: ChunkList, offset: int, length: int) -> None:
        streams = self._streams.setdefault(pointer.content, ReadStreams())
        self._streams.move_to_end(pointer.content)
        while len(self._streams) > _CONTENTS:
            self._streams.popitem(last=False)
        start, end = streams.plan_ahead(offset, length, pointer.size)
        if end > start:
            wanted = chunks.covering(start, end - start)
            self._source.prefetch([chunks.span(number).chunk for number in wanted])


def _part_of(span: ChunkSpan, offset: int, length: int) -> tuple[int, int]:
    """Which part (start in the chunk, length) of a chunk is in that range of its file."""
    low = max(offset, span.start) - span.start
    high = min(offset + length, span.start + span.length) - span.start
    return low, high - low
