import struct
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunk_list import (
    MAX_CHUNKS_PER_FILE,
    ChunkList,
    ChunkSpan,
    encode_chunk_list,
    parse_chunk_list,
)
from store.chunking import MAX_CHUNK_BYTES
from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.ids import CHUNK_ID_BYTES, ChunkId, chunk_id
from store.pointer import Pointer
from tests.store.damage import every_cut_or_addition, every_flip, unhurried

HEADER_BYTES = 16
ENTRY_BYTES = CHUNK_ID_BYTES + 4
CHUNKS = [(chunk_id(bytes([n])), length) for n, length in enumerate([300, 1, MAX_CHUNK_BYTES])]

ids = st.binary(min_size=CHUNK_ID_BYTES, max_size=CHUNK_ID_BYTES).map(ChunkId)
lengths = st.integers(1, 20) | st.integers(1, MAX_CHUNK_BYTES)
files = st.lists(st.tuples(ids, lengths), min_size=2, max_size=12)


def pointer_to(raw: bytes, chunks: list[tuple[ChunkId, int]]) -> Pointer:
    return Pointer(chunk_id(raw), sum(length for _, length in chunks), len(chunks))


def parsed(chunks: list[tuple[ChunkId, int]]) -> ChunkList:
    raw = encode_chunk_list(chunks)
    return parse_chunk_list(raw, pointer_to(raw, chunks))


def header(count: int, *, magic: bytes = b"RVCL", version: int = 1) -> bytes:
    return struct.pack("<4sIQ", magic, version, count)


def test_a_chunk_list_is_laid_out_as_documented() -> None:
    entries = b"".join(chunk + struct.pack("<I", length) for chunk, length in CHUNKS)
    assert encode_chunk_list(CHUNKS) == header(len(CHUNKS)) + entries


@unhurried
@given(files)
def test_what_is_written_is_read_back(chunks: list[tuple[ChunkId, int]]) -> None:
    chunk_list = parsed(chunks)
    starts = accumulate((length for _, length in chunks), initial=0)
    spans = [ChunkSpan(chunk, start, n) for (chunk, n), start in zip(chunks, starts, strict=False)]
    assert [chunk_list.span(index) for index in range(len(chunk_list))] == spans
    assert chunk_list.size == sum(length for _, length in chunks)


@unhurried
@given(
    st.lists(st.tuples(ids, st.integers(1, 5)), min_size=2, max_size=8),
    st.integers(-3, 45),
    st.integers(-3, 45),
)
def test_covering_names_each_chunk_with_a_byte_in_the_range(
    chunks: list[tuple[ChunkId, int]], offset: int, length: int
) -> None:
    chunk_list = parsed(chunks)
    wanted = set(range(offset, offset + length))
    spans = [chunk_list.span(index) for index in range(len(chunk_list))]
    assert list(chunk_list.covering(offset, length)) == [
        index
        for index, span in enumerate(spans)
        if wanted & set(range(span.start, span.start + span.length))
    ]


def test_damage_is_refused_save_in_a_chunk_id_which_gives_the_list_another_id() -> None:
    raw = encode_chunk_list(CHUNKS)
    pointer = pointer_to(raw, CHUNKS)
    for place, flipped in every_flip(raw):
        in_an_id = place >= HEADER_BYTES and (place - HEADER_BYTES) % ENTRY_BYTES < CHUNK_ID_BYTES
        if in_an_id:
            assert parse_chunk_list(flipped, pointer) != parse_chunk_list(raw, pointer)
            assert chunk_id(flipped) != pointer.content
        else:
            with pytest.raises(MalformedObject):
                parse_chunk_list(flipped, pointer)
    for damaged in every_cut_or_addition(raw):
        with pytest.raises(MalformedObject):
            parse_chunk_list(damaged, pointer)


@unhurried
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObject):
        parse_chunk_list(raw, Pointer(chunk_id(raw), 100, 2))


@pytest.mark.parametrize("count", [0, 1, 10**9, 2**64 - 1])
def test_a_count_that_the_bytes_do_not_hold_is_refused(count: int) -> None:
    raw = header(count) + encode_chunk_list(CHUNKS)[HEADER_BYTES:]
    with pytest.raises(MalformedObject, match="says that it names"):
        parse_chunk_list(raw, Pointer(chunk_id(raw), count * MAX_CHUNK_BYTES, count))


def test_a_list_of_one_chunk_is_refused() -> None:
    raw = header(1) + CHUNKS[0][0] + struct.pack("<I", CHUNKS[0][1])
    with pytest.raises(MalformedObject):
        parse_chunk_list(raw, Pointer(chunk_id(raw), CHUNKS[0][1], 1))


@pytest.mark.parametrize("length", [0, MAX_CHUNK_BYTES + 1, 2**32 - 1])
def test_a_length_that_no_chunk_can_have_is_refused(length: int) -> None:
    chunks = [CHUNKS[0], (CHUNKS[1][0], length)]
    raw = encode_chunk_list(chunks)
    with pytest.raises(MalformedObject, match=f"a chunk of {length} bytes"):
        parse_chunk_list(raw, pointer_to(raw, chunks))


@pytest.mark.parametrize(("more_bytes", "more_chunks"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_list_of_another_file_is_refused(more_bytes: int, more_chunks: int) -> None:
    raw = encode_chunk_list(CHUNKS)
    own = pointer_to(raw, CHUNKS)
    other = Pointer(own.content, own.size + more_bytes, own.chunks + more_chunks)
    with pytest.raises(MalformedObject, match="where its pointer says"):
        parse_chunk_list(raw, other)


def test_an_unknown_version_is_refused_as_such() -> None:
    raw = header(len(CHUNKS), version=2) + b"whatever a later version holds"
    with pytest.raises(UnsupportedVersion):
        parse_chunk_list(raw, pointer_to(raw, CHUNKS))


def test_other_content_is_refused_as_such() -> None:
    raw = header(len(CHUNKS), magic=b"\x89PNG")
    with pytest.raises(MalformedObject, match="not a chunk list"):
        parse_chunk_list(raw, pointer_to(raw, CHUNKS))


def test_the_longest_list_is_a_chunk_and_one_more_is_refused() -> None:
    longest = [CHUNKS[0]] * MAX_CHUNKS_PER_FILE
    raw = encode_chunk_list(longest)
    assert len(raw) <= MAX_CHUNK_BYTES < len(raw) + ENTRY_BYTES
    assert len(parse_chunk_list(raw, pointer_to(raw, longest))) == MAX_CHUNKS_PER_FILE
    with pytest.raises(StoreError, match="too large"):
        encode_chunk_list([*longest, CHUNKS[0]])
