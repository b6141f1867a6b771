import io
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import remote_index
from store.cache_rows import pack_place
from store.codec import Codec
from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.ids import ChunkId, PackName, chunk_id, hash_bytes, pack_name_from_bytes
from store.packs import PACK_HEADER_BYTES, PackKind, PackTable, PackWriter
from store.remote_index import (
    IndexedPack,
    encode_index,
    index_hash,
    iterate_places,
    parse_index,
    sorted_places,
)
from tests.store.damage import every_cut_or_addition, every_flip, unhurried

HEADER = struct.Struct("<4sIII")
PACK = struct.Struct("<16sI32s")
ENTRY = struct.Struct("<32sIIIIB")

Row = tuple[bytes, int, int, int, int, int]


def pack_name(number: int) -> PackName:
    return pack_name_from_bytes(number.to_bytes(16, "big"))


def indexed_pack(number: int, contents: Sequence[bytes]) -> IndexedPack:
    """A pack of that number that holds these chunks uncompressed, as an index tells of it."""
    writer = PackWriter(io.BytesIO(), PackKind.DATA)
    for content in contents:
        writer.append(chunk_id(content), Codec.RAW, content, len(content))
    summary = writer.finish()
    return IndexedPack(pack_name(number), summary.size, summary.hash, summary.table)


SHARED = b"a chunk of both packs"
PACKS = (indexed_pack(1, [b"alone", SHARED]), indexed_pack(2, [SHARED, b"other", b"third"]))


def rows_of(packs: Sequence[IndexedPack]) -> list[Row]:
    return sorted(
        (entry.chunk, number, *entry[1:])
        for number, pack in enumerate(packs)
        for entry in pack.table
    )


def encoded(
    packs: Sequence[IndexedPack],
    rows: Sequence[Row],
    *,
    version: int = 1,
    pack_count: int | None = None,
    entry_count: int | None = None,
) -> bytes:
    """An index object by its documentation, of rows and counts that may not fit its packs."""
    counts = (
        len(packs) if pack_count is None else pack_count,
        len(rows) if entry_count is None else entry_count,
    )
    heads = [PACK.pack(bytes.fromhex(pack.name), pack.size, pack.hash) for pack in packs]
    entries = [ENTRY.pack(*row) for row in rows]
    return HEADER.pack(b"RVIX", version, *counts) + b"".join(heads + entries)


@st.composite
def pack_sets(draw: st.DrawFn) -> list[IndexedPack]:
    contents = st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=9, unique=True)
    numbers = draw(st.lists(st.integers(0, 2**128 - 1), max_size=5, unique=True))
    return [indexed_pack(number, draw(contents)) for number in numbers]


def test_an_index_is_laid_out_as_documented() -> None:
    assert encode_index(PACKS) == encoded(PACKS, rows_of(PACKS))


@unhurried
@given(pack_sets())
def test_what_is_written_is_read_back_in_order_of_name(packs: list[IndexedPack]) -> None:
    raw = encode_index(packs)
    assert parse_index(raw) == tuple(sorted(packs, key=lambda pack: pack.name))
    assert encode_index(packs[::-1]) == raw


@unhurried
@given(pack_sets())
def test_the_places_of_an_index_are_those_of_its_packs(packs: list[IndexedPack]) -> None:
    places = list(iterate_places(encode_index(packs)))
    assert places == sorted_places(packs)
    prefixed = [(b"prefix" + chunk, place) for chunk, place in places]
    assert list(iterate_places(encode_index(packs), b"prefix")) == prefixed
    assert sorted_places(packs, b"prefix") == prefixed
    assert places == sorted(
        (entry.chunk, pack_place(pack.name, entry)) for pack in packs for entry in pack.table
    )


def test_numbers_of_two_bytes_sort_as_numbers() -> None:
    # 256 is smaller than 1 where little-endian bytes are compared.
    packs = [indexed_pack(number, [SHARED]) for number in range(300)]
    assert parse_index(encode_index(packs)) == tuple(packs)
    long_pack = indexed_pack(0, [bytes([number]) * 7 for number in range(200)])
    assert parse_index(encode_index([long_pack])) == (long_pack,)


def test_the_name_of_an_index_is_the_hash_of_its_bytes() -> None:
    raw = encode_index(PACKS)
    assert index_hash(raw) == hash_bytes(raw).hex()


