"""Targets: pointers, chunk lists, stored chunks, packs and index objects.

Hashes that a fuzzer could not guess are put right before a parser sees them, each after the bytes
were also tried as they are.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import zstandard

from store.chunk_list import MAX_CHUNKS_PER_FILE, encode_chunk_list, parse_chunk_list
from store.chunking import MAX_CHUNK_BYTES
from store.codec import decompress_chunk
from store.errors import IntegrityError, MalformedObject
from store.ids import PackName, chunk_id, hash_bytes
from store.packs import (
    PACK_FOOTER_BYTES,
    PACK_HEADER_BYTES,
    TABLE_ENTRY_BYTES,
    PackKind,
    PackTable,
    PackWriter,
    load_pack_table,
    parse_pack_header,
    unpack_chunk,
    verify_pack,
)
from store.pointer import Pointer, parse_pointer, parse_pointers
from store.remote_index import (
    IndexedPack,
    encode_index,
    iterate_places,
    parse_index,
    sorted_places,
)
from tests.fuzz.target import Refused, Target, only

IDS = [chunk_id(bytes([number])) for number in range(8)]
CHUNKS = [b"a", b"text " * 60, bytes(range(256)), b"\0" * 5000]
_ENTRY = struct.Struct("<32sIIIB")


def check_pointer(raw: bytes) -> None:
    """One spelling, alone and among many."""
    found = parse_pointer(raw)
    assert found is None or found.to_bytes() == raw
    texts = [raw, *raw.split(b"\xff", 5), IDS[0], Pointer(IDS[0], 7).to_bytes()]
    for blobs in ([raw], texts, [text for text in texts if parse_pointer(text)]):
        one_by_one = [parse_pointer(blob) for blob in blobs]
        for pointer, parts in zip(one_by_one, parse_pointers(blobs), strict=True):
            assert (pointer is None) == (parts is None)
            assert pointer is None or (pointer.content, pointer.size, pointer.chunks) == parts


def pointer_seeds() -> Iterator[bytes]:
    """Small, large, of many chunks; and several at once."""
    pointers = [Pointer(IDS[0], 1), Pointer(IDS[1], 2**53, MAX_CHUNKS_PER_FILE**2)]
    texts = [pointer.to_bytes() for pointer in pointers]
    yield from texts
    yield b"\xff".join(texts)
    yield texts[0] + b"\0" + texts[1]


def check_chunk_list(raw: bytes) -> None:
    """One spelling, of the very file that the pointer stands for."""
    lengths = [
        length
        for *_, length in struct.iter_unpack("<32sI", raw[16 : 16 + len(raw[16:]) // 36 * 36])
    ]
    (count,) = struct.unpack_from("<Q", raw, 8) if len(raw) >= 16 else (2,)
    with only(MalformedObject):
        found = parse_chunk_list(raw, Pointer(chunk_id(raw), sum(lengths), count))
    spans = [found.span(index) for index in range(len(found))]
    assert encode_chunk_list([(span.chunk, span.length) for span in spans]) == raw
    assert [span.length for span in spans] == lengths
    assert found.covering(-1, found.size + 2) == range(len(found))
    for pointer in (Pointer(chunk_id(raw), found.size + 1, count), Pointer(IDS[0], 5, 2)):
        with suppress(Refused), only(MalformedObject):
            parse_chunk_list(raw, pointer)
            assert (pointer.size, pointer.chunks) == (found.size, len(found))


def chunk_list_seeds() -> Iterator[bytes]:
    """Of two and of eight chunks."""
    yield encode_chunk_list([(IDS[0], 1), (IDS[1], MAX_CHUNK_BYTES)])
    yield encode_chunk_list([(chunk, 1000) for chunk in IDS])


def check_codec(raw: bytes) -> None:
    """Exactly the promised length, or refused. The first bytes are length and codec."""
    if len(raw) < 5:
        return
    raw_length, codec = struct.unpack_from("<IB", raw)
    with only(MalformedObject):
        assert len(decompress_chunk(raw[5:], codec, raw_length)) == raw_length


def codec_seeds() -> Iterator[bytes]:
    """Both codecs; frames of one block and of several."""
    for chunk in CHUNKS:
        yield struct.pack("<IB", len(chunk), 0) + chunk
        for level in (1, 3, 19):
            frame = zstandard.ZstdCompressor(level=level, write_checksum=level == 1).compress(chunk)
            yield struct.pack("<IB", len(chunk), 1) + frame


def check_pack_table(raw: bytes) -> None:
    """Tiles its pack; each entry is found by each end of it."""
    rows = raw[: len(raw) // TABLE_ENTRY_BYTES * TABLE_ENTRY_BYTES]
    stored = sum(row[2] for row in _ENTRY.iter_unpack(rows))
    with only(MalformedObject):
        size = PACK_HEADER_BYTES + stored + len(raw) + PACK_FOOTER_BYTES
        table = PackTable.checked(raw, size)
    assert b"".join(_ENTRY.pack(*entry) for entry in table) == raw
    assert table.pack_size == size
    for index, entry in enumerate(table):
        assert table.entry_index_at(entry.offset) == index == table.entry_index_at(entry.end - 1)
    for outside in (0, PACK_HEADER_BYTES - 1, PACK_HEADER_BYTES + stored):
        with suppress(Refused), only(MalformedObject):
            raise AssertionError(f"a chunk at {outside}: {table.entry_index_at(outside)}")


def check_pack(raw: bytes) -> None:
    """A pack that proves true is the very bytes that a writer makes of what is in it."""
    for whole in (raw, _with_right_hashes(raw)):
        with suppress(Refused):
            _check_whole_pack(whole)


def _check_whole_pack(raw: bytes) -> None:
    descriptor = os.memfd_create("pack")
    try:
        os.write(descriptor, raw)
        path = Path(f"/proc/self/fd/{descriptor}")
        with only(MalformedObject):
            kind, table = load_pack_table(path)
        with only(MalformedObject, IntegrityError):
            summary = verify_pack(path)
    finally:
        os.close(descriptor)
    assert (summary.kind, summary.table) == (kind, table)
    assert summary.size == len(raw)
    file = io.BytesIO()
    writer = PackWriter(file, kind)
    for entry in table:
        stored = raw[entry.offset : entry.end]
        assert chunk_id(unpack_chunk(entry, stored)) == entry.chunk
        writer.append(entry.chunk, entry.codec, stored, entry.raw_length)
    assert writer.finish() == summary
    # What is between chunks and table is vouched for by the hash of the whole alone.
    assert (file.getvalue() == raw) == (summary.hash == hash_bytes(raw))


def _with_right_hashes(raw: bytes) -> bytes:
    """The pack with the ids of all chunks that can be decoded, and the hash of its table."""
    if len(raw) < PACK_HEADER_BYTES + PACK_FOOTER_BYTES:
        return raw
    (length,) = struct.unpack_from("<I", raw, len(raw) - PACK_FOOTER_BYTES)
    start = max(0, len(raw) - PACK_FOOTER_BYTES - length)
    table = bytearray(raw[start : len(raw) - PACK_FOOTER_BYTES])
    for place in range(0, len(table) - TABLE_ENTRY_BYTES + 1, TABLE_ENTRY_BYTES):
        _, offset, stored, raw_length, codec = _ENTRY.unpack_from(table, place)
        with suppress(MalformedObject):
            content = decompress_chunk(raw[offset : offset + stored], codec, raw_length)
            table[place : place + 32] = chunk_id(content)
    return raw[:start] + table + struct.pack("<I32s4s", length, hash_bytes(table), raw[-4:])


def _build_pack(kind: PackKind, chunks: list[bytes]) -> tuple[bytes, IndexedPack]:
    file = io.BytesIO()
    writer = PackWriter(file, kind)
    for chunk in chunks:
        stored = zstandard.ZstdCompressor(level=3).compress(chunk)
        codec = int(len(stored) < len(chunk))
        writer.append(chunk_id(chunk), codec, stored if codec else chunk, len(chunk))
    summary = writer.finish()
    name = PackName(hash_bytes(file.getvalue())[:16].hex())
    return file.getvalue(), IndexedPack(name, summary.size, summary.hash, summary.table)


PACKS = [
    _build_pack(PackKind.DATA, CHUNKS),
    _build_pack(PackKind.LISTS, [encode_chunk_list([(IDS[0], 1), (IDS[1], 2)])]),
    _build_pack(PackKind.DATA, CHUNKS[:1]),
]


def pack_seeds() -> Iterator[bytes]:
    """Of both kinds and both codecs."""
    yield from (raw for raw, _ in PACKS)


def table_seeds() -> Iterator[bytes]:
    """Their tables."""
    yield from (indexed.table.raw for _, indexed in PACKS)


def check_pack_header(raw: bytes) -> None:
    """One spelling for each kind."""
    with only(MalformedObject):
        kind = parse_pack_header(raw)
    assert raw == struct.pack("<4sBBH", b"RVPK", 1, kind, 0)


def header_seeds() -> Iterator[bytes]:
    """Of both kinds."""
    yield from (raw[:PACK_HEADER_BYTES] for raw, _ in PACKS[:2])


def check_index(raw: bytes) -> None:
    """One spelling; the places are those of the tables."""
    with only(MalformedObject):
        packs = parse_index(raw)
    assert encode_index(packs) == raw
    assert list(iterate_places(raw, b"p")) == sorted_places(packs, b"p")
    for pack in packs:
        PackTable.checked(pack.table.raw, pack.size)


def index_seeds() -> Iterator[bytes]:
    """Of one pack, of several, of none."""
    packs = [indexed for _, indexed in PACKS]
    yield from (encode_index(packs[:count]) for count in range(len(packs) + 1))


TARGETS = {
    "pointer": Target(check_pointer, pointer_seeds, 1000),
    "chunk-list": Target(check_chunk_list, chunk_list_seeds),
    "codec": Target(check_codec, codec_seeds, 6000),
    "pack-header": Target(check_pack_header, header_seeds, 16),
    "pack-table": Target(check_pack_table, table_seeds),
    "pack": Target(check_pack, pack_seeds),
    "index-object": Target(check_index, index_seeds),
}
