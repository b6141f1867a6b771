"""The rows of the cache index that others read or write, too: where chunks lie, tables of packs."""

import struct
from typing import NamedTuple, TypeGuard

from store.ids import ChunkId, PackName, pack_name_from_bytes
from store.packs import TABLE_ENTRY_BYTES, PackEntry

PACK_ROW_HASH_BYTES = 32
"""What a row of a pack begins with: the hash of an index object that lists it."""

_PLACE = struct.Struct("<16sIIIB")
_SPAN = struct.Struct("<16sII")


class PackPlace(NamedTuple):
    """Where one chunk lies: the pack, and its entry in the pack's table."""

    pack: PackName
    entry: PackEntry


class PackSpan(NamedTuple):
    """Where one chunk lies: the raw name of the pack, and the stored bytes from start to end."""

    pack: bytes
    start: int
    end: int


class PackUse(NamedTuple):
    """When a cached pack was last used (seconds since 1970) and how many bytes of it are here."""

    pack: PackName
    last_use_seconds: int
    cached_bytes: int


def is_pack_row(raw: bytes) -> bool:
    """Whether a row has the form of one that holds the table of a pack."""
    return (
        len(raw) > PACK_ROW_HASH_BYTES and not (len(raw) - PACK_ROW_HASH_BYTES) % TABLE_ENTRY_BYTES
    )


def pack_place(pack: PackName, entry: PackEntry) -> bytes:
    """The row that says where a chunk lies."""
    return _PLACE.pack(
        bytes.fromhex(pack), entry.offset, entry.stored_length, entry.raw_length, entry.codec
    )


def parse_place(chunk: ChunkId, value: bytes | None) -> PackPlace | None:
    """What such a row says; a row of the wrong length says nothing."""
    if not is_place(value):
        return None
    pack, offset, stored_length, raw_length, codec = _PLACE.unpack(value)
    entry = PackEntry(chunk, offset, stored_length, raw_length, codec)
    return PackPlace(pack_name_from_bytes(pack), entry)


def is_place(value: bytes | None) -> TypeGuard[bytes]:
    """Whether a row says where a chunk lies."""
    return value is not None and len(value) == _PLACE.size


def parse_span(value: bytes) -> PackSpan:
    """What a row that is a place says of the stored bytes."""
    pack, offset, stored_length = _SPAN.unpack_from(value)
    return PackSpan(pack, offset, offset + stored_length)
