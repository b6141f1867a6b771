"""The fetcher over a MemoryRemote whose every GET is counted and may go wrong."""

import os
import struct
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store import fetch
from store.cache_rows import PackPlace
from store.errors import IntegrityError, ObjectMissing, RemoteUnavailable, StoreError
from store.fetch_schedule import AHEAD_AT_ONCE
from store.ids import ChunkId
from store.pack_cache import PackCache
from store.packs import PackEntry, PackTable
from tests.fakes.faulty_remote import Cuts, Fault, Flips, Hangs, Raises, faulty
from tests.fakes.gate import Gate, gated, gather_through, open_when_blocked
from tests.fakes.memory_remote import Call
from tests.fakes.small_store import (
    STORE,
    BuiltRemote,
    build_remote,
    gather,
    open_store,
    random_files,
)

SIZE = 1000


def contents_of(built: BuiltRemote) -> list[bytes]:
    return list(built.contents.values())


async def test_fifty_readers_of_one_absent_chunk_cause_one_get(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    async with open_store(built, tmp_path, wrap_remote=Gate) as store:
        call = partial(store.fetcher.fetch_chunk, built.packs[0].place(4))
        assert await gather_through(store, [call] * 50) == [contents_of(built)[4]] * 50
        assert len(store.gets) == 1


async def test_readers_of_neighbours_in_one_flight_share_its_get(tmp_path: Path) -> None:
    built = build_remote(random_files(40, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path, wrap_remote=Gate) as store:
        gated(store).opened.set()
        await store.fetcher.fetch_chunk(pack.place(0))
        gated(store).opened = trio.Event()
        async with trio.open_nursery() as nursery:
            # The next miss in order brings all the rest of so small a pack.
            nursery.start_soon(store.fetcher.fetch_chunk, pack.place(1))
            await wait_all_tasks_blocked()
            calls = [partial(store.fetcher.fetch_chunk, pack.place(n)) for n in range(2, 40)]
            assert await gather_through(store, calls) == contents_of(built)[2:]
        assert len(store.gets) == 2


async def test_one_who_comes_while_the_bytes_are_proven_gets_them_without_another_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(3, SIZE))
    pack = built.packs[0]
    proving, go_on = threading.Event(), threading.Event()
    real = PackCache.keep

    def slowly(self: PackCache, *place: Any) -> bool:
        kept = real(self, *place)
        proving.set()
        assert go_on.wait(10)
        return kept

    monkeypatch.setattr(PackCache, "keep", slowly)
    async with open_store(built, tmp_path) as store, trio.open_nursery() as nursery:
        go_on.set()
        await store.fetcher.fetch_chunk(pack.place(0))
        proving.clear()
        go_on.clear()
        nursery.start_soon(store.fetcher.fetch_chunk, pack.place(1))
        await trio.to_thread.run_sync(proving.wait, limiter=trio.CapacityLimiter(1))
        late: list[bytes] = []

        async def come_late() -> None:
            late.append(await store.fetcher.fetch_chunk(pack.place(2)))

        nursery.start_soon(come_late)
        await wait_all_tasks_blocked()
        go_on.set()
        await store.until_quiet()
        await wait_all_tasks_blocked()
        assert late == [contents_of(built)[2]]
        assert len(store.gets) == 2


async def test_a_cancelled_reader_does_not_cancel_the_fetch_for_others(tmp_path: Path) -> None:
    built = build_remote(random_files(3, SIZE))
    async with open_store(built, tmp_path, wrap_remote=Gate) as store:
        place = built.packs[0].place(1)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as first:
                first.start_soon(store.fetcher.fetch_chunk, place)
                await wait_all_tasks_blocked()
                scope.cancel()
        call = partial(store.fetcher.fetch_chunk, place)
        assert await gather_through(store, [call]) == [contents_of(built)[1]]
        assert len(store.gets) == 1


async def test_a_failed_fetch_fails_all_who_wait_and_the_next_read_tries_again(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(3, SIZE))

    def plan(_: Call, number: int) -> Fault | None:
        return Raises(RemoteUnavailable("busy")) if number == 0 else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        place = built.packs[0].place(1)
        errors = []

        async def read() -> bytes:
            try:
                return await store.fetcher.fetch_chunk(place)
            except RemoteUnavailable as error:
                errors.append(str(error))
                return b""

        await gather([read] * 20)
        assert errors == ["busy"] * 20
        assert await read() == contents_of(built)[1]
        assert len(store.gets) == 1


async def test_an_error_that_nobody_foresaw_fails_the_readers_and_not_the_fetcher(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(3, SIZE))

    def plan(_: Call, number: int) -> Fault | None:
        return Raises(ZeroDivisionError()) if number == 0 else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        with pytest.raises(StoreError, match="ZeroDivisionError"):
            await store.fetcher.fetch_chunk(built.packs[0].place(0))
        assert "should not" in caplog.text
        assert await store.fetcher.fetch_chunk(built.packs[0].place(0)) == contents_of(built)[0]


async def test_ending_the_fetcher_ends_who_waits(tmp_path: Path) -> None:
    built = build_remote(random_files(3, SIZE))
    errors = []
    hanging = faulty(lambda *_: Hangs())
    async with (
        open_store(built, tmp_path, wrap_remote=hanging) as store,
        trio.open_nursery() as nursery,
        trio.open_nursery() as fetching,
    ):
        await fetching.start(store.fetcher.run)

        async def read() -> None:
            with pytest.raises(RemoteUnavailable) as raised:
                await store.fetcher.fetch_chunk(built.packs[0].place(0))
            errors.append(str(raised.value))

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        fetching.cancel_scope.cancel()
    assert errors == ["the fetch was ended"]


async def test_prefetches_that_hang_never_keep_demand_waiting(tmp_path: Path) -> None:
    built = build_remote(random_files(400, SIZE), chunks_per_pack=4)
    hanging = {f"packs/{pack.name[:2]}/{pack.name}" for pack in built.packs[:50]}

    def plan(call: Call, _: int) -> Fault | None:
        return Hangs() if call.key in hanging else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        store.fetcher.prefetch(pack.place(0) for pack in built.packs[:50])
        with trio.fail_after(20):
            for number in range(60, 80):
                place = built.packs[number].place(0)
                assert await store.fetcher.fetch_chunk(place) == contents_of(built)[4 * number]


async def test_what_was_prefetched_is_kept_and_not_fetched_again(tmp_path: Path) -> None:
    built = build_remote(random_files(30, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store:
        for _ in range(2):
            store.fetcher.prefetch(pack.place(number) for number in range(5, 25))
            await store.until_quiet()
        assert [(call.start, call.length) for call in store.gets] == [
            (pack.table.entry(5).offset, 20 * SIZE)
        ]
        entry = pack.table.entry(5)
        assert store.cache.covers(pack.name, entry.offset, entry.offset + 20 * SIZE)


async def test_a_remote_in_trouble_is_not_asked_for_more_than_is_demanded(tmp_path: Path) -> None:
    built = build_remote(random_files(40, SIZE), chunks_per_pack=1)

    def plan(_: Call, __: int) -> Fault | None:
        return Raises(RemoteUnavailable("down"))

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        store.fetcher.prefetch(pack.place(0) for pack in built.packs)
        await store.until_quiet()
        assert len(store.remote.calls) == AHEAD_AT_ONCE  # type: ignore[attr-defined]


async def test_a_few_misses_in_a_small_pack_bring_all_of_it(tmp_path: Path) -> None:
    built = build_remote(random_files(60, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store:
        for number in range(0, 8, 2):
            assert not store.cache.covers(pack.name, 8, pack.table.entry(59).end)
            await store.fetcher.fetch_chunk(pack.place(number))
        await store.until_quiet()
        assert store.cache.covers(pack.name, 8, pack.table.entry(59).end)
        assert store.fetcher.fetched_bytes == 60 * SIZE


async def test_a_flipped_byte_is_fetched_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(3, SIZE))

    def plan(_: Call, number: int) -> Fault | None:
        return Flips(7) if number == 0 else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        assert await store.fetcher.fetch_chunk(built.packs[0].place(1)) == contents_of(built)[1]
        assert len(store.gets) == 2
        assert caplog.text.count("is fetched again") == 1


async def test_a_corrupt_chunk_is_fetched_again_alone_and_once_for_all_who_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(10, SIZE))
    pack = built.packs[0]

    def plan(call: Call, _: int) -> Fault | None:
        return Flips(3 * SIZE + 5) if call.length == 10 * SIZE else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        store.fetcher.prefetch([pack.place(number) for number in range(10)])
        call = partial(store.fetcher.fetch_chunk, pack.place(3))
        assert await gather([call] * 30) == [contents_of(built)[3]] * 30
        lengths = [call.length for call in store.gets]
        assert lengths == [10 * SIZE, SIZE]
        assert store.cache.covers(pack.name, 8, pack.table.entry(9).end)
        assert "is fetched again" in caplog.text


@pytest.mark.expects_warnings
@pytest.mark.parametrize("fault", [Flips(7), Cuts(SIZE - 1), Cuts(0)])
async def test_bytes_that_are_wrong_every_time_are_an_error_and_never_kept(
    tmp_path: Path, fault: Fault
) -> None:
    built = build_remote(random_files(3, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path, wrap_remote=faulty(lambda *_: fault)) as store:
        with pytest.raises(IntegrityError, match=built.chunk(1).hex()):
            await store.fetcher.fetch_chunk(pack.place(1))
        assert len(store.gets) == 2
        assert not store.cache.path_of(pack.name).exists()


async def test_a_place_that_lies_never_gets_the_bytes_of_the_flight_it_meets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(4, SIZE))
    pack = built.packs[0]
    true = pack.table.entry(1)
    lie = PackPlace(pack.name, true._replace(chunk=ChunkId(b"?" * 32)))
    async with (
        open_store(built, tmp_path, wrap_remote=Gate) as store,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(store.fetcher.fetch_chunk, pack.place(1))
        await wait_all_tasks_blocked()
        nursery.start_soon(open_when_blocked, store)
        with pytest.raises(IntegrityError):
            await store.fetcher.fetch_chunk(lie)
    assert "is fetched again" in caplog.text


async def test_a_damaged_neighbour_row_does_not_spoil_the_run(tmp_path: Path) -> None:
    built = build_remote(random_files(6, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store:
        rows = bytearray(pack.table.raw)
        struct.pack_into("<I", rows, 2 * 45 + 32, 0)
        (key,) = store.index._tables.scan_keys("packs")
        row = store.index._tables.get("packs", key)
        assert row is not None
        store.index._tables.put_many("packs", [(key, row[:32] + bytes(rows))])
        for number in (0, 1):
            found = await store.fetcher.fetch_chunk(pack.place(number))
            assert found == contents_of(built)[number]


async def test_a_place_that_the_table_does_not_know_is_fetched_by_itself(tmp_path: Path) -> None:
    built = build_remote(random_files(6, SIZE))
    async with open_store(built, tmp_path, know_index=False) as store:
        place = built.packs[0].place(3)
        assert store.index.load_pack_table(STORE, place.pack) is None
        assert await store.fetcher.fetch_chunk(place) == contents_of(built)[3]
        assert [(call.start, call.length) for call in store.gets] == [(place.entry.offset, SIZE)]


async def test_compressed_chunks_arrive_as_their_raw_bytes(tmp_path: Path) -> None:
    files = {f"whole-{number}": bytes([number]) * 5000 + os.urandom(20) for number in range(9)}
    built = build_remote(files, compress=True)
    async with open_store(built, tmp_path) as store:
        for number, content in enumerate(files.values()):
            place = built.packs[0].place(number)
            assert place.entry.stored_length < place.entry.raw_length
            assert await store.fetcher.fetch_chunk(place) == content


async def test_a_missing_pack_is_told_as_such(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    place = built.packs[0].place(0)
    del built.remote.objects[f"packs/{place.pack[:2]}/{place.pack}"]
    async with open_store(built, tmp_path) as store:
        with pytest.raises(ObjectMissing):
            await store.fetcher.fetch_chunk(place)


async def test_tables_that_cannot_be_read_end_prefetching_and_not_the_fetcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(20, SIZE), chunks_per_pack=1)
    async with open_store(built, tmp_path, wrap_remote=Gate) as store:
        store.fetcher.prefetch(pack.place(0) for pack in built.packs)

        def broken(*_: object) -> list[tuple[int, int]]:
            raise StoreError("the tables are broken")

        with monkeypatch.context() as patch:
            patch.setattr(store.cache, "load_ranges", broken)
            gated(store).opened.set()
            await store.until_quiet()
        assert await store.fetcher.fetch_chunk(built.packs[19].place(0)) == contents_of(built)[19]


def test_the_number_of_an_entry_is_told_only_where_table_and_place_agree() -> None:
    pack = build_remote(random_files(3, SIZE)).packs[0]
    assert fetch.entry_number(pack.table, pack.place(2)) == 2
    entry = pack.table.entry(2)
    others: list[PackEntry] = [
        entry._replace(offset=entry.offset + 1),
        entry._replace(offset=0),
        entry._replace(offset=1 << 31),
        entry._replace(raw_length=5),
        entry._replace(chunk=ChunkId(bytes(32))),
    ]
    for other in others:
        assert fetch.entry_number(pack.table, PackPlace(pack.name, other)) is None
    assert fetch.entry_number(None, pack.place(2)) is None
    assert fetch.entry_number(PackTable.trusted(b""), pack.place(2)) is None
