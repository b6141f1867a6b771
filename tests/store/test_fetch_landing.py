"""Chunks that are handed out while the range they are in still arrives, and what was cut."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store.errors import IntegrityError, LocalDiskFull, RemoteUnavailable, StoreError
from store.fetch_landing import Landing
from store.fetch_plan import EntryRun
from store.fetch_schedule import Flight, FlightClass
from store.range_sink import RangeSink, stream_range
from store.remote import Remote, pack_key
from store.retry import RetryingRemote
from tests.fakes.faulty_remote import Fault, Flips, Raises, faulty
from tests.fakes.memory_remote import Call
from tests.fakes.s3_remotes import remote_at
from tests.fakes.s3_servers import S3Server
from tests.fakes.small_store import (
    BuiltPack,
    build_pack,
    build_remote,
    content,
    open_store,
    random_files,
)
from tests.fakes.tcp_proxy import Link, TcpProxy

SIZE = 1000


class Trickling:
    """A remote that gives a range chunk by chunk, each when it is told to."""

    def __init__(self, inner: Remote) -> None:
        self._inner = inner
        self.more = trio.Semaphore(0)
        self.attempts: list[int] = []
        self.cut_after: int | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def stream_range(
        self, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
    ) -> None:
        done, take = sink.taken_bytes, sink.begin()
        self.attempts.append(done)
        whole = await self._inner.fetch_range(key, start, length, timeout_seconds=timeout_seconds)
        for low in range(done, length, SIZE // 2):
            await self.more.acquire()
            if self.cut_after is not None and low >= self.cut_after:
                self.cut_after = None
                raise RemoteUnavailable("cut")
            await trio.to_thread.run_sync(take, whole[low : low + SIZE // 2])


async def test_the_first_chunk_of_a_range_is_there_before_the_last(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path, wrap_remote=Trickling) as store:
        remote = store.remote
        assert isinstance(remote, Trickling)
        got: list[int] = []

        async def fetch(number: int) -> None:
            assert await store.fetcher.fetch_chunk(pack.place(number)) == content(built, number)
            got.append(number)

        async with trio.open_nursery() as nursery:
            store.fetcher.prefetch(pack.place(number) for number in range(10))
            for number in (8, 1):
                nursery.start_soon(fetch, number)
            await wait_all_tasks_blocked()
            for arrived in range(1, 20):
                remote.more.release()
                await wait_until(lambda: remote.more.value == 0)
                await wait_all_tasks_blocked(0.01)
                assert got == [n for n in (1, 8) if 2 * (n + 1) <= arrived]
                for number in got:
                    # What was handed out is kept, and can be had again from the same flight.
                    entry = pack.table.entry(number)
                    assert store.cache.covers(pack.name, entry.offset, entry.end)
                    await store.fetcher.fetch_chunk(pack.place(number))
            remote.more.release()
        await store.until_quiet()
        assert len(remote.attempts) == 1


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.001)


async def test_an_attempt_that_was_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    pack = built.packs[0]

    def trickling(inner: Remote) -> Remote:
        remote = Trickling(inner)
        remote.cut_after = 5 * SIZE // 2
        remote.more = trio.Semaphore(100)
        tricklings.append(remote)
        return RetryingRemote(remote, first_pause_seconds=0)  # type: ignore[arg-type]

    tricklings: list[Trickling] = []
    async with open_store(built, tmp_path, wrap_remote=trickling) as store:
        await store.fetcher.warm(pack.place(number) for number in range(10))
        assert tricklings[0].attempts == [0, 5 * SIZE // 2]
        assert store.cache.covers(pack.name, 8, pack.table.entry(9).end)


async def test_what_came_before_a_range_failed_for_good_is_kept(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path, wrap_remote=Trickling) as store:
        remote = store.remote
        assert isinstance(remote, Trickling)
        remote.cut_after = 5 * SIZE
        remote.more = trio.Semaphore(100)
        with pytest.raises(RemoteUnavailable):
            await store.fetcher.warm(pack.place(number) for number in range(10))
        assert store.cache.covers(pack.name, 8, pack.table.entry(4).end)
        assert not store.cache.covers(pack.name, 8, pack.table.entry(5).end)


@pytest.mark.expects_warnings
@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_chunk_that_no_call_can_bring_whole_comes_in_parts(
    tmp_path: Path, is_damaged: bool
) -> None:
    built = build_remote(random_files(3, 4 * SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path, wrap_remote=Trickling) as store:
        remote = store.remote
        assert isinstance(remote, Trickling)
        remote.more = trio.Semaphore(1000)
        for done in range(2):
            remote.cut_after = (done + 1) * SIZE
            with pytest.raises(RemoteUnavailable):
                await store.fetcher.fetch_chunk(pack.place(1))
        if is_damaged:
            (place,) = store.fetcher._rests
            store.fetcher._rests[place] = bytes(len(store.fetcher._rests[place]))
        assert await store.fetcher.fetch_chunk(pack.place(1)) == content(built, 1)
        assert remote.attempts == [0, SIZE, 2 * SIZE] + [0] * is_damaged


def landing_of(pack: BuiltPack, kept: dict[int, bytes]) -> Landing:
    """The landing of a whole pack, whose writes go to `kept`."""
    table = pack.table
    run = EntryRun(0, len(table) - 1)
    start, end = table.entry(0).offset, table.entry(run.last).end
    flight = Flight(pack.name, start, end, FlightClass.PREFETCH, table, run)
    return Landing(flight, lambda offset, part: kept.__setitem__(offset, bytes(part)))


def body_of(pack: BuiltPack) -> bytes:
    return pack.raw[pack.table.entry(0).offset : pack.table.entry(len(pack.table) - 1).end]


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("compress", [False, True])
async def test_blocks_of_any_length_make_up_the_chunks(step: int, compress: bool) -> None:
    chunks = [bytes([number]) * (300 + number) for number in range(5)]
    pack = build_pack(chunks, compress=compress)
    kept: dict[int, bytes] = {}
    landing, body = landing_of(pack, kept), body_of(pack)
    take = landing.begin()
    for low in range(0, len(body), step):
        take(body[low : low + step])
    landing.finish(None)
    assert b"".join(kept[offset] for offset in sorted(kept)) == body
    for entry, chunk in zip(pack.table, chunks, strict=True):
        assert await landing.wait_for(entry) == chunk


async def test_of_damaged_bytes_all_that_is_true_is_kept_and_nothing_else() -> None:
    pack = build_pack([bytes([number]) * SIZE for number in range(6)])
    kept: dict[int, bytes] = {}
    landing, body = landing_of(pack, kept), bytearray(body_of(pack))
    body[2 * SIZE + 5] ^= 1
    landing.begin()(bytes(body))
    landing.finish(None)
    assert {offset - 8: len(part) for offset, part in kept.items()} == {
        0: 2 * SIZE,
        3 * SIZE: 3 * SIZE,
    }
    with pytest.raises(IntegrityError):
        await landing.wait_for(pack.table.entry(2))


async def test_a_late_attempt_gives_its_bytes_to_nobody() -> None:
    pack = build_pack([bytes([number]) * SIZE for number in range(3)])
    landing, body = landing_of(pack, {}), body_of(pack)
    late = landing.begin()
    late(body[: SIZE + 10])
    take = landing.begin()
    with pytest.raises(RemoteUnavailable):
        late(body[SIZE + 10 :])
    assert landing.taken_bytes == SIZE + 10
    take(body[SIZE + 10 :])
    with pytest.raises(RemoteUnavailable):
        take(b"x")
    assert landing.is_whole


async def test_bytes_that_are_in_the_file_are_taken_as_far_as_they_are_true() -> None:
    pack = build_pack([bytes([number]) * SIZE for number in range(6)])
    kept: dict[int, bytes] = {}
    landing, body = landing_of(pack, kept), bytearray(body_of(pack))
    body[3 * SIZE] ^= 1
    noted: list[tuple[int, int]] = []
    landing.adopt(8, bytes(body), lambda offset, length: noted.append((offset, length)))
    assert noted == [(8, 3 * SIZE)]
    assert (landing.taken_bytes, kept) == (3 * SIZE, {})
    landing.begin()(body_of(pack)[3 * SIZE :])
    landing.finish(None)
    assert {offset - 8: len(part) for offset, part in kept.items()} == {3 * SIZE: 3 * SIZE}
    for number, entry in enumerate(pack.table):
        assert await landing.wait_for(entry) == bytes([number]) * SIZE


async def test_warming_brings_all_in_few_gets_and_returns_when_it_is_here(tmp_path: Path) -> None:
    built = build_remote(random_files(60, SIZE), chunks_per_pack=20)
    async with open_store(built, tmp_path) as store:
        places = [pack.place(number) for pack in built.packs for number in range(20)]
        await store.fetcher.warm(places)
        for pack in built.packs:
            assert store.cache.covers(pack.name, 8, pack.table.entry(19).end)
        assert len(store.gets) == 3
        await store.fetcher.warm(places)
        assert len(store.gets) == 3


async def test_warming_tells_the_first_thing_that_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_remote(random_files(30, SIZE), chunks_per_pack=10)
    faults: dict[int, Fault] = {1: Flips(5)}
    wrong = faulty(lambda _, number: faults.get(number))
    async with open_store(built, tmp_path, wrap_remote=wrong) as store:
        places = [pack.place(number) for pack in built.packs for number in range(10)]
        with pytest.raises(IntegrityError):
            await store.fetcher.warm(places)
        await store.until_quiet()
        await store.fetcher.warm(places)


async def test_warming_waits_for_what_others_fetch_of_it_and_shares_their_error(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(10, SIZE))

    def plan(_: Call, __: int) -> Fault | None:
        return Raises(RemoteUnavailable("down"))

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        places = [built.packs[0].place(number) for number in range(10)]
        store.fetcher.prefetch(places)
        with pytest.raises(RemoteUnavailable, match="down"):
            await store.fetcher.warm(places)
        assert store.gets == []


async def test_warming_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(10, SIZE))
    async with open_store(built, tmp_path) as store:
        monkeypatch.setattr(store.cache, "can_keep", lambda: False)
        with pytest.raises(LocalDiskFull):
            await store.fetcher.warm([built.packs[0].place(0)])
        assert store.gets == []


async def test_warming_ends_where_the_cache_drops_at_once_what_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_remote(random_files(40, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store:
        await store.fetcher.warm(pack.place(number) for number in range(10, 40, 10))
        monkeypatch.setattr(store.cache, "keep", lambda *_: True)
        monkeypatch.setattr("store.fetch_schedule.AHEAD_AT_ONCE", 1)
        with trio.fail_after(20):
            await store.fetcher.warm(pack.place(number) for number in range(40))
        assert store.fetcher.fetched_bytes == 40 * SIZE


async def test_a_demand_whose_prefetch_failed_is_fetched_by_itself(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))

    def plan(_: Call, number: int) -> Fault | None:
        return Raises(RemoteUnavailable("cut")) if number == 0 else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan)) as store:
        store.fetcher.prefetch(built.packs[0].place(number) for number in range(10))
        assert await store.fetcher.fetch_chunk(built.packs[0].place(4)) == content(built, 4)
        assert [call.length for call in store.gets] == [SIZE]


async def test_over_s3_a_range_that_is_cut_goes_on_where_it_was(rclone_s3: S3Server) -> None:
    pack = build_pack([bytes([number]) * 100_000 for number in range(40)])
    rclone_s3.make_bucket("landing")
    with TcpProxy(rclone_s3.address) as proxy:
        plain = remote_at(proxy.endpoint, "landing")
        remote = RetryingRemote(plain, first_pause_seconds=0.01)
        await remote.put(pack_key(pack.name), pack.raw, timeout_seconds=20)
        kept: dict[int, bytes] = {}
        landing = landing_of(pack, kept)
        flight, key = landing.flight, pack_key(pack.name)
        before = proxy.down_bytes
        proxy.set_link(Link(cut_after_bytes=flight.length * 3 // 4))
        await stream_range(remote, key, flight.start, flight.length, landing, timeout_seconds=20)
        assert landing.is_whole
        assert landing.bad == {}
        assert b"".join(kept[offset] for offset in sorted(kept)) == body_of(pack)
        assert proxy.down_bytes - before < 1.2 * flight.length
        await remote.close()


async def test_over_s3_a_chunk_that_is_longer_than_any_answer_comes_in_parts(
    rclone_s3: S3Server,
) -> None:
    pack = build_pack([bytes([number]) * 400_000 for number in range(3)])
    rclone_s3.make_bucket("landing")
    with TcpProxy(rclone_s3.address) as proxy:
        remote = RetryingRemote(remote_at(proxy.endpoint, "landing"), first_pause_seconds=0.01)
        await remote.put(pack_key(pack.name), pack.raw, timeout_seconds=20)
        landing = landing_of(pack, {})
        flight, key = landing.flight, pack_key(pack.name)
        proxy.set_link(Link(cut_after_bytes=150_000))
        await stream_range(remote, key, flight.start, flight.length, landing, timeout_seconds=60)
        assert landing.is_whole
        assert landing.bad == {}
        await remote.close()


async def test_over_s3_an_answer_of_another_length_is_an_error(rclone_s3: S3Server) -> None:
    pack = build_pack([bytes([number]) * 1000 for number in range(40)])
    rclone_s3.make_bucket("landing")
    remote = remote_at(rclone_s3.endpoint, "landing")
    key = pack_key(pack.name)
    await remote.put(key, pack.raw[:20_000], timeout_seconds=20)
    landing = landing_of(pack, {})
    with pytest.raises(StoreError):
        await stream_range(
            remote, key, landing.flight.start, landing.flight.length, landing, timeout_seconds=20
        )
    await remote.close()
