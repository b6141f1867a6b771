from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunking import MAX_CHUNK_BYTES
from store.ids import ChunkId, chunk_id
from store.pointer import (
    MAX_FILE_BYTES,
    MAX_POINTER_BYTES,
    Pointer,
    parse_pointer,
    parse_pointers,
)
from tests.store.damage import every_damage, unhurried

CONTENT = chunk_id(b"some content")
HEX = CONTENT.hex()
ONE_CHUNK = f"revfs 1\nblake3 {HEX}\nsize 12\n".encode()
TWO_CHUNKS = f"revfs 1\nblake3 {HEX}\nsize 5000000\nchunks 2\n".encode()


@st.composite
def pointers(draw: st.DrawFn) -> Pointer:
    size = draw(st.integers(1, MAX_FILE_BYTES))
    least_chunks = -(-size // MAX_CHUNK_BYTES)
    chunks = draw(st.integers(least_chunks, size))
    return Pointer(ChunkId(draw(st.binary(min_size=32, max_size=32))), size, chunks)


def test_a_pointer_is_spelled_as_documented() -> None:
    assert Pointer(CONTENT, 12).to_bytes() == ONE_CHUNK
    assert Pointer(CONTENT, 5_000_000, 2).to_bytes() == TWO_CHUNKS


@unhurried
@given(pointers())
def test_what_is_written_is_read_back(pointer: Pointer) -> None:
    blob = pointer.to_bytes()
    assert len(blob) <= MAX_POINTER_BYTES
    assert parse_pointer(blob) == pointer


# A flipped digit is another pointer, and so another git blob: the commit id proves which is meant.
@pytest.mark.parametrize("blob", [ONE_CHUNK, TWO_CHUNKS])
def test_a_damaged_pointer_is_a_file_or_the_one_spelling_of_another_pointer(blob: bytes) -> None:
    for damaged in every_damage(blob):
        pointer = parse_pointer(damaged)
        assert pointer is None or pointer.to_bytes() == damaged
        assert pointer != parse_pointer(blob)


@unhurried
@given(st.binary(max_size=MAX_POINTER_BYTES + 1))
def test_arbitrary_bytes_are_a_file(blob: bytes) -> None:
    assert parse_pointer(blob) is None


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (b"\n", b"\r\n"),
        (b"size 5000000", b"size +5000000"),
        (b"size 5000000", b"size -5000000"),
        (b"size 5000000", b"size 05000000"),
        (b"size 5000000", b"size  5000000"),
        (b"size 5000000", b"size 5_000_000"),
        (b"size 5000000", b"size 5e6"),
        (b"size 5000000", "size \N{ARABIC-INDIC DIGIT FIVE}".encode()),
        (b"size 5000000\n", b""),
        (b"size 5000000", b"size 5000000 "),
        (b"chunks 2\n", b"chunks 2"),
        (b"chunks 2\n", b"chunks 2\n\n"),
        (b"chunks 2\n", b"chunks 2\nchunks 2\n"),
        (b"chunks 2", b"chunks 0"),
        (b"chunks 2", b"chunks 02"),
        (b"revfs 1", b"revfs 2"),
        (b"revfs 1", b"\xef\xbb\xbfrevfs 1"),
        (b"revfs 1", b"\nrevfs 1"),
        (HEX.encode(), HEX.upper().encode()),
        (HEX.encode(), HEX[:-1].encode()),
        (b"blake3", b"sha256"),
    ],
)
def test_another_spelling_is_a_file(part: bytes, instead: bytes) -> None:
    assert part in TWO_CHUNKS
    assert parse_pointer(TWO_CHUNKS.replace(part, instead)) is None


