"""Whether a file on disk holds the content of a pointer, byte for byte."""

import os
from functools import partial

import trio

from store.concurrency import DISK_READS
from store.contents import ContentReader
from store.ids import ChunkId, chunk_id
from store.pointer import Pointer


async def file_holds(descriptor: int, pointer: Pointer, contents: ContentReader) -> bool:
    """Whether an open file is the content of `pointer`. Reads all of it where the size is right;
    of the store only the list of its chunks. Raises StoreError where that cannot be had, OSError
    where the file cannot be read."""
    if os.fstat(descriptor).st_size != pointer.size:
        return False
    if pointer.chunks == 1:
        return await _chunk_holds(descriptor, pointer.content, 0, pointer.size)
    chunks = await contents.read_chunk_list(pointer)
    for number in range(len(chunks)):
        span = chunks.span(number)
        if not await _chunk_holds(descriptor, span.chunk, span.start, span.length):
            return False
    return True


async def _chunk_holds(descriptor: int, chunk: ChunkId, start: int, length: int) -> bool:
    check = partial(_has_chunk, descriptor, chunk, start, length)
    return await trio.to_thread.run_sync(check, limiter=DISK_READS)


def _has_chunk(descriptor: int, chunk: ChunkId, start: int, length: int) -> bool:
    return chunk_id(os.pread(descriptor, length, start)) == chunk
