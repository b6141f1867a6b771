"""A remote in which others, or an enemy, have put what does not belong there."""

import os
from pathlib import Path

import pytest

from store import catalog
from store.directory import DirectoryRemote
from store.errors import RemoteError
from store.ids import ChunkId, PackName
from store.open_files import OpenFiles
from store.packs import PackEntry
from store.remote import (
    INDEX_PREFIX,
    index_key,
    manifests_prefix,
    pack_key,
    parse_index_key,
    parse_pack_key,
)
from tests.fakes.small_store import (
    COMMIT,
    REPOSITORY,
    STORE,
    build_remote,
    open_store,
    random_files,
)

PACK = PackName("ab" * 16)


def test_only_the_very_key_of_a_pack_or_index_object_is_one() -> None:
    assert parse_pack_key(pack_key(PACK)) == PACK
    for key in (PACK, f"packs/{PACK}", f"packs/cd/{PACK}", f"packs/old/ab/{PACK}", "packs/ab/"):
        assert parse_pack_key(key) is None, key
    name = "cd" * 32
    assert parse_index_key(index_key(name)) == name
    for key in (name, f"index/{name[:-1]}", f"index/{name.upper()}", f"index/x/{name}", "index/"):
        assert parse_index_key(key) is None, key


async def test_strangers_among_the_index_objects_and_manifests_are_left_alone(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(3, 100))
    strangers = [INDEX_PREFIX, f"{INDEX_PREFIX}README", f"{INDEX_PREFIX}old/{built.index}"]
    strangers += [manifests_prefix(REPOSITORY, COMMIT) + name for name in ("", "0", "notes.txt")]
    for key in strangers:
        built.remote.objects[key] = b"mine", 0.0
    async with open_store(built, tmp_path, know_index=False) as store:
        assert await store.catalog.fetch_commit_indexes(COMMIT)
        await store.catalog.fetch_all_indexes()
        asked = {call.key for call in built.remote.calls if call.verb == "fetch"}
        assert asked.isdisjoint(strangers)
        assert store.index.loaded_indexes(STORE) == {built.index}


@pytest.mark.expects_warnings
async def test_objects_too_large_to_be_what_they_should_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(3, 100))
    (manifest,) = (key for key in built.remote.objects if key.startswith("manifests/"))
    beside = manifest[:-1] + ("1" if manifest.endswith("0") else "0")
    built.remote.objects[beside] = b"x" * 100_000, 0.0
    built.remote.objects[index_key("00" * 32)] = b"x" * 100_000, 0.0
    monkeypatch.setattr(catalog, "MAX_MANIFEST_BYTES", 50_000)
    monkeypatch.setattr(catalog, "MAX_INDEX_BYTES", 50_000)
    async with open_store(built, tmp_path, know_index=False) as store:
        await store.catalog.fetch_commit_indexes(COMMIT)
        assert store.catalog.knows_commit(COMMIT)
        await store.catalog.fetch_all_indexes()
        assert store.index.loaded_indexes(STORE) == {built.index}


def test_a_pipe_in_place_of_a_pack_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pack")
    told: list[bytes | None] = []

    def prove(stored: bytes | None) -> bytes:
        told.append(stored)
        return b""

    files = OpenFiles()
    files.load(tmp_path / "pack", PackEntry(ChunkId(bytes(32)), 8, 10, 10, 0), prove)
    assert told == [None]
    files.close()


async def test_a_pipe_in_place_of_an_object_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "format")
    remote = DirectoryRemote(tmp_path)
    with pytest.raises(RemoteError) as caught:
        await remote.fetch("format", max_bytes=100, timeout_seconds=60)
    assert not caught.value.temporary