def test_the_chunks_line_is_not_written_for_one_chunk() -> None:
    assert parse_pointer(ONE_CHUNK + b"chunks 1\n") is None


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (0, 1),
        (MAX_CHUNK_BYTES + 1, 1),
        (2 * MAX_CHUNK_BYTES + 1, 2),
        (2, 3),
        (MAX_FILE_BYTES + 1, MAX_FILE_BYTES),
        (10**30, 2),
        (MAX_FILE_BYTES, 10**30),
    ],
)
def test_numbers_that_no_file_can_have_are_a_file(size: int, chunks: int) -> None:
    line = f"chunks {chunks}\n" if chunks > 1 else ""
    assert parse_pointer(f"revfs 1\nblake3 {HEX}\nsize {size}\n{line}".encode()) is None
    with pytest.raises(AssertionError):
        Pointer(CONTENT, size, chunks).to_bytes()


@pytest.mark.parametrize(
    ("size", "chunks"), [(1, 1), (MAX_CHUNK_BYTES, 1), (2 * MAX_CHUNK_BYTES, 2), (3, 3)]
)
def test_numbers_at_the_limits_are_a_pointer(size: int, chunks: int) -> None:
    pointer = Pointer(CONTENT, size, chunks)
    assert parse_pointer(pointer.to_bytes()) == pointer


def test_a_blob_above_the_limit_is_not_even_looked_at() -> None:
    assert parse_pointer(ONE_CHUNK.ljust(MAX_POINTER_BYTES + 1, b"\n")) is None


def parsed_one_by_one(blobs: list[bytes]) -> list[tuple[bytes, int, int] | None]:
    found = map(parse_pointer, blobs)
    return [p and (p.content, p.size, p.chunks) for p in found]


@unhurried
@given(st.lists(pointers(), max_size=5), st.randoms())
def test_many_pointers_are_parsed_as_one_by_one(listed: list[Pointer], random: Random) -> None:
    blobs = [pointer.to_bytes() for pointer in listed]
    assert parse_pointers(blobs) == parsed_one_by_one(blobs) != [None]
    blobs += [b"", b"an ordinary file", b"revfs 1\n", b"\0"]
    random.shuffle(blobs)
    assert parse_pointers(blobs) == parsed_one_by_one(blobs)


@pytest.mark.parametrize("blob", [ONE_CHUNK, TWO_CHUNKS])
def test_a_damaged_pointer_among_others_is_parsed_as_by_itself(blob: bytes) -> None:
    for damaged in every_damage(blob):
        blobs = [ONE_CHUNK, damaged, TWO_CHUNKS]
        assert parse_pointers(blobs) == parsed_one_by_one(blobs)
        assert parse_pointers([damaged]) == parsed_one_by_one([damaged])


@pytest.mark.parametrize("between", [b"", b"\0", b"\n", b"\0\0"])
def test_texts_that_are_pointers_only_when_joined_or_parted_are_files(between: bytes) -> None:
    for cut in range(len(TWO_CHUNKS)):
        parts = [TWO_CHUNKS[:cut] + between, TWO_CHUNKS[cut:], ONE_CHUNK + between + ONE_CHUNK]
        for blobs in (parts, parts[:2], parts[2:], [*parts, ONE_CHUNK]):
            assert parse_pointers(blobs) == parsed_one_by_one(blobs)


@pytest.mark.parametrize(
    "numbers",
    [
        b"size 0\n",
        b"size 4194305\n",
        b"size %d\n" % (MAX_FILE_BYTES + 1),
        b"size 12\nchunks 13\n",
        b"size 12\nchunks 1\n",
        b"size 12\nchunks 02\n",
        b"size 12\nchunks 0\n",
        b"size 12\nchunks 12\n",
        b"size 12345678901234567\n",
    ],
)
def test_numbers_that_no_file_can_have_are_told_among_many(numbers: bytes) -> None:
    odd = b"revfs 1\nblake3 " + HEX.encode() + b"\n" + numbers
    for blobs in ([odd], [ONE_CHUNK, odd], [odd, TWO_CHUNKS, odd]):
        assert parse_pointers(blobs) == parsed_one_by_one(blobs)
