import io
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunking import MAX_CHUNK_BYTES
from store.codec import Codec, compress_chunk
from store.errors import IntegrityError, MalformedObject, UnsupportedVersion
from store.ids import ChunkId, chunk_id, hash_bytes
from store.packs import (
    MAX_PACK_BYTES,
    PACK_FOOTER_BYTES,
    PACK_HEADER_BYTES,
    TABLE_ENTRY_BYTES,
    PackEntry,
    PackKind,
    PackSummary,
    PackTable,
    PackWriter,
    load_pack_table,
    unpack_chunk,
    verify_pack,
)
from tests.store.damage import every_cut_or_addition, every_flip, unhurried

CONTENTS = [b"first", b"again " * 50, b"third one"]
VERSION_PLACE = 4
KIND_PLACE = 5


def packed(contents: Sequence[bytes], kind: PackKind = PackKind.DATA) -> tuple[bytes, PackSummary]:
    """A finished pack of these chunks: its bytes, and what its writer says of it."""
    file = io.BytesIO()
    writer = PackWriter(file, kind)
    for content in contents:
        codec, stored = compress_chunk(content)
        writer.append(chunk_id(content), codec, stored, len(content))
    summary = writer.finish()
    return file.getvalue(), summary


def table_bytes(entries: Sequence[PackEntry]) -> bytes:
    return b"".join(struct.pack("<32sIIIB", *entry) for entry in entries)


def size_with(entries: Sequence[PackEntry]) -> int:
    stored = sum(entry.stored_length for entry in entries)
    return PACK_HEADER_BYTES + stored + len(entries) * TABLE_ENTRY_BYTES + PACK_FOOTER_BYTES


