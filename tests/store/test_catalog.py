"""What a remote holds, learnt from objects that may be damaged, foreign or gone."""

import os
from functools import partial
from pathlib import Path

import pytest
import trio

from store.cache_index import CacheIndex
from store.catalog import Catalog
from store.errors import LocalDiskFull, MalformedObject, UnsupportedVersion
from store.ids import GitId
from store.manifests import Manifest, encode_manifest, manifest_key, new_ulid
from store.remote import FORMAT_KEY, INDEX_PREFIX, index_key, manifests_prefix
from store.sealed_text import seal
from tests.fakes.memory_remote import MemoryRemote
from tests.fakes.small_store import (
    COMMIT,
    REPOSITORY,
    STORE,
    BuiltRemote,
    build_pack,
    build_remote,
    open_store,
    publish,
    random_files,
)

OTHER_COMMIT = GitId("0c" * 20)


def more_indexes(remote: MemoryRemote, count: int) -> list[str]:
    """Index objects of other pushes, with a pack each, that no manifest of COMMIT names."""
    return [publish(remote, [build_pack([os.urandom(30)])], manifest=False) for _ in range(count)]


def manifest_keys(built: BuiltRemote) -> list[str]:
    prefix = manifests_prefix(REPOSITORY, COMMIT)
    return [key for key in built.remote.objects if key.startswith(prefix)]


async def test_only_the_index_objects_that_a_commit_needs_are_fetched_and_only_once(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(3, 100))
    more_indexes(built.remote, 4)
    async with open_store(built, tmp_path, know_index=False) as store:
        assert store.catalog.get_store() is None
        assert await store.catalog.fetch_commit_indexes(COMMIT)
        assert store.index.loaded_indexes(STORE) == {built.index}
        assert store.catalog.get_store() == STORE
        assert store.catalog.knows_commit(COMMIT)
        assert not store.catalog.knows_commit(OTHER_COMMIT)
        assert not await store.catalog.fetch_commit_indexes(COMMIT)
        fetched = [call.key for call in built.remote.calls if call.key.startswith(INDEX_PREFIX)]
        assert fetched == [index_key(built.index)]


async def test_a_commit_without_a_manifest_has_all_index_objects_loaded(tmp_path: Path) -> None:
    built = build_remote(random_files(3, 100))
    others = more_indexes(built.remote, 4)
    async with open_store(built, tmp_path, know_index=False) as store:
        await store.catalog.fetch_commit_indexes(OTHER_COMMIT)
        assert store.index.loaded_indexes(STORE) == {built.index, *others}


async def test_an_empty_remote_teaches_nothing_and_is_no_error(tmp_path: Path) -> None:
    built = build_remote(random_files(1, 100))
    built.remote.objects.clear()
    async with open_store(built, tmp_path, know_index=False) as store:
        assert await store.catalog.fetch_format() is None
        assert not await store.catalog.fetch_commit_indexes(COMMIT)
        assert await store.catalog.fetch_all_indexes() is None
        assert await store.catalog.fetch_pushed_commits() == {}


async def test_who_asks_for_a_commit_while_that_is_under_way_asks_nothing_more(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(3, 100))
    async with open_store(built, tmp_path, know_index=False) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(store.catalog.fetch_commit_indexes, COMMIT)
        assert store.catalog.knows_commit(COMMIT)
        assert [call.verb for call in built.remote.calls].count("list") == 1
        assert [call.key for call in built.remote.calls].count(FORMAT_KEY) == 1


async def test_many_who_ask_at_once_have_each_index_object_fetched_once(tmp_path: Path) -> None:
    built = build_remote(random_files(3, 100))
    more_indexes(built.remote, 20)
    async with open_store(built, tmp_path, know_index=False) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(store.catalog.fetch_all_indexes)
        fetched = [call.key for call in built.remote.calls if call.key.startswith(INDEX_PREFIX)]
        fetched = [key for key in fetched if key != INDEX_PREFIX]
        assert len(fetched) == len(set(fetched)) == 21


