"""A fetcher that serves other processes: here both ends in one loop, over a real socket."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from store.chunk_source import ChunkSource
from store.errors import MalformedObject, ObjectMissing, RemoteDenied, StoreError
from store.fetch_client import FetchClient, ServedCatalog
from store.fetch_service import FetchService
from store.local_store import LocalSources
from store.messages import Kind, Message, MessageBuffer, pack_error, parse_error
from store.opening import RemoteParts
from store.pack_cache import PackCache
from tests.fakes.faulty_remote import Raises, faulty
from tests.fakes.gate import Gate, gated
from tests.fakes.memory_remote import Call
from tests.fakes.small_store import (
    COMMIT,
    REPOSITORY,
    SmallStore,
    build_remote,
    content,
    gather,
    open_store,
    random_files,
)

SIZE = 1000


@dataclass
class Served:
    """A store, and what another process would have to read from it."""

    store: SmallStore
    client: FetchClient
    cache: PackCache
    service: trio.CancelScope

    @property
    def source(self) -> ChunkSource:
        catalog = ServedCatalog(
            self.store.remote, "memory", REPOSITORY, self.store.index, self.client
        )
        local = LocalSources(None, self.store.index, self.cache)
        return ChunkSource(local, catalog, self.client, COMMIT)


@asynccontextmanager
async def serving(store: SmallStore, folder: Path) -> AsyncIterator[Served]:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        service = FetchService(store.cache, RemoteParts(store.catalog, store.fetcher))
        cache = PackCache(folder / "cache" / "packs", store.index, None)
        client = FetchClient(partial(trio.open_unix_socket, path), cache)
        scope = trio.CancelScope()

        async def serve() -> None:
            with scope:
                await service.serve(listening)
            await service.serve(listening)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await nursery.start(client.run)
            yield Served(store, client, cache, scope)
            nursery.cancel_scope.cancel()


async def test_many_who_miss_one_chunk_cause_one_get_and_the_next_finds_it(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    place = built.packs[0].place(4)
    async with open_store(built, tmp_path) as store, serving(store, tmp_path) as served:
        assert not served.cache.covers(place.pack, place.entry.offset, place.entry.end)
        fetched = await gather([partial(served.client.fetch_chunk, place)] * 20)
        assert {found for found in fetched if found is not None} == {content(built, 4)}
        assert len(store.gets) == 1
        # Where it lies is known at once, long before the tables say so.
        assert served.cache.covers(place.pack, place.entry.offset, place.entry.end)
        assert await served.client.fetch_chunk(place) is None
        assert await served.source.read_chunk(place.entry.chunk) == content(built, 4)
        assert len(store.gets) == 1


async def test_what_is_cached_but_no_good_is_fetched_anew(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    place = built.packs[0].place(4)
    async with open_store(built, tmp_path) as store, serving(store, tmp_path) as served:
        await served.client.fetch_chunk(place)
        store.cache.path_of(place.pack).write_bytes(bytes(20_000))
        assert await served.source.read_chunk(place.entry.chunk) == content(built, 4)
        assert len(store.gets) == 2


async def test_an_error_comes_over_with_its_kind_and_its_words(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    denied = [Raises(RemoteDenied("the bucket says no"))]

    def plan(call: Call, _: int) -> Raises | None:
        return denied.pop() if denied and call.verb == "fetch_range" else None

    async with (
        open_store(built, tmp_path, wrap_remote=faulty(plan)) as store,
        serving(store, tmp_path) as served,
    ):
        with pytest.raises(RemoteDenied, match="the bucket says no"):
            await served.client.fetch_chunk(built.packs[0].place(0))
        assert await served.client.fetch_chunk(built.packs[0].place(0)) == content(built, 0)


async def test_calls_without_an_answer_are_made_again_to_who_comes_next(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    async with (
        open_store(built, tmp_path, wrap_remote=Gate) as store,
        serving(store, tmp_path) as served,
    ):
        got: list[bytes | None] = []

        async def fetch(number: int) -> None:
            got.append(await served.client.fetch_chunk(built.packs[0].place(number)))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(fetch, number)
            await wait_all_tasks_blocked()
            served.service.cancel()
            gated(store).opened.set()
        assert {found for found in got if found} <= {content(built, n) for n in range(3)}
        for number in range(3):
            chunk = built.chunk(number)
            assert await served.source.read_chunk(chunk) == content(built, number)


async def test_what_is_fetched_ahead_for_another_process_is_there_for_it(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    async with open_store(built, tmp_path) as store, serving(store, tmp_path) as served:
        served.client.prefetch([built.packs[0].place(number) for number in range(10)])
        with trio.fail_after(10):
            while not store.gets:
                await trio.sleep(0.01)
            await store.until_quiet()
        gets = len(store.gets)
        for number in range(10):
            assert await served.source.read_chunk(built.chunk(number)) == content(built, number)
        assert len(store.gets) == gets


async def test_what_came_into_the_cache_is_known_to_others_before_they_ask(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    place = built.packs[0].place(7)
    async with open_store(built, tmp_path) as store, serving(store, tmp_path) as served:
        await served.client.fetch_chunk(built.packs[0].place(0))
        await store.fetcher.fetch_chunk(place)
        with trio.fail_after(10):
            while not served.cache.covers(place.pack, place.entry.offset, place.entry.end):
                await trio.sleep(0.01)


async def test_what_the_remote_holds_is_learnt_for_another_process(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    async with (
        open_store(built, tmp_path, know_index=False) as store,
        serving(store, tmp_path) as served,
    ):
        assert await served.source.read_chunk(built.chunk(3)) == content(built, 3)
        assert store.catalog.get_store() is not None


async def test_garbage_from_one_client_harms_no_other(tmp_path: Path) -> None:
    built = build_remote(random_files(10, SIZE))
    async with open_store(built, tmp_path) as store, serving(store, tmp_path) as served:
        for garbage in (b"\xff" * 64, Message(99, 1, b"").to_bytes(), b"GET / HTTP/1.1\r\n\r\n"):
            async with await trio.open_unix_socket(tmp_path / "socket") as stream:
                await stream.send_all(garbage)
        assert await served.client.fetch_chunk(built.packs[0].place(1)) == content(built, 1)


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=99))),
    st.integers(1, 40),
)
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    sent: list[tuple[int, int, bytes]], step: int
) -> None:
    messages = [Message(*parts) for parts in sent]
    raw = b"".join(message.to_bytes() for message in messages)
    received = MessageBuffer()
    found = []
    for start in range(0, len(raw), step):
        found += received.feed(raw[start : start + step])
    assert found == messages


def test_a_message_that_nobody_sends_is_refused() -> None:
    with pytest.raises(MalformedObject):
        list(MessageBuffer().feed(b"\xff" * 16))


def test_an_error_that_nobody_knows_is_a_store_error() -> None:
    assert type(parse_error(b"Exception boom")) is StoreError
    assert type(parse_error(b"log boom")) is StoreError
    found = parse_error(pack_error(ObjectMissing("packs/a is gone")))
    assert (type(found), str(found)) == (ObjectMissing, "packs/a is gone")
    assert Kind.FAILED.name == "FAILED"
