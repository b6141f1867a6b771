"""The pack format: many chunks in one immutable file, with their table at its end.

    header   magic "RVPK" | u8 version | u8 kind | u16 zero
    chunks   as stored, back to back
    table    per chunk, in the same order: 32-byte id | u32 offset | u32 stored length |
             u32 raw length | u8 codec
    footer   u32 length of the table in bytes | BLAKE3 of the table | magic "KPVR"

The table tiles the file: there is no byte that is not accounted for.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from itertools import starmap
from pathlib import Path
from typing import BinaryIO, NamedTuple

from store.chunking import MAX_CHUNK_BYTES
from store.codec import Codec, decompress_chunk
from store.errors import IntegrityError, MalformedObject, UnsupportedVersion
from store.ids import CHUNK_ID_BYTES, ChunkId, chunk_id, hash_bytes, new_hasher

_MAGIC = b"RVPK"
_END_MAGIC = b"KPVR"
_VERSION = 1
_HEADER = struct.Struct("<4sBBH")
_ENTRY = struct.Struct(f"<{CHUNK_ID_BYTES}sIIIB")
_ROW = struct.Struct(f"<{CHUNK_ID_BYTES}s{_ENTRY.size - CHUNK_ID_BYTES}s")
_ENTRY_OFFSET = struct.Struct(f"<{CHUNK_ID_BYTES}xI")
_FOOTER = struct.Struct("<I32s4s")

MAX_PACK_BYTES = 64 << 20
_READ_BYTES = 256 << 10
PACK_HEADER_BYTES = _HEADER.size
TABLE_ENTRY_BYTES = _ENTRY.size
PACK_FOOTER_BYTES = _FOOTER.size
LEAST_PACK_BYTES = PACK_HEADER_BYTES + 1 + TABLE_ENTRY_BYTES + PACK_FOOTER_BYTES


class PackKind(IntEnum):
    """What a pack holds: pieces of files, or chunk lists, which can so be had without the data."""

    DATA = 0
    LISTS = 1


class PackEntry(NamedTuple):
    """Where one chunk lies in its pack, and how it is stored; lengths and offset in bytes."""

    chunk: ChunkId
    offset: int
    stored_length: int
    raw_length: int
    codec: int

    @property
    def end(self) -> int:
        """The offset of the byte after it."""
        return self.offset + self.stored_length


@dataclass(frozen=True, slots=True)
class PackTable:
    """The entries of one pack in order of offset, kept as the bytes that are stored."""

    raw: bytes

    @classmethod
    def checked(cls, raw: bytes, pack_size: int) -> "PackTable":
        """The table of a pack of that size, every entry of it looked at.

        Raises MalformedObject unless the entries tile the pack exactly, name no chunk twice and
        promise nothing that a chunk cannot be.
        """
        if not raw or len(raw) % TABLE_ENTRY_BYTES:
            raise MalformedObject(f"a pack table of {len(raw)} bytes is empty or cut short")
        if pack_size > MAX_PACK_BYTES:
            raise MalformedObject(f"a pack of {pack_size} bytes is too large")
        seen = set()
        end = PACK_HEADER_BYTES
        for chunk, offset, stored_length, raw_length, codec in _ENTRY.iter_unpack(raw):
            if offset != end:
                raise MalformedObject(f"a pack table has a gap or an overlap at byte {offset}")
            if not _is_storable(stored_length, raw_length, codec):
                raise MalformedObject(f"a pack table holds an impossible entry at byte {offset}")
            end += stored_length
            seen.add(chunk)
        if end + len(raw) + PACK_FOOTER_BYTES != pack_size:
            raise MalformedObject(f"a pack table does not fill its pack of {pack_size} bytes")
        if len(seen) * TABLE_ENTRY_BYTES != len(raw):
            raise MalformedObject("a pack table names a chunk twice")
        return cls(raw)

    @classmethod
    def trusted(cls, raw: bytes) -> "PackTable":
        """A table that was checked before it was kept."""
        return cls(raw)

    @classmethod
    def unfinished(cls, raw: bytes) -> "PackTable":
        """The rows that are whole of a table that was being written; nothing of it is checked."""
        return cls(raw[: len(raw) // TABLE_ENTRY_BYTES * TABLE_ENTRY_BYTES])

    def __len__(self) -> int:
        return len(self.raw) // TABLE_ENTRY_BYTES

    @property
    def pack_size(self) -> int:
        """The size in bytes of the whole pack that this table belongs to."""
        return self.entry(len(self) - 1).end + len(self.raw) + PACK_FOOTER_BYTES

    @property
    def stored_bytes(self) -> int:
        """The bytes of all its chunks as they are stored."""
        return self.entry(len(self) - 1).end - PACK_HEADER_BYTES

    def __iter__(self) -> Iterator[PackEntry]:
        return starmap(PackEntry, _ENTRY.iter_unpack(self.raw))

    def rows(self) -> Iterator[tuple[ChunkId, bytes]]:
        """Each chunk with the other fields of its entry, as they are stored: to be moved, not
        read."""
        return _ROW.iter_unpack(self.raw)

    def entry(self, index: int) -> PackEntry:
        """The entry of that index. Raises IndexError unless 0 ≤ index < len(self)."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return PackEntry._make(_ENTRY.unpack_from(self.raw, index * TABLE_ENTRY_BYTES))

    def entry_index_at(self, offset: int) -> int:
        """The index of the entry that holds byte `offset` of the pack.

        Raises MalformedObject if no chunk lies there.
        """
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            (start,) = _ENTRY_OFFSET.unpack_from(self.raw, middle * TABLE_ENTRY_BYTES)
            low, high = (middle + 1, high) if start <= offset else (low, middle)
        if low == 0 or self.entry(low - 1).end <= offset:
            raise MalformedObject(f"no chunk of the pack lies at byte {offset}")
        return low - 1


