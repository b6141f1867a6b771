"""Chunks from wherever they lie, with what can go wrong in each place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import chunk_source
from store.cache_index import CacheIndex
from store.cache_rows import PackPlace, pack_place
from store.chunk_source import ChunkSource
from store.errors import ChunkMissing, ChunkUnreadable
from store.ids import ChunkId, new_pack_name
from store.local_store import LocalSources
from store.open_files import OpenFiles
from store.packs import PackEntry
from store.tables import Tables
from tests.fakes.faulty_remote import Flips, faulty
from tests.fakes.small_store import (
    STORE,
    BuiltRemote,
    SmallStore,
    build_remote,
    content,
    open_store,
    random_files,
    without_memory,
)
from tests.store.damage import unhurried

SIZE = 1000
LARGE = 600 << 10
fixture_friendly = settings(unhurried, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def fill(store: SmallStore) -> None:
    """Bring all chunks of all packs into the cache."""
    for pack in store.built.packs:
        store.fetcher.prefetch(pack.place(number) for number in range(len(pack.table)))
    await store.until_quiet()


async def test_a_chunk_is_fetched_once_and_then_read_from_memory_or_disk(tmp_path: Path) -> None:
    built = build_remote(random_files(4, SIZE))
    async with open_store(built, tmp_path) as store:
        for source in (store.source, store.source, without_memory(store)):
            assert await source.read_chunk(built.chunk(2)) == content(built, 2)
        assert len(store.gets) == 1


Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, empty, zeros, Path.unlink, link, folder])
@pytest.mark.parametrize("size", [SIZE, LARGE])
@pytest.mark.expects_warnings
async def test_a_damaged_cache_file_costs_a_fetch_and_never_a_wrong_byte(
    tmp_path: Path, damage: Damage, size: int
) -> None:
    built = build_remote(random_files(4, size))
    async with open_store(built, tmp_path) as store:
        await fill(store)
        source = without_memory(store)
        # Parts of what this process has proven are not hashed again, in that very file.
        await source.read_range(built.chunk(3), size, 0, 10)
        store.source.close()
        damage(store.cache.path_of(built.packs[0].name))
        source = without_memory(store)
        for number in range(4):
            part = await source.read_range(built.chunk(number), size, size // 3, 100)
            assert part == content(built, number)[size // 3 : size // 3 + 100]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[BuiltRemote, Path]:
    """A remote, and a folder whose cache holds all of it."""
    built, path = build_remote(random_files(8, 200)), tmp_path_factory.mktemp("filled")

    async def fill_once() -> None:
        async with open_store(built, path) as store:
            await fill(store)
            store.cache.flush()

    trio.run(fill_once)
    return built, path


@fixture_friendly
@given(place=st.integers(8, 8 + 8 * 200 - 1), mask=st.integers(1, 255))
async def test_any_flipped_byte_of_a_cached_pack_is_found_out(
    filled: tuple[BuiltRemote, Path], place: int, mask: int
) -> None:
    built, path = filled
    async with open_store(built, path) as store:
        file = store.cache.path_of(built.packs[0].name)
        with file.open("r+b") as opened:
            opened.seek(place)
            (byte,) = opened.read(1)
            opened.seek(place)
            opened.write(bytes([byte ^ mask]))
        before = len(store.gets)
        for number in range(8):
            assert await store.source.read_chunk(built.chunk(number)) == content(built, number)
        assert len(store.gets) - before == 1
        assert file.read_bytes()[place] == byte
        store.cache.flush()


async def test_damaged_bytes_no_longer_count_as_cached_even_where_they_cannot_be_fetched(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(2, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store:
        await fill(store)
        zeros(store.cache.path_of(pack.name))
        built.remote.objects.clear()
        with pytest.raises(ChunkUnreadable):
            await without_memory(store).read_chunk(built.chunk(0))
        entry = pack.table.entry(0)
        assert not store.cache.covers(pack.name, entry.offset, entry.end)


async def test_parts_of_a_proven_chunk_come_from_disk_without_a_fetch(tmp_path: Path) -> None:
    built = build_remote(random_files(2, LARGE))
    async with open_store(built, tmp_path) as store:
        await fill(store)
        loaded: list[int] = []
        real = OpenFiles.load

        def counted(self: OpenFiles, path: Path, entry: PackEntry, prove: object) -> bytes:
            loaded.append(entry.offset)
            return real(self, path, entry, prove)  # type: ignore[arg-type]

        source = without_memory(store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenFiles, "load", counted)
            await source.read_chunk(built.chunk(1))
            source._recent.drop(built.chunk(1))
            for start in range(0, LARGE, 100_000):
                part = await source.read_range(built.chunk(1), LARGE, start, 1000)
                assert part == content(built, 1)[start : start + 1000]
        assert len(loaded) == 1


async def test_a_hole_where_a_proven_chunk_was_is_never_served(tmp_path: Path) -> None:
    built = build_remote(random_files(2, LARGE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store:
        await fill(store)
        source = without_memory(store)
        await source.read_chunk(built.chunk(0))
        source._recent.drop(built.chunk(0))
        # Another process evicts the pack; then a neighbour is kept in a new file of that name,
        # while rows that were under way still say that all is here.
        store.cache.path_of(pack.name).unlink()
        neighbour = pack.table.entry(1)
        store.cache.keep(pack.name, neighbour.offset, content(built, 1))
        assert store.cache.covers(pack.name, 8, neighbour.end)
        part = await source.read_range(built.chunk(0), LARGE, 5, 50)
        assert part == content(built, 0)[5:55]


async def test_a_lying_row_over_a_proven_place_gets_nothing_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(2, LARGE))
    liar = ChunkId(b"!" * 32)
    async with open_store(built, tmp_path) as store:
        await fill(store)
        source = without_memory(store)
        await source.read_chunk(built.chunk(0))
        true = built.packs[0].place(0)
        tables: Tables = store.index._tables
        (prefix,) = {key[:8] for key in tables.scan_keys("chunks")}
        row = pack_place(true.pack, true.entry._replace(chunk=liar))
        tables.put_many("chunks", [(prefix + liar, row)])
        with pytest.raises(ChunkUnreadable):
            await source.read_range(liar, LARGE, 0, 100)
    assert "is fetched again" in caplog.text


@pytest.mark.expects_warnings
@pytest.mark.parametrize("change", [{"offset": 9}, {"stored_length": 1 << 31}, {"raw_length": 4}])
async def test_a_damaged_place_row_is_learnt_anew(tmp_path: Path, change: dict[str, int]) -> None:
    built = build_remote(random_files(4, SIZE))
    async with open_store(built, tmp_path) as store:
        true = built.packs[0].place(2)
        lie = pack_place(true.pack, true.entry._replace(**change))
        tables: Tables = store.index._tables
        (prefix,) = {key[:8] for key in tables.scan_keys("chunks")}
        tables.put_many("chunks", [(prefix + built.chunk(2), lie)])
        assert await store.source.read_chunk(built.chunk(2)) == content(built, 2)
        assert store.index.load_place(STORE, built.chunk(2)) == true


@pytest.mark.expects_warnings
async def test_a_chunk_that_is_corrupt_in_the_remote_names_chunk_and_pack(tmp_path: Path) -> None:
    built = build_remote(random_files(4, SIZE))
    async with open_store(built, tmp_path, wrap_remote=faulty(lambda *_: Flips(3))) as store:
        with pytest.raises(ChunkUnreadable) as raised:
            await store.source.read_chunk(built.chunk(1))
        assert built.chunk(1).hex() in str(raised.value)
        assert built.packs[0].name in str(raised.value)
        entry = built.packs[0].table.entry(1)
        assert not store.cache.covers(built.packs[0].name, entry.offset, entry.end)
        # It may have been repaired: the remote was asked, once, and knows no other place.
        assert [call.key for call in built.remote.calls if call.verb == "fetch"].count(
            "format"
        ) == 1


@pytest.mark.expects_warnings
async def test_reads_go_on_uncached_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(10, SIZE))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    async with open_store(built, tmp_path) as store:
        for number in range(10):
            source = without_memory(store)
            assert await source.read_chunk(built.chunk(number)) == content(built, number)
        assert store.cache.kept_bytes == 0


@pytest.mark.parametrize("size", [SIZE, LARGE])
@pytest.mark.parametrize("wrong", [-1, 1])
async def test_a_chunk_of_another_length_than_said_is_refused(
    tmp_path: Path, size: int, wrong: int
) -> None:
    built = build_remote(random_files(1, size))
    async with open_store(built, tmp_path) as store:
        for _ in range(3):
            with pytest.raises(ChunkUnreadable, match=f"{size} bytes where .* {size + wrong}"):
                await store.source.read_range(built.chunk(0), size + wrong, 0, 10)
            store.source._recent.drop(built.chunk(0))
        assert await store.source.read_range(built.chunk(0), size, 0, 9) == content(built, 0)[:9]


async def test_the_memory_of_recent_chunks_stays_under_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four would fit by their bytes alone, three with what each takes beside them.
    most_bytes = 4 * SIZE + 1
    monkeypatch.setattr(chunk_source, "_RECENT_BYTES", most_bytes)
    built = build_remote(random_files(10, SIZE))
    async with open_store(built, tmp_path) as store:
        for number in range(10):
            await store.source.read_chunk(built.chunk(number))
            assert store.source._recent.used_bytes <= most_bytes
        assert len(store.source._recent) == 3


async def test_without_a_remote_only_what_is_here_can_be_read(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    async with open_store(built, tmp_path) as store:
        source = ChunkSource(LocalSources(None, store.index, store.cache), None, None, None)
        assert not source.can_read(built.chunk(0))
        with pytest.raises(ChunkMissing, match="no remote is configured"):
            await source.read_chunk(built.chunk(0))
        source.prefetch([built.chunk(0)])
        assert store.source.can_read(built.chunk(0))
        offline = ChunkSource(
            LocalSources(None, store.index, store.cache), store.catalog, None, None
        )
        assert not offline.can_read(built.chunk(0))
        await store.source.read_chunk(built.chunk(0))
        assert offline.can_read(built.chunk(0))
        assert await offline.read_chunk(built.chunk(0)) == content(built, 0)


async def test_a_row_that_names_a_pack_nobody_has_is_learnt_anew(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    async with open_store(built, tmp_path) as store:
        index: CacheIndex = store.index
        entry = built.packs[0].table.entry(0)
        (prefix,) = {key[:8] for key in index._tables.scan_keys("chunks")}
        row = pack_place(new_pack_name(), entry)
        index._tables.put_many("chunks", [(prefix + entry.chunk, row)])
        assert await store.source.read_chunk(entry.chunk) == content(built, 0)
        assert index.load_place(STORE, entry.chunk) == PackPlace(built.packs[0].name, entry)