async def test_a_damaged_index_object_is_not_used_and_the_others_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(3, 100))
    flipped, malformed = more_indexes(built.remote, 2)
    raw = bytearray(built.remote.objects[index_key(flipped)][0])
    raw[40] ^= 1
    built.remote.objects[index_key(flipped)] = bytes(raw), 0.0
    built.remote.objects[index_key(malformed)] = b"no index object", 0.0
    async with open_store(built, tmp_path, know_index=False) as store:
        await store.catalog.fetch_all_indexes()
        assert store.index.loaded_indexes(STORE) == {built.index}
        assert caplog.text.count("is not used") == 2
        assert flipped in caplog.text


async def test_where_an_index_object_is_gone_the_others_of_the_remote_may_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = random_files(3, 100)
    built = build_remote(files)
    del built.remote.objects[index_key(built.index)]
    again = publish(built.remote, build_remote(files).packs, manifest=False)
    async with open_store(built, tmp_path, know_index=False) as store:
        for name, content in files.items():
            assert await store.read(name) == content
        assert store.index.loaded_indexes(STORE) == {again}
    assert "is gone" in caplog.text


def put_manifest(built: BuiltRemote, raw: bytes, milliseconds: int = 1 << 40) -> None:
    """As the newest of COMMIT's manifests."""
    built.remote.objects[manifest_key(REPOSITORY, COMMIT, new_ulid(milliseconds))] = raw, 0.0


async def test_a_damaged_or_foreign_manifest_gives_way_to_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(3, 100))
    foreign = Manifest(REPOSITORY, OTHER_COMMIT, (), (), (), "test")
    put_manifest(built, encode_manifest(foreign))
    put_manifest(built, b"damaged")
    more_indexes(built.remote, 1)
    async with open_store(built, tmp_path, know_index=False) as store:
        await store.catalog.fetch_commit_indexes(COMMIT)
        assert store.index.loaded_indexes(STORE) == {built.index}
    assert caplog.text.count("not used") == 2


async def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    built = build_remote(random_files(1, 100))
    put_manifest(built, seal("manifest", 2, {}))
    async with open_store(built, tmp_path, know_index=False) as store:
        with pytest.raises(UnsupportedVersion):
            await store.catalog.fetch_commit_indexes(COMMIT)


async def test_the_pushed_commits_of_this_repository_are_told(tmp_path: Path) -> None:
    built = build_remote(random_files(1, 100))
    (key,) = manifest_keys(built)
    built.remote.objects[f"manifests/{REPOSITORY}/not-a-manifest"] = b"", 0.0
    async with open_store(built, tmp_path) as store:
        assert await store.catalog.fetch_pushed_commits() == {COMMIT: key}
        nameless = Catalog(built.remote, "memory", None, store.index, 1.0)
        assert await nameless.fetch_pushed_commits() == {}
        assert not nameless.knows_commit(COMMIT)


async def test_a_damaged_format_row_is_as_good_as_none(tmp_path: Path) -> None:
    built = build_remote(random_files(2, 100))
    async with open_store(built, tmp_path) as store:
        good = store.index.load_format("memory")
        assert good is not None
        store.index.keep_format("memory", good[:50] + b"?" + good[51:])
        assert store.catalog.get_store() is None
        assert await store.source.read_chunk(built.chunk(1)) == built.contents["whole-00001"]
        assert store.index.load_format("memory") == good


async def test_a_damaged_format_object_is_refused(tmp_path: Path) -> None:
    built = build_remote(random_files(2, 100))
    built.remote.objects[FORMAT_KEY] = b"damaged", 0.0
    async with open_store(built, tmp_path, know_index=False) as store:
        with pytest.raises(MalformedObject):
            await store.catalog.fetch_format()
        assert store.index.load_format("memory") is None


async def test_a_full_disk_does_not_keep_us_from_asking_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(2, 100))

    def full(*_: object) -> None:
        raise LocalDiskFull("no room")

    async with open_store(built, tmp_path) as store:
        monkeypatch.setattr(CacheIndex, "keep_format", full)
        assert await store.catalog.fetch_all_indexes() == STORE


async def test_a_cancelled_question_leaves_the_catalog_usable(tmp_path: Path) -> None:
    built = build_remote(random_files(2, 100))
    async with open_store(built, tmp_path, know_index=False) as store:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(store.catalog.fetch_commit_indexes, COMMIT))
                scope.cancel()
        assert await store.catalog.fetch_commit_indexes(COMMIT)
