import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from store.chunking import MAX_CHUNK_BYTES
from store.codec import MAX_WINDOW_BYTES, Codec, compress_chunk, decompress_chunk
from store.errors import MalformedObject
from tests.store.damage import every_damage, unhurried

NOISE = random.Random(5).randbytes(1 << 20)
TEXT = b"the same words, again and again; "
SKIPPABLE_FRAME = struct.pack("<II3s", 0x184D2A50, 3, b"abc")
STORED_RAW = st.binary(min_size=1, max_size=300)


def text(length: int) -> bytes:
    return (TEXT * (length // len(TEXT) + 1))[:length]


def frame(
    content: bytes, *, window_exponent: int = 0, dictionary: int = 0, size: int | None = None
) -> bytes:
    """A zstd frame of one stored block (RFC 8878 §3.1.1), which may say any size of content, a
    window of 2^(10 + window_exponent) bytes and the id of a dictionary."""
    descriptor = 0x80 | (0x01 if dictionary else 0)
    head = struct.pack("<IBB", zstandard.MAGIC_NUMBER, descriptor, window_exponent << 3)
    head += bytes([dictionary]) if dictionary else b""
    head += struct.pack("<I", len(content) if size is None else size)
    return head + (len(content) << 3 | 1).to_bytes(3, "little") + content


@unhurried
@given(STORED_RAW | st.builds(text, st.integers(1, 200_000)))
def test_what_is_compressed_is_decompressed(raw: bytes) -> None:
    codec, stored = compress_chunk(raw)
    assert decompress_chunk(stored, codec, len(raw)) == raw
    assert (codec is Codec.RAW) == (stored == raw)
    assert len(stored) < len(raw) or codec is Codec.RAW


@pytest.mark.parametrize("size", [1000, 64 << 10, (64 << 10) + 1, MAX_CHUNK_BYTES])
def test_text_is_compressed(size: int) -> None:
    codec, stored = compress_chunk(text(size))
    assert codec is Codec.ZSTD
    assert len(stored) < size // 10


@pytest.mark.parametrize("size", [1, 1000, 64 << 10, 1 << 20])
def test_noise_is_kept_as_it_is(size: int) -> None:
    assert compress_chunk(NOISE[:size]) == (Codec.RAW, NOISE[:size])


def test_a_large_chunk_with_noise_in_its_middle_is_not_tried() -> None:
    raw = text(100_000) + NOISE[:50_000] + text(100_000)
    assert compress_chunk(raw)[0] is Codec.RAW


def test_a_chunk_that_shrinks_too_little_is_kept_as_it_is() -> None:
    probed = text(20_000)
    assert compress_chunk(NOISE[: 1 << 19] + probed + NOISE[1 << 19 :])[0] is Codec.RAW
    assert compress_chunk(NOISE[:50_000] + text(2000))[0] is Codec.RAW
    assert compress_chunk(NOISE[:50_000] + text(5000))[0] is Codec.ZSTD


def test_many_threads_may_work_at_once() -> None:
    chunks = [text(50_000 + n) for n in range(200)]

    def and_back(raw: bytes) -> bytes:
        codec, stored = compress_chunk(raw)
        return decompress_chunk(stored, codec, len(raw))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(and_back, chunks)) == chunks


# A flipped literal decodes to another byte; only the chunk's id, checked next, can tell.
def test_a_damaged_frame_is_refused_or_decodes_to_the_promised_length() -> None:
    raw = bytes(range(100)) + text(100)
    stored = zstandard.compress(raw)
    for damaged in every_damage(stored):
        try:
            assert len(decompress_chunk(damaged, Codec.ZSTD, len(raw))) == len(raw)
        except MalformedObject:
            continue
        assert len(damaged) == len(stored), "a frame cut short or followed by a byte passed"


@unhurried
@given(st.binary(max_size=100), st.integers(0, 3), st.integers(-1, 200))
def test_arbitrary_bytes_are_refused_or_of_the_promised_length(
    stored: bytes, codec: int, raw_length: int
) -> None:
    try:
        raw = decompress_chunk(stored, codec, raw_length)
    except MalformedObject:
        return
    assert len(raw) == raw_length


def test_a_frame_made_by_hand_is_decoded() -> None:
    # The control of the hostile ones below: nothing but what they say of themselves is wrong.
    assert decompress_chunk(frame(b"abc"), Codec.ZSTD, 3) == b"abc"
    largest_window = frame(b"abc", window_exponent=MAX_WINDOW_BYTES.bit_length() - 11)
    assert decompress_chunk(largest_window, Codec.ZSTD, 3) == b"abc"


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (frame(b"abc", size=2**32 - 1), "does not state 3 bytes"),
        (frame(b"abc", size=2), "does not state 3 bytes"),
        (frame(b"abcd", size=3), "cannot be decoded"),
        (frame(b"ab", size=3), "cannot be decoded"),
        (frame(b"abc", window_exponent=MAX_WINDOW_BYTES.bit_length() - 10), "wants a window"),
        (frame(b"abc", window_exponent=31), "cannot be decoded"),
        (frame(b"abc", dictionary=7), "wants a dictionary"),
        (frame(b"abc") + b"\0", "unused data"),
        (frame(b"abc") + frame(b"abc"), "unused data"),
        (SKIPPABLE_FRAME, "cannot be decoded"),
        (b"", "cannot be decoded"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"abc"), "does not state"),
    ],
)
def test_a_frame_that_promises_anything_else_is_refused(stored: bytes, reason: str) -> None:
    with pytest.raises(MalformedObject, match=reason):
        decompress_chunk(stored, Codec.ZSTD, 3)


@pytest.mark.parametrize("raw_length", [-1, 0, MAX_CHUNK_BYTES + 1, 2**40])
def test_a_length_that_no_chunk_can_have_is_refused_before_anything_is_decoded(
    raw_length: int,
) -> None:
    bomb = zstandard.compress(bytes(MAX_CHUNK_BYTES + 1))
    for codec in Codec:
        with pytest.raises(MalformedObject, match="is said to be"):
            decompress_chunk(bomb, codec, raw_length)


def test_uncompressed_bytes_of_another_length_are_refused() -> None:
    with pytest.raises(MalformedObject, match="is stored as 3"):
        decompress_chunk(b"abc", Codec.RAW, 4)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(MalformedObject, match="unknown codec"):
        decompress_chunk(b"abc", max(Codec) + 1, 3)
