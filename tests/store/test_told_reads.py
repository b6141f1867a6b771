"""Reads that are told by those who serve, over a real socket, and the messages for that."""

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from store.errors import MalformedObject
from store.fetch_client import FetchClient
from store.fetch_service import Answer, FetchService
from store.messages import (
    FileRead,
    Kind,
    pack_numbered,
    pack_paths,
    pack_reads,
    pack_told,
    parse_numbered,
    parse_paths,
    parse_reads,
    parse_told,
)
from tests.fakes.small_store import build_remote, open_store, random_files

PATH = st.binary(max_size=300).filter(lambda path: 0 not in path)
READ = st.builds(
    FileRead, st.floats(allow_nan=False), st.integers(0, 2**64 - 1), st.booleans(), PATH
)


@given(st.lists(READ))
def test_reads_come_over_as_they_are(reads: list[FileRead]) -> None:
    assert parse_reads(pack_reads(reads)) == reads


@given(st.lists(PATH), st.integers(0, 2**64 - 1))
def test_paths_and_numbers_come_over_as_they_are(paths: list[bytes], number: int) -> None:
    assert parse_numbered(pack_numbered(number, pack_paths(paths))) == (number, pack_paths(paths))
    assert parse_paths(pack_paths(paths)) == paths


def test_facts_come_over_also_with_names_that_are_not_utf_8() -> None:
    facts = {"first": "not utf-8 \udcff"}
    assert parse_told(pack_told(facts)) == facts


@pytest.mark.parametrize("parse", [parse_reads, parse_paths, parse_numbered, parse_told])
@given(st.binary(max_size=60))
def test_garbage_is_refused_or_means_something(
    parse: Callable[[bytes], object], raw: bytes
) -> None:
    with contextlib.suppress(MalformedObject):
        parse(raw)


def test_what_is_cut_short_is_refused() -> None:
    whole = pack_reads([FileRead(1.0, 2, True, b"path")])
    for length in range(1, len(whole)):
        with pytest.raises(MalformedObject):
            parse_reads(whole[:length])


async def test_those_who_serve_hear_when_reads_are_wanted_also_from_who_comes_next(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(1, 10))
    heard: list[FileRead] = []
    watched: list[bool] = []

    async def note(body: bytes) -> Answer:
        heard.extend(parse_reads(body))
        return Kind.DONE, b""

    async def until(expected: list[bool]) -> None:
        with trio.fail_after(10):
            while watched != expected:
                await trio.sleep(0.001)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        async with open_store(built, tmp_path) as store, trio.open_nursery() as nursery:
            service = FetchService(store.cache, None, {Kind.READS: note})
            connect = partial(trio.open_unix_socket, tmp_path / "socket")
            client = FetchClient(connect, store.cache, watched.append)
            first = trio.CancelScope()

            async def serve_first() -> None:
                with first:
                    await service.serve(listening)

            nursery.start_soon(serve_first)
            await nursery.start(client.run)
            await until([False])
            service.watch_reads(True)
            await until([False, True])
            await client.tell_reads([FileRead(1.5, 7, True, b"a\xff")])
            assert heard == [FileRead(1.5, 7, True, b"a\xff")]
            first.cancel()
            nursery.start_soon(FetchService(store.cache, None).serve, listening)
            await until([False, True, False])
            nursery.cancel_scope.cancel()