@dataclass(frozen=True, slots=True)
class PackSummary:
    """A finished pack: what it holds, its size in bytes, the BLAKE3 of the whole file."""

    kind: PackKind
    size: int
    hash: bytes
    table: PackTable


class PackWriter:
    """Writes one pack to a file that is open for writing at its start.

    It neither closes nor syncs the file: the owner of the file knows what must last.
    """

    def __init__(self, file: BinaryIO, kind: PackKind) -> None:
        self._file = file
        self._kind = kind
        self._hasher = new_hasher()
        self._chunks: set[ChunkId] = set()
        self._table = bytearray()
        self._end = 0
        # What was added and is not in the file yet, in order.
        self._added: list[bytes] = []
        self._add(_pack_header(kind))

    def __len__(self) -> int:
        return len(self._chunks)

    def rows_from(self, start_bytes: int) -> bytes:
        """What stands at that place and behind it in the table so far, as it will be stored."""
        return bytes(self._table[start_bytes:])

    def fits(self, stored_length: int) -> bool:
        """Whether the pack, once finished, could hold one more chunk of that stored length."""
        table_length = len(self._table) + TABLE_ENTRY_BYTES
        return self._end + stored_length + table_length + PACK_FOOTER_BYTES <= MAX_PACK_BYTES

    def append(self, chunk: ChunkId, codec: int, stored: bytes, raw_length: int) -> PackEntry:
        """Write one more chunk, which must fit and not be in the pack yet."""
        entry = self.add(chunk, codec, stored, raw_length)
        self.write(self.take_added())
        return entry

    def add(self, chunk: ChunkId, codec: int, stored: bytes, raw_length: int) -> PackEntry:
        """As `append`, but for the writing: `take_added` gives what `write` has to be given."""
        stored_length = len(stored)
        entry = PackEntry(chunk, self._end, stored_length, raw_length, codec)
        assert chunk not in self._chunks, f"chunk {chunk.hex()} is in the pack already"
        assert self.fits(stored_length), "the pack is full"
        assert _is_storable(stored_length, raw_length, codec), entry
        self._add(stored)
        self._table += _ENTRY.pack(*entry)
        self._chunks.add(chunk)
        return entry

    def take_added(self) -> list[bytes]:
        """What was added since the last time, to be written in just this order."""
        added, self._added = self._added, []
        return added

    def write(self, added: Sequence[bytes]) -> None:
        """Write what was taken. May run in another thread than all else, if one call comes after
        the other."""
        for content in added:
            self._file.write(content)
            self._hasher.update(content)

    def finish(self) -> PackSummary:
        """Write what is left, the table and the footer. Nothing may follow."""
        assert self._chunks, "a pack holds at least one chunk"
        table = PackTable(bytes(self._table))
        self._add(table.raw)
        self._add(_pack_footer(table))
        self.write(self.take_added())
        return PackSummary(self._kind, self._end, self._hasher.digest(), table)

    def _add(self, content: bytes) -> None:
        self._added.append(content)
        self._end += len(content)


def load_pack_table(path: Path) -> tuple[PackKind, PackTable]:
    """The kind and the table of a pack file; of the chunks not a byte is read.

    Raises MalformedObject, naming the file, if it is no pack, and OSError if it cannot be read.
    """
    with path.open("rb") as file, _naming(path):
        return _load_tail(file)


def verify_pack(path: Path) -> PackSummary:
    """Decode and hash every chunk of a pack file, and its table, and the file.

    Raises IntegrityError or MalformedObject, naming the file and the chunk, for the first thing
    that is wrong, and OSError if the file cannot be read.
    """
    with path.open("rb") as file, _naming(path):
        kind, table = _load_tail(file)
        hasher = new_hasher()
        # A checked table fills its pack to the byte, so header and footer follow from it.
        hasher.update(_pack_header(kind))
        file.seek(PACK_HEADER_BYTES)
        for entries in _neighbours(table):
            start = entries[0].offset
            # One read and one step of the hash for many small chunks.
            block = file.read(entries[-1].end - start)
            hasher.update(block)
            for entry in entries:
                unpack_chunk(entry, block[entry.offset - start : entry.end - start])
        hasher.update(table.raw)
        hasher.update(_pack_footer(table))
        size = file.tell() + len(table.raw) + PACK_FOOTER_BYTES
        return PackSummary(kind, size, hasher.digest(), table)


