"""The index object: where the chunks of one push lie, told once for all its packs.

    header   magic "RVIX" | u32 version | u32 number of packs | u32 number of entries
    packs    sorted by name: 16-byte name | u32 size | BLAKE3 of the pack file
    entries  sorted by (chunk id, pack number): 32-byte id | u32 pack number | u32 offset |
             u32 stored length | u32 raw length | u8 codec

It lies in the remote under its own BLAKE3. It holds the whole table of each of its packs, so a
reader that has it needs no table of any pack.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.ids import CHUNK_ID_BYTES, PACK_NAME_BYTES, PackName, hash_bytes, pack_name_from_bytes
from store.packs import TABLE_ENTRY_BYTES, PackTable

_MAGIC = b"RVIX"
_VERSION = 1
_HEADER = struct.Struct("<4sIII")
_PACK = struct.Struct(f"<{PACK_NAME_BYTES}sI32s")
# An entry here is one of a pack table with the pack's number put in after the chunk id. What
# follows the id is moved as it is; PackTable alone knows what it means.
_PLACE_BYTES = TABLE_ENTRY_BYTES - CHUNK_ID_BYTES
_ENTRY = struct.Struct(f"<{CHUNK_ID_BYTES}sI{_PLACE_BYTES}s")
_TABLE_ENTRY = struct.Struct(f"<{CHUNK_ID_BYTES}s{_PLACE_BYTES}s")
_CHUNK_OF = itemgetter(slice(0, CHUNK_ID_BYTES))
# The offset is first of the place.
_OFFSET_OF = struct.Struct(f"<{CHUNK_ID_BYTES}xI{_PLACE_BYTES - 4}x")
_ROW = struct.Struct(f"{TABLE_ENTRY_BYTES}s")

MAX_INDEX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack as an index object tells of it: its size in bytes, its BLAKE3, all its entries."""

    name: PackName
    size: int
    hash: bytes
    table: PackTable


def encode_index(packs: Sequence[IndexedPack]) -> bytes:
    """The index object of these packs, given in any order, each once.

    Raises StoreError if it would be larger than MAX_INDEX_BYTES.
    """
    in_order = sorted(packs, key=lambda pack: pack.name)
    assert len({pack.name for pack in packs}) == len(packs), "a pack is indexed twice"
    count = sum(len(pack.table) for pack in packs)
    size = _HEADER.size + len(packs) * _PACK.size + count * _ENTRY.size
    if size > MAX_INDEX_BYTES:
        raise StoreError(f"an index object of {count} chunks in {len(packs)} packs is too large")
    rows = [
        chunk + number.to_bytes(4, "little") + place
        for number, pack in enumerate(in_order)
        for chunk, place in _TABLE_ENTRY.iter_unpack(pack.table.raw)
    ]
    # The sort is stable: rows of one chunk stay in the order of their packs.
    rows.sort(key=_CHUNK_OF)
    head = [_HEADER.pack(_MAGIC, _VERSION, len(packs), count)]
    head += [_PACK.pack(bytes.fromhex(pack.name), pack.size, pack.hash) for pack in in_order]
    return b"".join(head + rows)


def parse_index(raw: bytes) -> tuple[IndexedPack, ...]:
    """The packs of an index object, sorted by name, each with its checked table.

    Raises MalformedObject if anything in it is off; then none of it may be used. That `raw` hashes
    to the name it was fetched by is for the caller to check, with `index_hash`.
    """
    pack_count, entries_start = _checked_layout(raw)
    view = memoryview(raw)
    heads = list(_PACK.iter_unpack(view[_HEADER.size : entries_start]))
    names = [name for name, _, _ in heads]
    if any(name >= after for name, after in pairwise(names)):
        raise MalformedObject("the packs of an index object are out of order")
    tables = _collect_tables(view[entries_start:], pack_count)
    return tuple(
        IndexedPack(pack_name_from_bytes(name), size, pack_hash, PackTable.checked(table, size))
        for (name, size, pack_hash), table in zip(heads, tables, strict=True)
    )


