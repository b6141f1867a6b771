"""Writes to the tables wait for whoever else writes; the loop that serves readers does not."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from store.cache_index import CacheIndex
from store.pack_cache import PackCache
from tests.fakes.small_store import COMMIT, build_remote, content, open_store, random_files


def held_up(method: Callable[..., Any], until: threading.Event) -> Callable[..., Any]:
    """A method that waits, as for the lock of another process. In the loop it would wait in vain:
    the event is set from there."""

    def wait_first(*args: Any) -> Any:
        assert until.wait(timeout=20)
        return method(*args)

    return wait_first


@pytest.mark.parametrize("write", ["keep_format", "keep_manifest", "keep_index"])
async def test_learning_what_a_remote_holds_leaves_the_loop_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    built = build_remote(random_files(2, 100))
    free = threading.Event()
    monkeypatch.setattr(CacheIndex, write, held_up(getattr(CacheIndex, write), free))
    async with open_store(built, tmp_path, know_index=False) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.catalog.fetch_commit_indexes, COMMIT)
            await trio.sleep(0.02)
            free.set()
        assert store.catalog.knows_commit(COMMIT)


async def test_dropping_damaged_bytes_leaves_the_loop_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(2, 1000))
    free = threading.Event()
    monkeypatch.setattr(PackCache, "drop", held_up(PackCache.drop, free))
    async with open_store(built, tmp_path) as store:
        place = built.packs[0].place(0)
        await store.fetcher.fetch_chunk(place)
        store.cache.path_of(place.pack).write_bytes(bytes(2000))
        read: list[bytes] = []

        async def read_damaged() -> None:
            read.append(await store.source.read_chunk(built.chunk(0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_damaged)
            await trio.sleep(0.02)
            free.set()
        assert read == [content(built, 0)]