# A flip in an id, a hash or a name may leave a well-formed index, but one of another name: it is
# fetched by its hash, so its reader knows.
def test_damage_is_refused_or_gives_the_index_another_name() -> None:
    raw = encode_index(PACKS)
    ids_and_hashes = [
        range(HEADER.size + n * PACK.size, HEADER.size + (n + 1) * PACK.size)
        for n in range(len(PACKS))
    ]
    entries_start = HEADER.size + len(PACKS) * PACK.size
    ids_and_hashes += [range(n, n + 32) for n in range(entries_start, len(raw), ENTRY.size)]
    for place, damaged in every_flip(raw):
        if any(place in region for region in ids_and_hashes):
            assert index_hash(damaged) != index_hash(raw)
        else:
            with pytest.raises(MalformedObject):
                parse_index(damaged)
    for damaged in every_cut_or_addition(raw):
        with pytest.raises(MalformedObject):
            parse_index(damaged)


@unhurried
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObject):
        parse_index(raw)


def test_an_unknown_version_is_refused_as_such() -> None:
    with pytest.raises(UnsupportedVersion):
        parse_index(encoded(PACKS, rows_of(PACKS), version=2) + b"and what it brings")


@pytest.mark.parametrize("counts", [(10**9, 5), (2, 10**9), (2**32 - 1, 2**32 - 1), (0, 0)])
def test_counts_that_the_bytes_do_not_hold_are_refused(counts: tuple[int, int]) -> None:
    pack_count, entry_count = counts
    raw = encoded(PACKS, rows_of(PACKS), pack_count=pack_count, entry_count=entry_count)
    with pytest.raises(MalformedObject, match=f"holds {entry_count} chunks in {pack_count} packs"):
        parse_index(raw)


def test_entries_out_of_order_are_refused() -> None:
    rows = rows_of(PACKS)
    for index in range(len(rows) - 1):
        swapped = [*rows[:index], rows[index + 1], rows[index], *rows[index + 2 :]]
        with pytest.raises(MalformedObject, match="out of order"):
            parse_index(encoded(PACKS, swapped))


def test_an_entry_that_stands_there_twice_is_refused() -> None:
    for row in rows_of(PACKS):
        with pytest.raises(MalformedObject, match="out of order"):
            parse_index(encoded(PACKS, sorted([*rows_of(PACKS), row])))


@pytest.mark.parametrize("number", [len(PACKS), 10**9, 2**32 - 1])
def test_an_entry_of_a_pack_that_is_not_listed_is_refused(number: int) -> None:
    rows = rows_of(PACKS)
    rows[-1] = (rows[-1][0], number, *rows[-1][2:])
    with pytest.raises(MalformedObject, match=f"number {number}"):
        parse_index(encoded(PACKS, rows))


def test_packs_out_of_order_or_listed_twice_are_refused() -> None:
    for packs in (PACKS[::-1], (PACKS[0], PACKS[0])):
        with pytest.raises(MalformedObject, match="packs of an index object are out of order"):
            parse_index(encoded(packs, rows_of(packs)))


def test_a_pack_without_an_entry_is_refused() -> None:
    rows = [row for row in rows_of(PACKS) if row[1] == 0]
    with pytest.raises(MalformedObject):
        parse_index(encoded(PACKS, rows))


@pytest.mark.parametrize("offset", [0, PACK_HEADER_BYTES + 1, 2**32 - 1])
def test_entries_that_do_not_tile_their_pack_are_refused(offset: int) -> None:
    for index, row in enumerate(rows_of(PACKS)):
        rows = rows_of(PACKS)
        rows[index] = (*row[:2], offset, *row[3:])
        with pytest.raises(MalformedObject, match="gap or an overlap"):
            parse_index(encoded(PACKS, rows))


def test_two_chunks_at_one_place_are_refused() -> None:
    pack = indexed_pack(1, [b"only one"])
    first = pack.table.entry(0)
    twin = first._replace(chunk=ChunkId(bytes(32)))
    rows = sorted((entry.chunk, 0, *entry[1:]) for entry in (first, twin))
    with pytest.raises(MalformedObject):
        parse_index(encoded([pack], rows))


def test_a_pack_of_another_size_is_refused() -> None:
    first, second = PACKS
    larger = IndexedPack(second.name, second.size + 1, second.hash, second.table)
    with pytest.raises(MalformedObject, match="does not fill its pack"):
        parse_index(encode_index([first, larger]))


def test_a_pack_is_never_indexed_twice() -> None:
    with pytest.raises(AssertionError):
        encode_index([PACKS[0], PACKS[0]])


def test_an_index_above_the_limit_is_neither_written_nor_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = encode_index(PACKS)
    monkeypatch.setattr(remote_index, "MAX_INDEX_BYTES", len(raw) - 1)
    with pytest.raises(StoreError, match="too large"):
        encode_index(PACKS)
    with pytest.raises(MalformedObject, match="cannot be"):
        parse_index(raw)


def test_tables_out_of_an_index_have_been_checked() -> None:
    for pack in parse_index(encode_index(PACKS)):
        assert PackTable.checked(pack.table.raw, pack.size) == pack.table
