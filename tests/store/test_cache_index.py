import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import byte_ranges
from store.cache_index import CacheIndex
from store.cache_rows import PackUse, pack_place, parse_place
from store.directories import PACKED_VERSION
from store.ids import ChunkId, GitId, chunk_id, hash_bytes, new_pack_name
from store.remote_index import encode_index, parse_index
from store.tables import Tables
from tests.fakes.small_store import REPOSITORY, STORE, BuiltPack, build_pack

OTHER_STORE = "99999999-2222-4333-8444-555555555555"
HASH = "ab" * 32
OTHER_HASH = "cd" * 32
TREE = b"t" * 20


@pytest.fixture
def index(tmp_path: Path) -> Iterator[CacheIndex]:
    opened = CacheIndex(tmp_path)
    yield opened
    opened.close()


def built(count: int, shared: bytes | None = None) -> BuiltPack:
    chunks = [os.urandom(20) for _ in range(count)]
    return build_pack(chunks if shared is None else [*chunks, shared])


def keep(index: CacheIndex, *packs: BuiltPack, name: str = HASH) -> None:
    index.keep_index(STORE, name, [pack.indexed for pack in packs])


def test_an_index_object_that_was_kept_says_where_each_chunk_is(index: CacheIndex) -> None:
    packs = [built(3), built(4)]
    keep(index, *packs)
    assert index.loaded_indexes(STORE) == {HASH}
    for pack in packs:
        assert index.load_pack_table(STORE, pack.name) == pack.table
        assert index.load_index_of_pack(STORE, pack.name) == HASH
        for number, entry in enumerate(pack.table):
            assert index.load_place(STORE, entry.chunk) == pack.place(number)
    asked = [packs[1].table.entry(2).chunk, ChunkId(b"?" * 32), packs[0].table.entry(0).chunk]
    assert index.load_places(STORE, asked) == [packs[1].place(2), None, packs[0].place(0)]


def test_an_index_object_is_kept_from_its_bytes_as_from_its_packs(index: CacheIndex) -> None:
    shared = b"a chunk of both packs"
    packs = sorted((built(3, shared), built(4, shared)), key=lambda pack: pack.name)
    raw = encode_index([pack.indexed for pack in packs])
    index.keep_index(STORE, HASH, parse_index(raw), raw)
    for pack in packs:
        assert index.load_pack_table(STORE, pack.name) == pack.table
        for number, entry in enumerate(list(pack.table)[:-1]):
            assert index.load_place(STORE, entry.chunk) == pack.place(number)
    assert index.load_place(STORE, chunk_id(shared)) == packs[1].place(len(packs[1].table) - 1)


def test_stores_do_not_see_each_other(index: CacheIndex) -> None:
    pack = built(1)
    keep(index, pack)
    assert index.load_place(OTHER_STORE, pack.table.entry(0).chunk) is None
    assert index.load_pack_table(OTHER_STORE, pack.name) is None
    assert index.loaded_indexes(OTHER_STORE) == set()


def test_forgetting_a_pack_leaves_places_in_other_packs(index: CacheIndex) -> None:
    shared = b"a chunk of both packs"
    gone, kept = built(2, shared), built(2, shared)
    keep(index, gone)
    keep(index, kept, name=OTHER_HASH)
    index.forget_pack(STORE, gone.name)
    assert index.load_place(STORE, gone.table.entry(0).chunk) is None
    assert index.load_place(STORE, chunk_id(shared)) == kept.place(2)
    assert index.load_pack_table(STORE, gone.name) is None
    assert index.loaded_indexes(STORE) == set()


def test_a_forgotten_pack_that_is_told_of_again_hides_no_other_place(index: CacheIndex) -> None:
    shared = b"a chunk of both packs"
    gone, kept = built(2, shared), built(2, shared)
    keep(index, gone)
    index.forget_pack(STORE, gone.name)
    keep(index, kept, name=OTHER_HASH)
    # The index object is still there: whoever deleted the pack has not replaced it.
    keep(index, gone)
    assert index.load_place(STORE, chunk_id(shared)) == kept.place(2)
    assert index.load_place(STORE, gone.table.entry(0).chunk) == gone.place(0)


