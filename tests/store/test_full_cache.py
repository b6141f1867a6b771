"""A cache that cannot be written: reads go on, and nothing is fetched that cannot be kept."""

import errno
import os
from pathlib import Path

import pytest

from store import pack_cache
from tests.fakes.small_store import build_remote, open_store, random_files

SIZE = 1000
pytestmark = pytest.mark.expects_warnings


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_full_cache_fetches_what_is_asked_for_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(60, SIZE))
    monkeypatch.setattr(pack_cache, "_write_all", no_room)
    async with open_store(built, tmp_path) as store:
        # In order, and more of them than make a pack wanted as a whole.
        for name, content in built.contents.items():
            assert await store.read(name) == content
        await store.until_quiet()
        assert store.fetcher.fetched_bytes == 60 * SIZE


async def test_nothing_is_prefetched_into_a_full_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(20, SIZE))
    monkeypatch.setattr(pack_cache, "_write_all", no_room)
    async with open_store(built, tmp_path) as store:
        await store.fetcher.fetch_chunk(built.packs[0].place(0))
        store.fetcher.prefetch(built.packs[0].place(number) for number in range(1, 20))
        await store.until_quiet()
        assert store.fetcher.fetched_bytes == SIZE


async def test_a_cache_that_has_room_again_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(4, SIZE))
    async with open_store(built, tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(pack_cache, "_write_all", no_room)
            await store.fetcher.fetch_chunk(built.packs[0].place(0))
        assert not store.cache.can_keep()
        await store.fetcher.fetch_chunk(built.packs[0].place(2))
        assert store.cache.can_keep()
        entry = built.packs[0].table.entry(2)
        assert store.cache.covers(built.packs[0].name, entry.offset, entry.end)
