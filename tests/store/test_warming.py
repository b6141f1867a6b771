"""Warming over a MemoryRemote whose every GET is counted: all of a list, and ahead of a reader."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store import warm_lane
from store.errors import RemoteUnavailable
from store.fetch_schedule import AHEAD_AT_ONCE
from store.order_window import OrderWindow
from store.pack_tables import PackTables
from store.remote import pack_key
from store.warm_lane import WarmState
from store.warm_plan import WarmPlanner
from store.warming import Moved, Order, PlacedFiles, Warmer, WarmFile
from tests.fakes.faulty_remote import Raises, faulty
from tests.fakes.gate import Gate, gated
from tests.fakes.memory_remote import Call
from tests.fakes.small_store import (
    COMMIT,
    BuiltRemote,
    SmallStore,
    build_remote,
    open_store,
    random_files,
)

SIZE = 1000
NO_LIMIT = 1 << 40


def warmer_of(store: SmallStore) -> Warmer:
    tables = PackTables(store.index, store.catalog)
    planner = WarmPlanner(store.source, store.cache, tables)
    learn = partial(store.catalog.fetch_commit_indexes, COMMIT)
    return Warmer(planner, store.reader, store.fetcher, tables, learn)


def files_of(built: BuiltRemote) -> list[WarmFile]:
    return [WarmFile(name.encode(), pointer) for name, pointer in built.pointers.items()]


async def warm(store: SmallStore, files: list[WarmFile], most_bytes: int = NO_LIMIT) -> WarmState:
    state = WarmState()
    await warmer_of(store).warm(lambda: iter(files), most_bytes, state)
    return state


def order_of(files: list[WarmFile], most_bytes: int) -> Order:
    def load(first: int, count: int) -> PlacedFiles:
        return list(enumerate(files))[first : first + count]

    return Order(len(files), load, OrderWindow(most_bytes), Moved())


async def test_what_was_warmed_is_read_without_a_get(tmp_path: Path) -> None:
    contents = random_files(40, SIZE) | {"large": os.urandom(100 * SIZE), "twin": b"same" * 9}
    built = build_remote(contents, chunks_per_pack=30)
    async with open_store(built, tmp_path) as store:
        state = await warm(store, files_of(built))
        total_bytes = sum(map(len, contents.values()))
        assert (state.done_bytes, state.wanted_bytes) == (total_bytes, total_bytes)
        assert (state.files, state.error, state.failed) == (42, "", set())
        assert state.fetched_bytes == store.fetcher.fetched_bytes
        # One for each pack of data, and one for the chunk lists.
        assert len(store.gets) == len(built.packs)
        for name, content in contents.items():
            assert await store.read(name) == content
        assert len(store.gets) == len(built.packs)


async def test_what_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    async with open_store(built, tmp_path) as store:
        await warm(store, files_of(built)[2:4])
        state = await warm(store, files_of(built))
        assert state.done_bytes == 10 * SIZE
        assert state.fetched_bytes == 8 * SIZE
        assert len(store.gets) == 3


async def test_neighbours_come_with_one_get_also_where_a_little_lies_between(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(9, SIZE))
    async with open_store(built, tmp_path) as store:
        await warm(store, files_of(built)[::2])
        assert len(store.gets) == 1


async def test_a_file_that_cannot_be_had_is_named_and_the_others_come(tmp_path: Path) -> None:
    built = build_remote(random_files(20, SIZE), chunks_per_pack=10)
    del built.remote.objects[pack_key(built.packs[0].name)]
    async with open_store(built, tmp_path) as store:
        state = await warm(store, files_of(built))
        assert state.done_bytes == 10 * SIZE
        assert state.failed == {file.path for file in files_of(built)[:10]}
        assert state.error.startswith("whole-00000: ")
        assert await store.read("whole-00010") == built.contents["whole-00010"]


async def test_a_file_that_nobody_knows_is_named(tmp_path: Path) -> None:
    built, other = build_remote(random_files(2, SIZE)), build_remote({"whole-x": b"x" * 99})
    async with open_store(built, tmp_path) as store:
        state = await warm(store, [*files_of(built), *files_of(other)])
        assert state.failed == {b"whole-x"}
        assert "neither here nor in the remote" in state.error
        assert state.done_bytes == 2 * SIZE


async def test_what_the_remote_holds_is_asked_for_once_while_others_ask_for_it(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(20, SIZE))
    async with open_store(built, tmp_path, know_index=False) as store:
        state = WarmState()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.source.learn_commit)
            warm_all = partial(warmer_of(store).warm, lambda: iter(files_of(built)), NO_LIMIT)
            nursery.start_soon(warm_all, state)
        assert (state.error, state.done_bytes) == ("", 20 * SIZE)


async def test_a_dead_remote_ends_it_with_its_own_words(tmp_path: Path) -> None:
    built = build_remote(random_files(40, SIZE), chunks_per_pack=1)
    dead = RemoteUnavailable("nobody answers")
    wrap = faulty(lambda call, number: Raises(dead))
    async with open_store(built, tmp_path, wrap_remote=wrap) as store:
        state = await warm(store, files_of(built))
        assert state.error == "nobody answers"
        assert state.done_bytes == 0


async def test_more_than_the_cache_may_hold_is_refused_before_it_pushes_itself_out(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(40, SIZE))
    async with open_store(built, tmp_path) as store:
        state = await warm(store, files_of(built), 39 * SIZE)
        assert "the cache may hold 39,000 bytes" in state.error
        assert store.gets == []


@asynccontextmanager
async def followed(store: SmallStore, order: Order) -> AsyncIterator[WarmState]:
    state = WarmState()
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            await warmer_of(store).follow(order, state)
            state.has_ended = True

        nursery.start_soon(follow)
        yield state
        nursery.cancel_scope.cancel()


async def until_it_rests(store: SmallStore, order: Order, state: WarmState) -> None:
    """Return when nothing more is fetched until somebody reads."""
    with trio.fail_after(10):
        while True:
            # What was begun has got as far as it can without an answer.
            await wait_all_tasks_blocked(0.001)
            if (state.has_ended or order.moved.is_awaited) and store.fetcher.is_idle:
                return


def read(order: Order, place: int) -> None:
    if order.window.note_read(place):
        order.moved.tell()


async def test_an_order_is_fetched_no_further_ahead_than_it_may_and_goes_on_with_its_reader(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(100, SIZE), chunks_per_pack=10)
    files = files_of(built)
    random.Random(1).shuffle(files)
    order = order_of(files, 10 * SIZE)
    async with open_store(built, tmp_path) as store, followed(store, order) as state:
        await until_it_rests(store, order, state)
        assert 8 * SIZE <= store.fetcher.fetched_bytes <= 10 * SIZE
        for place in range(100):
            read(order, place)
            await until_it_rests(store, order, state)
            assert store.fetcher.fetched_bytes <= (11 + place) * SIZE
        assert store.fetcher.fetched_bytes == 100 * SIZE
        assert state.has_ended


async def test_a_reader_that_jumps_takes_the_window_along(tmp_path: Path) -> None:
    built = build_remote(random_files(1000, 100), chunks_per_pack=10)
    order = order_of(files_of(built), 1000)
    async with open_store(built, tmp_path) as store, followed(store, order) as state:
        await until_it_rests(store, order, state)
        read(order, 900)
        await until_it_rests(store, order, state)
        assert store.fetcher.fetched_bytes <= 1000
        read(order, 901)
        await until_it_rests(store, order, state)
        assert store.source.is_here(built.pointers["whole-00902"].content)
        assert not store.source.is_here(built.pointers["whole-00890"].content)
        assert store.fetcher.fetched_bytes <= 2000


async def test_of_an_order_what_is_here_costs_nothing(tmp_path: Path) -> None:
    built = build_remote(random_files(100, SIZE))
    order = order_of(files_of(built), 10 * SIZE)
    async with open_store(built, tmp_path) as store:
        await warm(store, files_of(built)[:90])
        async with followed(store, order) as state:
            await until_it_rests(store, order, state)
            assert state.has_ended
            assert state.done_bytes == 100 * SIZE


async def test_a_file_that_is_more_than_may_be_ahead_is_left_to_its_reader(tmp_path: Path) -> None:
    contents = {"whole-a": b"a" * 10, "whole-b": os.urandom(9 * SIZE), "whole-c": b"c" * 10}
    built = build_remote(contents)
    order = order_of(files_of(built), 2 * SIZE)
    async with open_store(built, tmp_path) as store, followed(store, order) as state:
        await until_it_rests(store, order, state)
        assert state.has_ended
        here = [store.source.is_here(pointer.content) for pointer in built.pointers.values()]
        assert here == [True, False, True]


async def test_an_order_rests_while_the_remote_is_in_trouble_and_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_lane, "_PAUSE_SECONDS", 0.01)
    built = build_remote(random_files(20, SIZE), chunks_per_pack=1)
    order = order_of(files_of(built), 4 * SIZE)
    failing = [True]

    def plan(call: Call, number: int) -> Raises | None:
        return Raises(RemoteUnavailable("nobody answers")) if failing[0] else None

    async with (
        open_store(built, tmp_path, wrap_remote=faulty(plan)) as store,
        followed(store, order) as state,
    ):
        await until_it_rests(store, order, state)
        assert "nobody answers" in state.error
        failing[0] = False
        for place in range(20):
            read(order, place)
            await until_it_rests(store, order, state)
        assert state.has_ended
        assert state.failed <= {f"whole-{number:05}".encode() for number in range(4)}
        assert state.done_bytes == (20 - len(state.failed)) * SIZE


async def test_readers_come_before_what_is_warmed(tmp_path: Path) -> None:
    built = build_remote(random_files(60, SIZE), chunks_per_pack=1)
    async with (
        open_store(built, tmp_path, wrap_remote=Gate) as store,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(warm, store, files_of(built))
        while gated(store).asked < AHEAD_AT_ONCE:
            await trio.sleep(0.001)
        nursery.start_soon(store.read, "whole-00059")
        await wait_all_tasks_blocked()
        # At once, though not one of those before was answered.
        assert gated(store).asked == AHEAD_AT_ONCE + 1
        gated(store).opened.set()
