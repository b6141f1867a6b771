"""How a chunk is stored: as it is, or as one zstd frame (RFC 8878) where that pays.

Compressed bytes come from strangers. Everything a frame says of itself is checked before it is
decoded, so that no frame makes us hold more than one chunk and one window.
"""

import threading
from enum import IntEnum

import zstandard

from store.chunking import MAX_CHUNK_BYTES
from store.errors import MalformedObject

MAX_WINDOW_BYTES = 8 << 20

_LEVEL = 3
_PROBE_LEVEL = 1
_PROBE_BYTES = 16 << 10
# Below this the probe would cost about as much as the compression that it may save.
_PROBED_ABOVE_BYTES = 64 << 10
_PROBE_KEEPS_PERCENT = 90
_RESULT_KEEPS_PERCENT = 95


class Codec(IntEnum):
    """What the stored bytes of a chunk are; the number stands in pack tables and index objects."""

    RAW = 0
    ZSTD = 1


class _Contexts(threading.local):
    """The zstd contexts of one thread; none may be used by two threads at a time."""

    def __init__(self) -> None:
        self.probe = zstandard.ZstdCompressor(level=_PROBE_LEVEL)
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)


_contexts = _Contexts()


def compress_chunk(raw: bytes) -> tuple[Codec, bytes]:
    """How to store a chunk, and its stored bytes: smaller than `raw`, or `raw` itself.

    Safe in many threads at once; the interpreter lock is released while zstd works.
    """
    if len(raw) > _PROBED_ABOVE_BYTES and not _probe_pays(raw):
        return Codec.RAW, raw
    stored = _contexts.compressor.compress(raw)
    if len(stored) * 100 > len(raw) * _RESULT_KEEPS_PERCENT:
        return Codec.RAW, raw
    return Codec.ZSTD, stored


def decompress_chunk(stored: bytes, codec: int, raw_length: int) -> bytes:
    """The raw bytes of a chunk, exactly `raw_length` of them.

    Raises MalformedObject where `stored` cannot be that: an unknown codec, another length than
    promised, bytes after the frame, or a frame that asks for a dictionary or too large a window.
    """
    if not 1 <= raw_length <= MAX_CHUNK_BYTES:
        raise MalformedObject(f"a chunk is said to be {raw_length} bytes long")
    if codec == Codec.RAW:
        if len(stored) != raw_length:
            raise MalformedObject(
                f"an uncompressed chunk of {raw_length} bytes is stored as {len(stored)}"
            )
        return stored
    if codec != Codec.ZSTD:
        raise MalformedObject(f"a chunk has the unknown codec {codec}")
    return _decompress_frame(stored, raw_length)


def _probe_pays(raw: bytes) -> bool:
    """Whether a sample from the middle shrinks well enough to try the whole chunk."""
    start = (len(raw) - _PROBE_BYTES) // 2
    sample = raw[start : start + _PROBE_BYTES]
    return len(_contexts.probe.compress(sample)) * 100 <= _PROBE_BYTES * _PROBE_KEEPS_PERCENT


def _decompress_frame(stored: bytes, raw_length: int) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(stored)
        # The library allocates what the frame says before it decodes a byte, and ignores
        # max_output_size where the frame says anything. An unstated size reads as 2^64 - 1.
        if frame.content_size != raw_length:
            raise MalformedObject(f"a zstd frame does not state {raw_length} bytes of content")
        if frame.window_size > MAX_WINDOW_BYTES:
            raise MalformedObject(f"a zstd frame wants a window of {frame.window_size} bytes")
        if frame.dict_id:
            raise MalformedObject("a zstd frame wants a dictionary")
        raw = _contexts.decompressor.decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedObject(f"a zstd frame cannot be decoded: {error}") from error
    if len(raw) != raw_length:
        raise MalformedObject(f"a zstd frame decodes to {len(raw)} bytes, not {raw_length}")
    return raw