def iterate_places(raw: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Of each entry of an index object that `parse_index` took, sorted by chunk id: `prefix` and
    chunk id; and its pack's raw name with what follows the chunk id in that pack's table."""
    _, entries_start = _checked_layout(raw)
    view = memoryview(raw)
    names = [name for name, _, _ in _PACK.iter_unpack(view[_HEADER.size : entries_start])]
    for chunk, number, place in _ENTRY.iter_unpack(view[entries_start:]):
        yield prefix + chunk, names[number] + place


def sorted_places(packs: Sequence[IndexedPack], prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
    """As `iterate_places`, from the packs, at the cost of a sort."""
    rows = [
        (prefix + chunk, raw_name + place)
        for raw_name, pack in ((bytes.fromhex(pack.name), pack) for pack in packs)
        for chunk, place in _TABLE_ENTRY.iter_unpack(pack.table.raw)
    ]
    rows.sort()
    return rows


def index_hash(raw: bytes) -> str:
    """The BLAKE3 of an index object in hex: the name it goes by in a remote."""
    return hash_bytes(raw).hex()


def index_head_bytes(start: bytes, size: int) -> int:
    """How many bytes at its start name the packs of an index object of `size` bytes that begins
    with `start`, 16 bytes at least. Raises MalformedObject."""
    return _checked_layout(start, size)[1]


def parse_index_names(head: bytes) -> list[PackName]:
    """The names of the packs in the first `index_head_bytes` bytes of an index object."""
    rows = _PACK.iter_unpack(memoryview(head)[_HEADER.size :])
    return [pack_name_from_bytes(name) for name, _, _ in rows]


def _checked_layout(raw: bytes, size: int | None = None) -> tuple[int, int]:
    """How many packs an index object tells of, and where its entries start; of one of `size` bytes
    `raw` may be the start alone.

    Its length is then exactly what its counts make it, so later work is linear in that length.
    """
    size = len(raw) if size is None else size
    if not _HEADER.size <= min(len(raw), size) <= size <= MAX_INDEX_BYTES:
        raise MalformedObject(f"an index object cannot be {size} bytes long")
    magic, version, pack_count, entry_count = _HEADER.unpack_from(raw)
    if magic != _MAGIC:
        raise MalformedObject("this is not an index object")
    if version != _VERSION:
        raise UnsupportedVersion(f"an index object has the unknown version {version}")
    entries_start = _HEADER.size + pack_count * _PACK.size
    if size != entries_start + entry_count * _ENTRY.size:
        raise MalformedObject(
            f"an index object of {size} bytes says that it holds {entry_count} chunks"
            f" in {pack_count} packs"
        )
    return pack_count, entries_start


def _collect_tables(entries: memoryview, pack_count: int) -> list[bytes]:
    """The table of each pack, put together from its entries and sorted by offset."""
    # By pack and by mebibyte of the pack, so that what is sorted fits in the processor's own
    # memory; as bytes, not as lists of rows: a million entries then take 45 MB, not 130.
    parts: dict[int, bytearray] = {}
    last_chunk, last_number = b"", 0
    for chunk, number, place in _ENTRY.iter_unpack(entries):
        if chunk <= last_chunk and (chunk < last_chunk or number <= last_number):
            raise MalformedObject("the entries of an index object are out of order")
        if number >= pack_count:
            raise MalformedObject(f"an index object names a pack of number {number}")
        last_chunk, last_number = chunk, number
        # The place begins with the offset, of which these are the bits from the twentieth on.
        key = number << 12 | place[3] << 4 | place[2] >> 4
        part = parts.get(key)
        if part is None:
            part = parts[key] = bytearray()
        part += chunk + place
    tables = [bytearray() for _ in range(pack_count)]
    for key in sorted(parts):
        tables[key >> 12] += _sorted_by_offset(parts.pop(key))
    return list(map(bytes, tables))


def _sorted_by_offset(part: bytearray) -> bytes:
    """The rows of a part of a pack table in order of offset."""
    offsets = [offset for (offset,) in _OFFSET_OF.iter_unpack(part)]
    rows = dict(zip(offsets, (row for (row,) in _ROW.iter_unpack(part)), strict=True))
    if len(rows) != len(offsets):
        raise MalformedObject("an index object puts two chunks of a pack in one place")
    return b"".join(map(rows.__getitem__, sorted(rows)))