def _neighbours(table: PackTable) -> Iterator[list[PackEntry]]:
    """All entries in order, in groups of about _READ_BYTES; a larger chunk is alone."""
    group: list[PackEntry] = []
    for entry in table:
        if group and entry.end - group[0].offset > _READ_BYTES:
            yield group
            group = []
        group.append(entry)
    yield group


def unpack_chunk(entry: PackEntry, stored: bytes) -> bytes:
    """The bytes of a chunk, decoded and proven to be those that its id names.

    `stored` is what was found at the entry's place. Raises IntegrityError if it is anything else.
    """
    try:
        raw = decompress_chunk(stored, entry.codec, entry.raw_length)
    except MalformedObject as error:
        raise IntegrityError(f"chunk {entry.chunk.hex()} is damaged: {error}") from error
    if chunk_id(raw) != entry.chunk:
        raise IntegrityError(f"chunk {entry.chunk.hex()} is damaged: its bytes hash to another id")
    return raw


def _is_storable(stored_length: int, raw_length: int, codec: int) -> bool:
    """Whether a chunk of that length can be stored in that many bytes by that codec."""
    if not 1 <= stored_length <= raw_length <= MAX_CHUNK_BYTES:
        return False
    # Compression that saves nothing is never kept, so each chunk has one codec that is right.
    return codec == (Codec.RAW if stored_length == raw_length else Codec.ZSTD)


def _pack_header(kind: PackKind) -> bytes:
    return _HEADER.pack(_MAGIC, _VERSION, kind, 0)


def _pack_footer(table: PackTable) -> bytes:
    return _FOOTER.pack(len(table.raw), hash_bytes(table.raw), _END_MAGIC)


def _load_tail(file: BinaryIO) -> tuple[PackKind, PackTable]:
    """The kind and the checked table of an open pack."""
    size = os.fstat(file.fileno()).st_size
    if not LEAST_PACK_BYTES <= size <= MAX_PACK_BYTES:
        raise MalformedObject(f"a file of {size} bytes is no pack")
    kind = parse_pack_header(file.read(PACK_HEADER_BYTES))
    file.seek(size - PACK_FOOTER_BYTES)
    footer = file.read(PACK_FOOTER_BYTES)
    table_length = parse_pack_footer(footer, size)
    file.seek(size - PACK_FOOTER_BYTES - table_length)
    return kind, parse_pack_tail(file.read(table_length) + footer, size)


def pack_tail(table: PackTable) -> bytes:
    """How a pack of that table ends: the table itself, and the footer."""
    return table.raw + _pack_footer(table)


def parse_pack_footer(footer: bytes, pack_size: int) -> int:
    """The length of a pack's table in bytes, from the last PACK_FOOTER_BYTES of a pack of that
    size. Raises MalformedObject."""
    if len(footer) != PACK_FOOTER_BYTES:
        raise MalformedObject("its footer is cut short")
    table_length, _, magic = _FOOTER.unpack(footer)
    if magic != _END_MAGIC or table_length > pack_size - PACK_HEADER_BYTES - PACK_FOOTER_BYTES:
        raise MalformedObject("the footer is not that of a pack")
    return int(table_length)


def parse_pack_tail(tail: bytes, pack_size: int) -> PackTable:
    """The checked table of a pack of that size, from its table and footer. Raises
    MalformedObject."""
    raw = tail[:-PACK_FOOTER_BYTES]
    table_length, table_hash, _ = _FOOTER.unpack(tail[-PACK_FOOTER_BYTES:])
    if table_length != len(raw) or hash_bytes(raw) != table_hash:
        raise MalformedObject("the table does not hash to what the footer says")
    return PackTable.checked(raw, pack_size)


def parse_pack_header(raw: bytes) -> PackKind:
    """The kind of a pack, from its first bytes. Raises MalformedObject."""
    if len(raw) != PACK_HEADER_BYTES:
        raise MalformedObject("its header is cut short")
    magic, version, kind, zero = _HEADER.unpack(raw)
    if magic != _MAGIC:
        raise MalformedObject("it does not begin like a pack")
    if version != _VERSION:
        raise UnsupportedVersion(f"packs of version {version} are unknown")
    if zero != 0 or kind not in list(PackKind):
        raise MalformedObject("its header is damaged")
    return PackKind(kind)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the pack in front of what is wrong with it."""
    try:
        yield
    except (MalformedObject, IntegrityError) as error:
        raise type(error)(f"pack {path.name}: {error}") from error
