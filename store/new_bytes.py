"""How many bytes of a revision are really new: the chunks that another revision has nowhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.chunk_list import ChunkList
from store.directories import TRACKED_KINDS, Entry, Kind
from store.errors import ChunkMissing
from store.ids import ChunkId
from store.local_chunks import LocalChunks
from store.many_lists import visit_chunk_lists
from store.opening import Reading
from store.pointer import Pointer
from store.revision_diff import Change


@dataclass(frozen=True, slots=True)
class NewBytes:
    """Chunks, each counted once and before compression; and files that git itself keeps, each
    content once."""

    chunks: int
    chunk_bytes: int
    git_files: int
    git_bytes: int


async def count_new_bytes(
    changes: Iterable[Change],
    old_files: Sequence[Entry],
    chunks: LocalChunks,
    old_reading: Reading | None,
    new_reading: Reading | None,
) -> NewBytes:
    """Count what the new sides of `changes` hold that `old_files`, all of the old revision, do not.

    Chunk lists that are not here are fetched, each by the reading of its revision; with None they
    are not. Raises ChunkMissing for one that is not to be had, and StoreError where a remote fails.
    """
    old_contents = {entry.raw_id for entry in old_files}
    entries = [change.new.entry for change in changes if change.new is not None]
    new = {entry.raw_id: entry for entry in entries if entry.raw_id not in old_contents}
    plain = [
        e.size for e in new.values() if e.kind not in TRACKED_KINDS and e.kind != Kind.SUBMODULE
    ]
    lengths = await _load_chunks(_pointers(new.values()), chunks, new_reading)
    if lengths:
        await _drop_old(lengths, _pointers(old_files), chunks, old_reading)
    return NewBytes(len(lengths), sum(lengths.values()), len(plain), sum(plain))


def _pointers(entries: Iterable[Entry]) -> list[Pointer]:
    return [entry.pointer for entry in entries if entry.kind in TRACKED_KINDS]


async def _load_chunks(
    pointers: Sequence[Pointer], chunks: LocalChunks, reading: Reading | None
) -> dict[ChunkId, int]:
    """The chunks of these files with their lengths."""
    lengths = {pointer.content: pointer.size for pointer in pointers if pointer.chunks == 1}

    def take(pointer: Pointer, chunk_list: ChunkList) -> None:
        for number in range(len(chunk_list)):
            span = chunk_list.span(number)
            lengths[span.chunk] = span.length

    _require_all(await visit_chunk_lists(chunks, reading, pointers, take))
    return lengths


async def _drop_old(
    lengths: dict[ChunkId, int],
    pointers: Sequence[Pointer],
    chunks: LocalChunks,
    reading: Reading | None,
) -> None:
    """Take the chunks of these files out."""
    for pointer in pointers:
        if pointer.chunks == 1:
            lengths.pop(pointer.content, None)

    def take(pointer: Pointer, chunk_list: ChunkList) -> None:
        for number in range(len(chunk_list)):
            lengths.pop(chunk_list.span(number).chunk, None)

    if lengths:
        _require_all(await visit_chunk_lists(chunks, reading, pointers, take))


def _require_all(missing: Sequence[Pointer]) -> None:
    if missing:
        raise ChunkMissing(
            f"of {len(missing)} changed or old files the list of pieces is neither here nor in the "
            "remote; push them from where they were added"
        )
