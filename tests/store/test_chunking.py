import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from store.chunking import (
    DEFAULT_CHUNKING,
    MAX_CHUNK_BYTES,
    ChunkingParameters,
    read_chunks,
)
from store.errors import MalformedObject
from tests.store.damage import unhurried

GOLDEN = [848218, 2257769, 1182347, 1903461, 1082757, 1576399, 1432183, 1781675, 518103]
GOLDEN_SMALL = [386, 403, 439, 377, 449, 469, 342, 355, 334, 146, 300]
SMALL = ChunkingParameters(64, 256, 1024)


class ShortReads(io.RawIOBase):
    """A stream that gives 1 to `most` bytes at a time, as a pipe may, and counts them."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__()
        self._content = io.BytesIO(content)
        self._sizes = random.Random(most)
        self._most = most
        self.bytes_read = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._content.readinto(buffer[: self._sizes.randint(1, self._most)])
        self.bytes_read += count
        return count


def cut_in_one_buffer(content: bytes, parameters: ChunkingParameters) -> list[bytes]:
    cutter = FastCDC(
        parameters.mean_bytes, min_size=parameters.least_bytes, max_size=parameters.most_bytes
    )
    return [bytes(chunk.data) for chunk in cutter.cut_buf(content)]


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Noise, runs of one byte (cut at `most_bytes` only) and repeats, up to some 30 KiB."""
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        noise = random.Random(draw(st.integers(0, 2**32))).randbytes(draw(st.integers(0, 4000)))
        pieces += [noise, bytes(draw(st.integers(0, 4000))), noise]
    return b"".join(pieces)


@st.composite
def small_parameters(draw: st.DrawFn) -> ChunkingParameters:
    least = draw(st.integers(64, 300))
    mean = draw(st.integers(max(least, 256), 700))
    return ChunkingParameters(least, mean, draw(st.integers(1024, 1500)))


@unhurried
@given(contents(), small_parameters(), st.integers(1, 5000), st.integers(1, 3000))
def test_cuts_do_not_depend_on_the_window_or_on_short_reads(
    content: bytes, parameters: ChunkingParameters, window_bytes: int, most: int
) -> None:
    chunks = list(read_chunks(ShortReads(content, most), parameters, window_bytes))
    assert chunks == cut_in_one_buffer(content, parameters)


@unhurried
@given(contents(), small_parameters())
def test_chunks_make_up_the_file_and_keep_their_bounds(
    content: bytes, parameters: ChunkingParameters
) -> None:
    chunks = list(read_chunks(io.BytesIO(content), parameters))
    assert b"".join(chunks) == content
    assert all(len(chunk) <= parameters.most_bytes for chunk in chunks)
    assert all(len(chunk) >= parameters.least_bytes - 1 for chunk in chunks[:-1])
    assert all(chunks)


def test_an_empty_file_has_no_chunks() -> None:
    assert list(read_chunks(io.BytesIO(), DEFAULT_CHUNKING)) == []


@pytest.mark.parametrize("size", [1, SMALL.least_bytes - 1, SMALL.least_bytes])
def test_a_file_of_the_least_size_or_below_is_one_chunk(size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert list(read_chunks(io.BytesIO(content), SMALL)) == [content]


def test_a_file_just_above_the_least_size_is_cut_like_any_other() -> None:
    for seed in range(300):
        content = random.Random(seed).randbytes(SMALL.least_bytes + 1 + seed % 30)
        assert list(read_chunks(io.BytesIO(content), SMALL)) == cut_in_one_buffer(content, SMALL)


def test_only_what_is_left_of_the_file_is_cut() -> None:
    file = io.BytesIO(b"a header, then this")
    file.seek(10)
    assert list(read_chunks(file, SMALL)) == [b"then this"]


def test_an_inserted_byte_changes_only_the_chunks_around_it() -> None:
    content = random.Random(1).randbytes(200 * SMALL.mean_bytes)
    middle = len(content) // 2
    edited = content[:middle] + b"!" + content[middle:]
    before = list(read_chunks(io.BytesIO(content), SMALL))
    after = list(read_chunks(io.BytesIO(edited), SMALL))
    assert len(set(after) - set(before)) <= 4


def test_chunks_come_before_the_rest_of_the_file_is_read() -> None:
    file = ShortReads(random.Random(2).randbytes(100_000), most=100)
    window_bytes = 2000
    next(read_chunks(file, SMALL, window_bytes))
    assert file.bytes_read <= window_bytes + SMALL.most_bytes


# Whoever sees one of these two fail has a library that cuts differently: with it, nothing that is
# added from now on would share chunks with what is stored already.
def test_the_default_cut_points_are_those_of_all_data_stored_so_far() -> None:
    content = random.Random(7).randbytes(12 << 20)
    assert [len(chunk) for chunk in read_chunks(io.BytesIO(content), DEFAULT_CHUNKING)] == GOLDEN


def test_the_small_cut_points_are_those_of_all_data_stored_so_far() -> None:
    content = random.Random(7).randbytes(4000)
    assert [len(chunk) for chunk in read_chunks(io.BytesIO(content), SMALL)] == GOLDEN_SMALL


@unhurried
@given(st.integers(60, 2000), st.integers(250, 3000), st.integers(1000, 5000))
def test_what_is_accepted_the_library_accepts_too(least: int, mean: int, most: int) -> None:
    try:
        parameters = ChunkingParameters(least, mean, most)
    except MalformedObject:
        with pytest.raises(ValueError):
            FastCDC(mean, min_size=least, max_size=most)
    else:
        cut_in_one_buffer(bytes(10), parameters)


@pytest.mark.parametrize(
    "sizes",
    [
        (64, 256, 1024),
        (1 << 20, 4 << 20, MAX_CHUNK_BYTES),
        (256, 256, 1024),
        (1024, 1024, 1024),
    ],
)
def test_parameters_at_the_limits_can_be_used(sizes: tuple[int, int, int]) -> None:
    content = random.Random(3).randbytes(3000)
    parameters = ChunkingParameters(*sizes)
    assert list(read_chunks(io.BytesIO(content), parameters)) == cut_in_one_buffer(
        content, parameters
    )


@pytest.mark.parametrize(
    "sizes",
    [
        (0, 0, 0),
        (-64, 256, 1024),
        (63, 256, 1024),
        (64, 255, 1024),
        (64, 256, 1023),
        (512, 256, 1024),
        (64, 2048, 1024),
        ((1 << 20) + 1, 2 << 20, 4 << 20),
        (64, 256, MAX_CHUNK_BYTES + 1),
        (10**9, 10**9, 10**9),
    ],
)
def test_parameters_beyond_the_limits_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(MalformedObject, match="cannot be used"):
        ChunkingParameters(*sizes)
