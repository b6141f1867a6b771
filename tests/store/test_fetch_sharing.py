"""Several fetchers over one cache: one miss is one GET for all of them, whoever dies or stops."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store.errors import RemoteUnavailable
from store.fetch import Fetcher
from store.flight_locks import FlightLocks
from store.pack_cache import PackCache
from store.pack_tables import PackTables
from tests.fakes.faulty_remote import Fault, Raises, faulty
from tests.fakes.gate import Gate, gated
from tests.fakes.small_store import (
    TIMEOUT_SECONDS,
    SmallStore,
    build_remote,
    content,
    open_store,
    random_files,
)

SIZE = 10_000
ROOT = Path(__file__).parents[2]
FETCH_ALL = """
import random, sys, trio
from pathlib import Path
from tests.fakes.faulty_remote import Delays, faulty
from tests.fakes.small_store import build_remote, open_store

made = random.Random(1)
files = {f"whole-{number}": made.randbytes(10_000) for number in range(60)}
import store.ids, tests.fakes.small_store as small
small.new_pack_name = lambda: store.ids.PackName(made.randbytes(16).hex())

async def main():
    built = build_remote(files, chunks_per_pack=30)
    slow = faulty(lambda call, number: Delays(0.02))
    async with open_store(built, Path(sys.argv[1]), wrap_remote=slow) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        names = list(files)
        random.Random(sys.argv[2]).shuffle(names)
        for name in names:
            assert await store.read(name) == files[name]
        await store.until_quiet()
        print(sum(call.length for call in store.gets))

trio.run(main)
"""


@asynccontextmanager
async def another_fetcher(
    store: SmallStore, timeout_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[Fetcher]:
    """A fetcher as of another process: over the same files, with other ideas of what is in them."""
    cache = PackCache(store.cache.path_of(store.built.packs[0].name).parents[1], store.index, None)
    tables = PackTables(store.index, store.catalog)
    fetcher = Fetcher(store.remote, cache, tables, timeout_seconds)
    async with trio.open_nursery() as nursery:
        await nursery.start(fetcher.run)
        yield fetcher
        nursery.cancel_scope.cancel()


async def test_what_another_brought_of_the_middle_of_a_range_is_not_fetched_again(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(60, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store, another_fetcher(store) as other:
        await other.warm(pack.place(number) for number in range(20, 40))
        await store.fetcher.warm(pack.place(number) for number in range(60))
        assert [call.length for call in store.gets] == [20 * SIZE] * 3
        for number in range(60):
            assert await store.fetcher.fetch_chunk(pack.place(number)) == content(built, number)


async def test_two_fetchers_who_miss_the_same_chunk_at_once_cause_one_get(tmp_path: Path) -> None:
    built = build_remote(random_files(3, SIZE))
    place = built.packs[0].place(1)
    found: list[bytes] = []
    async with (
        open_store(built, tmp_path, wrap_remote=Gate) as store,
        another_fetcher(store) as other,
    ):

        async def fetch(fetcher: Fetcher) -> None:
            found.append(await fetcher.fetch_chunk(place))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, store.fetcher)
            nursery.start_soon(fetch, other)
            # The second looks again now and then.
            await trio.sleep(0.02)
            assert gated(store).asked == 1
            gated(store).opened.set()
        assert found == [content(built, 1)] * 2
        assert len(store.gets) == 1
        assert other.fetched_bytes + store.fetcher.fetched_bytes == SIZE


async def test_what_another_has_fetched_is_not_fetched_though_the_tables_know_nothing_of_it(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(3, SIZE))
    place = built.packs[0].place(1)
    async with open_store(built, tmp_path) as store, another_fetcher(store) as other:
        await store.fetcher.fetch_chunk(place)
        assert store.index.load_ranges(place.pack) == b""
        assert await other.fetch_chunk(place) == content(built, 1)
        assert len(store.gets) == 1
        # From here on it knows.
        assert other._cache.covers(place.pack, place.entry.offset, place.entry.end)


async def test_of_a_range_only_what_is_not_in_the_file_is_fetched(tmp_path: Path) -> None:
    built = build_remote(random_files(8, SIZE))
    pack = built.packs[0]
    async with open_store(built, tmp_path) as store, another_fetcher(store) as other:
        await store.fetcher.warm(pack.place(number) for number in range(4))
        await other.warm(pack.place(number) for number in range(8))
        lengths = [call.length for call in store.gets]
        assert lengths == [4 * SIZE, 4 * SIZE]


async def test_bytes_in_the_file_that_are_not_true_are_fetched(tmp_path: Path) -> None:
    built = build_remote(random_files(3, SIZE))
    place = built.packs[0].place(1)
    async with open_store(built, tmp_path) as store:
        path = store.cache.path_of(place.pack)
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(4 * SIZE))
        assert await store.fetcher.fetch_chunk(place) == content(built, 1)
        assert len(store.gets) == 1


async def test_a_prefetch_leaves_out_what_another_is_fetching(tmp_path: Path) -> None:
    built = build_remote(random_files(4, SIZE), chunks_per_pack=2)
    place = built.packs[0].place(0)
    async with (
        open_store(built, tmp_path, wrap_remote=Gate) as store,
        another_fetcher(store) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(store.fetcher.fetch_chunk, place)
        await wait_all_tasks_blocked()
        other.prefetch([place])
        await wait_all_tasks_blocked()
        # The gate is closed still: it waits for nobody.
        assert other.is_idle
        other.prefetch([built.packs[1].place(0)])
        await wait_all_tasks_blocked()
        assert gated(store).asked == 2
        gated(store).opened.set()


async def test_another_that_holds_a_range_for_ever_is_not_waited_for_as_long(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(3, SIZE))
    place = built.packs[0].place(1)
    async with open_store(built, tmp_path) as store, another_fetcher(store, 1.5) as fetcher:
        stopped = FlightLocks(store.cache.lock_path)
        assert stopped.try_lock(place.pack, 0, 64 << 20)
        assert await fetcher.fetch_chunk(place) == content(built, 1)
        stopped.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_range_is_free_when_its_fetch_has_ended(tmp_path: Path, fails: bool) -> None:
    built = build_remote(random_files(3, SIZE))
    place = built.packs[0].place(1)
    faults: list[Fault] = [Raises(RemoteUnavailable("down"))] if fails else []
    down = faulty(lambda *_: faults[0] if faults else None)
    async with open_store(built, tmp_path, wrap_remote=down) as store:
        with suppress(RemoteUnavailable):
            await store.fetcher.fetch_chunk(place)
        await store.until_quiet()
        other = FlightLocks(store.cache.lock_path)
        assert other.try_lock(place.pack, 0, 64 << 20)
        other.close()


def test_two_processes_that_read_the_same_fetch_it_about_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH_ALL, str(tmp_path), seed],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        fetched = [int(process.communicate(timeout=30)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    # Nothing that is missed; now and then a run brings along what the other had a moment ago.
    assert sum(fetched) <= 1.25 * 60 * SIZE