class Crash(BaseException):
    pass


@pytest.mark.parametrize("writes_before_the_crash", range(4))
def test_a_crash_while_a_pack_is_forgotten_never_hides_its_chunks_for_good(
    index: CacheIndex, monkeypatch: pytest.MonkeyPatch, writes_before_the_crash: int
) -> None:
    pack = built(3)
    keep(index, pack)
    writes = 0
    real = Tables.delete_many

    def crash_later(self: Tables, table: str, keys: list[bytes]) -> None:
        nonlocal writes
        if writes == writes_before_the_crash:
            raise Crash
        writes += 1
        real(self, table, keys)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "delete_many", crash_later)
        try:
            index.forget_pack(STORE, pack.name)
        except Crash:
            assert writes_before_the_crash < 3
    here = index.load_places(STORE, [entry.chunk for entry in pack.table])
    # Either all is still known, or the index object counts as not loaded and comes back.
    assert None not in here or index.loaded_indexes(STORE) == set()


@pytest.mark.parametrize("writes_before_the_crash", range(3))
def test_a_crash_while_an_index_object_is_kept_never_counts_it_as_loaded(
    index: CacheIndex, monkeypatch: pytest.MonkeyPatch, writes_before_the_crash: int
) -> None:
    writes = 0
    real = Tables.put_many

    def crash_later(self: Tables, table: str, rows: list[tuple[bytes, bytes]]) -> None:
        nonlocal writes
        if writes == writes_before_the_crash:
            raise Crash
        writes += 1
        real(self, table, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "put_many", crash_later)
        with pytest.raises(Crash):
            keep(index, built(3))
    assert index.loaded_indexes(STORE) == set()


def test_cached_ranges_grow_shrink_and_are_counted(index: CacheIndex) -> None:
    pack = new_pack_name()
    index.keep_ranges({pack: byte_ranges.add(b"", 8, 100)}, 5)
    index.keep_ranges({pack: byte_ranges.add(b"", 100, 150)}, 7)
    assert byte_ranges.pairs(index.load_ranges(pack)) == [(8, 150)]
    assert index.load_uses() == [PackUse(pack, 7, 142)]
    index.drop_range(pack, 8, 50)
    assert byte_ranges.pairs(index.load_ranges(pack)) == [(50, 150)]
    index.keep_uses([pack], 9)
    assert index.load_uses() == [PackUse(pack, 9, 100)]
    index.forget_cached([pack])
    assert (index.load_ranges(pack), index.load_uses()) == (b"", [])


def test_manifests_are_remembered_by_repository_and_commit(index: CacheIndex) -> None:
    commits = [GitId(digit * 40) for digit in "12"]
    for commit in commits:
        index.keep_manifest(STORE, REPOSITORY, commit, commit.encode())
    index.keep_manifest(STORE, OTHER_STORE, commits[0], b"of another repository")
    assert index.load_manifest(STORE, REPOSITORY, commits[1]) == commits[1].encode()
    assert index.load_pushed_commits(STORE, REPOSITORY) == set(commits)
    assert index.load_pushed_commits(STORE, OTHER_STORE) == {commits[0]}


def test_the_remotes_own_list_says_which_commits_are_pushed(index: CacheIndex) -> None:
    kept, gone, new = (GitId(digit * 40) for digit in "123")
    for commit in (kept, gone):
        index.keep_manifest(STORE, REPOSITORY, commit, commit.encode())
    index.keep_manifest(STORE, OTHER_STORE, gone, b"of another repository")
    index.keep_pushed_commits(STORE, REPOSITORY, {kept, new})
    assert index.load_pushed_commits(STORE, REPOSITORY) == {kept, new}
    assert index.load_manifest(STORE, REPOSITORY, kept) == kept.encode()
    assert index.load_manifest(STORE, REPOSITORY, new) is None
    assert index.load_pushed_commits(STORE, OTHER_STORE) == {gone}


