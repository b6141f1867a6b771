"""The chunk lists of many files at once: those that are here in bulk, the rest from the remote."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from store.chunk_list import ChunkList
from store.concurrency import run_all
from store.errors import ChunkMissing
from store.local_chunks import LocalChunks
from store.opening import Reading
from store.pointer import Pointer

# So many lists are in memory at once, and as many are fetched ahead.
_LISTS_AT_ONCE = 1024
_FETCHES_AT_ONCE = 32

TakeList = Callable[[Pointer, ChunkList], None]


async def visit_chunk_lists(
    chunks: LocalChunks, reading: Reading | None, pointers: Iterable[Pointer], take: TakeList
) -> list[Pointer]:
    """Hand the chunk list of each file of several chunks to `take`, each pointer once and in no
    order. Those that are not here are fetched by `reading`; with None they are not.

    Returns the files whose list is not to be had. Raises StoreError where a remote fails.
    """
    several = dict.fromkeys(pointer for pointer in pointers if pointer.chunks > 1)
    absent: list[Pointer] = []
    for batch in _batches(iter(several)):
        found = chunks.load_chunk_lists(batch)
        missing = []
        for pointer in batch:
            chunk_list = found.get(pointer.content)
            if chunk_list is not None and chunk_list.fits(pointer):
                take(pointer, chunk_list)
            else:
                missing.append(pointer)
        absent += missing if reading is None else await _fetch(reading, missing, take)
    return absent


def _batches(pointers: Iterator[Pointer]) -> Iterator[list[Pointer]]:
    while batch := list(islice(pointers, _LISTS_AT_ONCE)):
        yield batch


async def _fetch(reading: Reading, pointers: Sequence[Pointer], take: TakeList) -> list[Pointer]:
    missing: list[Pointer] = []
    if not pointers:
        return missing

    async def fetch(pointer: Pointer) -> None:
        try:
            take(pointer, await reading.contents.read_chunk_list(pointer))
        except ChunkMissing:
            missing.append(pointer)

    # What is fetched ahead must be known to lie in a pack; then many lists come with one request.
    await reading.source.learn_commit()
    reading.source.prefetch([pointer.content for pointer in pointers])
    await run_all([partial(fetch, pointer) for pointer in pointers], at_once=_FETCHES_AT_ONCE)
    return missing