def raw_entries(lengths: Sequence[int]) -> list[PackEntry]:
    """The entries of a pack of uncompressed chunks of these lengths."""
    entries: list[PackEntry] = []
    for length in lengths:
        offset = entries[-1].end if entries else PACK_HEADER_BYTES
        chunk = chunk_id(len(entries).to_bytes(4, "little"))
        entries.append(PackEntry(chunk, offset, length, length, Codec.RAW))
    return entries


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of this module put the pack that they look at."""
    return tmp_path_factory.mktemp("packs") / "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("kind", PackKind)
def test_a_pack_is_laid_out_as_documented(kind: PackKind) -> None:
    chunks, table = b"", b""
    for content in CONTENTS:
        codec, stored = compress_chunk(content)
        place = (PACK_HEADER_BYTES + len(chunks), len(stored), len(content), codec)
        table += hash_bytes(content) + struct.pack("<IIIB", *place)
        chunks += stored
    header = struct.pack("<4sBBH", b"RVPK", 1, kind, 0)
    footer = struct.pack("<I32s4s", len(table), hash_bytes(table), b"KPVR")
    raw, summary = packed(CONTENTS, kind)
    assert raw == header + chunks + table + footer
    assert summary == PackSummary(kind, len(raw), hash_bytes(raw), PackTable.trusted(table))
    assert (len(header), len(footer)) == (PACK_HEADER_BYTES, PACK_FOOTER_BYTES)


@unhurried
@given(
    st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=8, unique=True),
    st.sampled_from(PackKind),
)
def test_what_is_packed_is_loaded_verified_and_unpacked(
    path: Path, contents: list[bytes], kind: PackKind
) -> None:
    raw, summary = packed(contents, kind)
    path.write_bytes(raw)
    assert load_pack_table(path) == (kind, summary.table)
    assert verify_pack(path) == summary
    unpacked = [unpack_chunk(entry, raw[entry.offset : entry.end]) for entry in summary.table]
    assert unpacked == contents


def test_an_entry_is_had_by_its_index() -> None:
    _, summary = packed(CONTENTS)
    table = summary.table
    assert [table.entry(index) for index in range(len(table))] == list(table)
    for outside in (-1, len(table)):
        with pytest.raises(IndexError):
            table.entry(outside)


@unhurried
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_an_entry_is_found_by_any_byte_of_it(lengths: list[int]) -> None:
    entries = raw_entries(lengths)
    table = PackTable.checked(table_bytes(entries), size_with(entries))
    for index, entry in enumerate(entries):
        for offset in range(entry.offset, entry.end):
            assert table.entry_index_at(offset) == index


@pytest.mark.parametrize("outside", [-1, 0, PACK_HEADER_BYTES - 1, PACK_HEADER_BYTES + 5, 2**40])
def test_a_byte_outside_the_chunks_is_refused(outside: int) -> None:
    entries = raw_entries([2, 3])
    with pytest.raises(MalformedObject, match="no chunk of the pack"):
        PackTable.trusted(table_bytes(entries)).entry_index_at(outside)


def test_an_empty_table_holds_no_byte() -> None:
    with pytest.raises(MalformedObject):
        PackTable.trusted(b"").entry_index_at(PACK_HEADER_BYTES)


def test_a_writer_counts_its_chunks_and_tells_where_each_lies() -> None:
    file = io.BytesIO()
    writer = PackWriter(file, PackKind.DATA)
    entries = [writer.append(chunk_id(c), Codec.RAW, c, len(c)) for c in CONTENTS]
    assert len(writer) == len(CONTENTS)
    assert list(writer.finish().table) == entries


def test_a_full_pack_has_exactly_the_size_limit() -> None:
    file = io.BytesIO()
    writer = PackWriter(file, PackKind.DATA)
    stored = bytes(MAX_CHUNK_BYTES)
    while writer.fits(MAX_CHUNK_BYTES):
        writer.append(ChunkId(hash_bytes(bytes([len(writer)]))), Codec.RAW, stored, len(stored))
    chunks_end = file.tell()
    table_length = (len(writer) + 1) * TABLE_ENTRY_BYTES
    left = MAX_PACK_BYTES - chunks_end - table_length - PACK_FOOTER_BYTES
    assert writer.fits(left)
    assert not writer.fits(left + 1)
    writer.append(chunk_id(stored[:left]), Codec.RAW, stored[:left], left)
    summary = writer.finish()
    assert summary.size == file.tell() == MAX_PACK_BYTES
    assert PackTable.checked(summary.table.raw, summary.size) == summary.table


def test_a_writer_takes_no_chunk_twice_and_none_that_no_reader_would_accept() -> None:
    writer = PackWriter(io.BytesIO(), PackKind.DATA)
    writer.append(chunk_id(b"abc"), Codec.RAW, b"abc", 3)
    for chunk, codec, stored, raw_length in [
        (chunk_id(b"abc"), Codec.RAW, b"abc", 3),
        (chunk_id(b"abcd"), Codec.RAW, b"abc", 4),
        (chunk_id(b"ab"), Codec.ZSTD, b"abc", 2),
        (chunk_id(b""), Codec.RAW, b"", 0),
    ]:
        with pytest.raises(AssertionError):
            writer.append(chunk, codec, stored, raw_length)


# Two things go unseen here: a kind changed to the other, and a zstd frame spelled otherwise that
# decodes to the same bytes. The hash of the whole file, which the index object holds, tells both.
def test_verify_refuses_every_damage_or_gives_the_pack_another_hash(path: Path) -> None:
    raw, summary = packed(CONTENTS)
    messages = []
    for place, damaged in every_flip(raw):
        path.write_bytes(damaged)
        compressed = any(
            entry.offset <= place < entry.end and entry.codec == Codec.ZSTD
            for entry in summary.table
        )
        try:
            found = verify_pack(path)
        except (MalformedObject, IntegrityError) as error:
            messages.append(str(error))
        else:
            assert compressed or place == KIND_PLACE
            assert found.hash == hash_bytes(damaged) != summary.hash
    assert all(path.name in message for message in messages)
    for damaged in every_cut_or_addition(raw):
        path.write_bytes(damaged)
        with pytest.raises(MalformedObject, match=path.name):
            verify_pack(path)


def test_the_table_is_loaded_without_a_look_at_the_chunks(path: Path) -> None:
    raw, summary = packed(CONTENTS)
    chunks_end = len(raw) - PACK_FOOTER_BYTES - len(summary.table.raw)
    for place, damaged in every_flip(raw):
        path.write_bytes(damaged)
        if PACK_HEADER_BYTES <= place < chunks_end:
            assert load_pack_table(path) == (PackKind.DATA, summary.table)
        elif place != KIND_PLACE:
            with pytest.raises(MalformedObject, match=path.name):
                load_pack_table(path)


def test_verify_names_the_pack_and_the_damaged_chunk(path: Path) -> None:
    raw, summary = packed(CONTENTS)
    damaged = summary.table.entry(1)
    path.write_bytes(raw[: damaged.offset] + bytes(damaged.stored_length) + raw[damaged.end :])
    with pytest.raises(IntegrityError, match=f"{path.name}: chunk {damaged.chunk.hex()}"):
        verify_pack(path)


def test_verify_finds_two_chunks_that_changed_places(path: Path) -> None:
    contents = [b"one of three", b"two of three"]
    raw, _ = packed(contents)
    path.write_bytes(raw.replace(b"".join(contents), b"".join(reversed(contents))))
    with pytest.raises(IntegrityError, match=chunk_id(contents[0]).hex()):
        verify_pack(path)


@unhurried
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_pack(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(MalformedObject):
        load_pack_table(path)
    with pytest.raises(MalformedObject):
        PackTable.checked(raw, len(raw))


def test_a_pack_of_another_version_is_refused_as_such(path: Path) -> None:
    raw, _ = packed(CONTENTS)
    path.write_bytes(raw[:VERSION_PLACE] + b"\x02" + raw[VERSION_PLACE + 1 :])
    with pytest.raises(UnsupportedVersion, match=path.name):
        load_pack_table(path)


@pytest.mark.parametrize("table_length", [0, 1, TABLE_ENTRY_BYTES, 10**9, 2**32 - 1])
def test_a_footer_that_lies_about_the_table_is_refused(path: Path, table_length: int) -> None:
    raw, summary = packed(CONTENTS)
    told_hash = hash_bytes(raw[:-PACK_FOOTER_BYTES][-table_length:] if table_length else b"")
    footer = struct.pack("<I32s4s", table_length, told_hash, b"KPVR")
    path.write_bytes(raw[:-PACK_FOOTER_BYTES] + footer)
    assert table_length != len(summary.table.raw)
    with pytest.raises(MalformedObject):
        load_pack_table(path)


def test_a_file_above_the_limit_is_refused_unread(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_PACK_BYTES + 1)
    with pytest.raises(MalformedObject, match="is no pack"):
        load_pack_table(path)
    path.unlink()


def test_a_pack_that_is_not_there_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_pack_table(tmp_path / "gone")


def changed(index: int, **fields: object) -> Callable[[list[PackEntry]], list[PackEntry]]:
    """What replaces some fields of one entry of a table."""

    def change(entries: list[PackEntry]) -> list[PackEntry]:
        entries[index] = entries[index]._replace(**fields)  # type: ignore[arg-type]
        return entries

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(0, offset=PACK_HEADER_BYTES - 1),
        changed(0, offset=PACK_HEADER_BYTES + 1),
        changed(1, offset=2**32 - 1),
        changed(1, offset=raw_entries([10, 20, 30])[1].offset - 1),
        changed(1, stored_length=19, codec=Codec.ZSTD),
        changed(2, stored_length=29, codec=Codec.ZSTD),
        changed(1, stored_length=0, codec=Codec.ZSTD),
        changed(1, stored_length=0, raw_length=0),
        changed(1, raw_length=0),
        changed(1, stored_length=2**32 - 1, raw_length=2**32 - 1),
        changed(2, raw_length=MAX_CHUNK_BYTES + 1, codec=Codec.ZSTD),
        changed(1, raw_length=21),
        changed(1, raw_length=19, codec=Codec.ZSTD),
        changed(1, codec=Codec.ZSTD),
        changed(1, codec=max(Codec) + 1),
        changed(1, codec=255),
        changed(2, chunk=raw_entries([10])[0].chunk),
        lambda entries: [*entries, entries[-1]],
        lambda entries: entries[:-1],
        lambda entries: entries[::-1],
        lambda entries: [],
    ],
)
def test_a_table_that_does_not_tile_its_pack_is_refused(
    change: Callable[[list[PackEntry]], list[PackEntry]],
) -> None:
    good = raw_entries([10, 20, 30])
    size = size_with(good)
    assert list(PackTable.checked(table_bytes(good), size)) == good
    with pytest.raises(MalformedObject):
        PackTable.checked(table_bytes(change(good)), size)


@pytest.mark.parametrize("more", [-1, 1, TABLE_ENTRY_BYTES, MAX_PACK_BYTES])
def test_a_table_of_a_pack_of_another_size_is_refused(more: int) -> None:
    entries = raw_entries([10, 20])
    with pytest.raises(MalformedObject):
        PackTable.checked(table_bytes(entries), size_with(entries) + more)


def test_a_table_of_a_pack_above_the_limit_is_refused() -> None:
    entries = raw_entries([MAX_CHUNK_BYTES] * (MAX_PACK_BYTES // MAX_CHUNK_BYTES))
    with pytest.raises(MalformedObject, match="too large"):
        PackTable.checked(table_bytes(entries), size_with(entries))


def test_a_table_without_an_entry_is_refused() -> None:
    with pytest.raises(MalformedObject, match="is empty"):
        PackTable.checked(b"", size_with([]))


def test_a_table_with_a_piece_of_an_entry_is_refused() -> None:
    entries = raw_entries([10, 20])
    with pytest.raises(MalformedObject, match="cut short"):
        PackTable.checked(table_bytes(entries)[:-1], size_with(entries) - 1)


@pytest.mark.parametrize("stored", [b"", b"abd", b"ab", b"abcd"])
def test_a_chunk_that_is_not_what_its_id_names_is_refused(stored: bytes) -> None:
    entry = PackEntry(chunk_id(b"abc"), PACK_HEADER_BYTES, 3, 3, Codec.RAW)
    assert unpack_chunk(entry, b"abc") == b"abc"
    with pytest.raises(IntegrityError, match=entry.chunk.hex()):
        unpack_chunk(entry, stored)


def test_a_chunk_that_cannot_be_decoded_is_refused_with_the_reason() -> None:
    noise = random.Random(0).randbytes(20)
    entry = PackEntry(chunk_id(bytes(100)), PACK_HEADER_BYTES, len(noise), 100, Codec.ZSTD)
    with pytest.raises(IntegrityError) as caught:
        unpack_chunk(entry, noise)
    assert isinstance(caught.value.__cause__, MalformedObject)