def test_any_flipped_bit_in_a_directory_row_makes_it_unknown(tmp_path: Path) -> None:
    index = CacheIndex(tmp_path)
    packed = b"a packed directory"
    index.keep_directories([(TREE, packed)])
    assert index.load_directory(TREE) == packed
    tables = index._tables
    row = tables.get("directories", TREE)
    assert row is not None
    for place in range(len(row)):
        flipped = row[:place] + bytes([row[place] ^ 4]) + row[place + 1 :]
        tables.put_many("directories", [(TREE, flipped)])
        assert index.load_directory(TREE) is None
    for cut in (row[:-1], row[:10], b""):
        tables.put_many("directories", [(TREE, cut)])
        assert index.load_directory(TREE) is None
    # A whole row under another tree's id is refused too.
    tables.put_many("directories", [(b"u" * 20, row)])
    assert index.load_directory(b"u" * 20) is None
    index.close()


def test_a_directory_row_of_another_version_is_as_good_as_none(
    index: CacheIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = b"a packed directory"
    # As the first version wrote it.
    checksum = hash_bytes(TREE + packed)[:16]
    index._tables.put_many("directories", [(TREE, checksum + packed)])
    assert index.load_directory(TREE) is None
    index.keep_directories([(TREE, packed)])
    assert index.load_directory(TREE) == packed
    monkeypatch.setattr("store.cache_index.PACKED_VERSION", PACKED_VERSION + 1)
    assert index.load_directory(TREE) is None


def test_rows_of_a_wrong_length_say_nothing(index: CacheIndex) -> None:
    pack = built(2)
    keep(index, pack)
    chunk = pack.table.entry(0).chunk
    raw = pack_place(pack.name, pack.table.entry(0))
    assert parse_place(chunk, raw) == pack.place(0)
    for torn in (raw[:-1], raw + b"x", b""):
        assert parse_place(chunk, torn) is None
    tables = index._tables
    (key,) = tables.scan_keys("packs")
    row = tables.get("packs", key)
    assert row is not None
    for torn in (row[:-1], row[:32], b""):
        tables.put_many("packs", [(key, torn)])
        assert index.load_pack_table(STORE, pack.name) is None
        index.forget_chunks(STORE, pack.name)
    tables.put_many("uses", [(b"short", b"x"), (bytes(16), b"x"), (b"x", bytes(16))])
    assert index.load_uses() == []


def test_formats_are_told_apart_by_the_remote_s_identity(index: CacheIndex) -> None:
    index.keep_format("s3 one", b"1")
    index.keep_format("s3 two", b"2")
    assert [index.load_format(f"s3 {name}") for name in ("one", "two", "three")] == [
        b"1",
        b"2",
        None,
    ]


def test_a_pack_of_which_nothing_is_here_does_not_count_as_cached(index: CacheIndex) -> None:
    here, gone, never = (new_pack_name() for _ in range(3))
    index.keep_ranges({here: byte_ranges.add(b"", 0, 10), gone: byte_ranges.add(b"", 0, 5)}, 1)
    index.drop_range(gone, 0, 5)
    index.keep_uses({here, gone, never}, 2)
    assert index.load_uses() == [PackUse(here, 2, 10)]


def test_a_use_tells_when_and_leaves_what_is_here_to_who_keeps_it(index: CacheIndex) -> None:
    here, never = new_pack_name(), new_pack_name()
    index.keep_ranges({here: byte_ranges.add(b"", 0, 10)}, 1)
    index.touch_uses([here, never], 7)
    assert index.load_uses() == [PackUse(here, 7, 10)]
