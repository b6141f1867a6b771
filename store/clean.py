"""Cleaning: the content that git hands over is staged, and git gets the pointer.

Git takes the pointer into its index as soon as it has it, so what stands behind it must not be lost
with this process: it is saved before each answer (`PackSink.save`), and made to last when git rests
or hangs up, for which git waits.
"""

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from store.chunking import ChunkingParameters, SupportsReadinto, read_chunks
from store.codec import Codec, compress_chunk
from store.ids import ChunkId
from store.local_store import LocalStore
from store.pack_sink import PackSink
from store.packs import PackKind
from store.pieces import Piece, prepare_piece, stage_pointer
from store.pointer import MAX_POINTER_BYTES, begins_like_pointer, parse_pointer
from store.shown_names import escape_name
from store.tracked_patterns import UNTRACKED_NAMES

log = logging.getLogger(__name__)

_BYTES_UNDER_WAY = 64 << 20


class _Sinks(NamedTuple):
    """Where data and chunk lists go until they are made to last together."""

    data: PackSink
    lists: PackSink


class Cleaner:
    """Cleans files for one repository. Belongs to one thread."""

    def __init__(self, local: LocalStore, jobs: int) -> None:
        """`local` must be open to write; `jobs` is how many threads compress one large file."""
        self._local = local
        self._parameters: ChunkingParameters = local.load_chunking()
        self._jobs = jobs
        self._pool: ThreadPoolExecutor | None = None
        self._sinks: _Sinks | None = None

    def clean(self, path: bytes, content: SupportsReadinto) -> bytes:
        """What git keeps for this content: a pointer; the content itself where it is empty, a
        pointer already, or a file that is git's own to read. Raises StoreError."""
        if os.path.basename(path) in UNTRACKED_NAMES:
            return b"".join(read_chunks(content, self._parameters))
        raw_chunks = read_chunks(content, self._parameters)
        first = next(raw_chunks, b"")
        second = next(raw_chunks, None)
        if second is None and self._is_kept_as_it_is(first):
            return first
        if begins_like_pointer(first):
            log.warning(
                "%s begins like a pointer but is none, and is taken for the data itself: if a "
                "pointer was edited, git restore brings it back, and revfs pull its data",
                escape_name(path),
            )
        chunks = []
        for piece in self._pieces(first, second, raw_chunks):
            chunks.append((piece.chunk, piece.raw_length))
            if piece.stored is not None:
                sink = self._open_sinks().data
                sink.append(piece.chunk, piece.codec, piece.stored, piece.raw_length)
        pointer = stage_pointer(chunks, self._open_sinks().lists, self._prepare)
        for sink in self._open_sinks():
            sink.save()
        return pointer.to_bytes()

    def settle(self) -> None:
        """Make all that was cleaned last, and known to others. Raises StoreError."""
        sinks, self._sinks = self._sinks, None
        if sinks is None:
            return
        with sinks.data, sinks.lists:
            for sink in sinks:
                sink.finish()
        self._local.cache.flush()

    def close(self) -> None:
        """Settle, and let go of threads."""
        try:
            self.settle()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def _open_sinks(self) -> _Sinks:
        if self._sinks is None:
            staging = self._local.staging
            assert staging is not None
            self._sinks = _Sinks(
                PackSink(staging, PackKind.DATA, saving=True),
                PackSink(staging, PackKind.LISTS, saving=True),
            )
        return self._sinks

    def _is_kept_as_it_is(self, content: bytes) -> bool:
        return len(content) <= MAX_POINTER_BYTES and (
            not content or parse_pointer(content) is not None
        )

    def _pieces(self, first: bytes, second: bytes | None, rest: Iterator[bytes]) -> Iterable[Piece]:
        """The pieces of a file, in order; those of a large one are made by several threads."""
        if second is None:
            yield self._prepare(first)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="clean")
        under_way: deque[Future[Piece]] = deque()
        most = max(self._jobs, _BYTES_UNDER_WAY // self._parameters.mean_bytes)
        under_way.append(self._pool.submit(self._prepare, first))
        under_way.append(self._pool.submit(self._prepare, second))
        for raw in rest:
            under_way.append(self._pool.submit(self._prepare, raw))
            while len(under_way) > most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def _prepare(self, raw: bytes) -> Piece:
        piece = prepare_piece(raw, self._local.is_known)
        if piece.stored is None:
            self._keep_here(piece.chunk, raw)
        return piece

    def _keep_here(self, chunk: ChunkId, raw: bytes) -> None:
        """Have a chunk that only the remote has in the cache, now that its bytes are at hand: who
        stashes a file wants it back as it was, with or without a network."""
        place = self._local.load_absent_place(chunk)
        if place is None:
            return
        stored = raw if place.entry.codec == Codec.RAW else compress_chunk(raw)[1]
        # Another zstd may have made a frame of another length, which has no room there.
        if len(stored) == place.entry.stored_length:
            self._local.cache.keep(place.pack, place.entry.offset, stored)
