"""When a chunk is not where it was said to be: what is asked of the remote, and how often."""

from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store.chunk_source import ChunkSource
from store.errors import RemoteUnavailable, StoreError
from store.ids import ChunkId
from store.remote import Remote, pack_key
from store.retry import RetryingRemote
from tests.fakes.faulty_remote import Fault, FaultyRemote, Hangs, Raises, faulty
from tests.fakes.memory_remote import Call
from tests.fakes.small_store import (
    SmallStore,
    build_remote,
    content,
    gather,
    open_store,
    publish,
    random_files,
    without_memory,
)

SIZE = 1000


def verbs(store: SmallStore) -> list[str]:
    return [call.verb for call in store.built.remote.calls]


async def read_errors(source: ChunkSource, chunks: list[ChunkId]) -> list[str]:
    """What is wrong with each, all read at once."""

    async def read(chunk: ChunkId) -> bytes:
        try:
            await source.read_chunk(chunk)
        except StoreError as error:
            return f"{type(error).__name__} {error}".encode()
        return b""

    return [text.decode() for text in await gather([partial(read, chunk) for chunk in chunks])]


async def test_a_missing_pack_has_the_index_loaded_once_for_all_and_is_named(
    tmp_path: Path,
) -> None:
    built = build_remote(random_files(50, SIZE))
    pack = built.packs[0]
    del built.remote.objects[pack_key(pack.name)]
    async with open_store(built, tmp_path) as store:
        errors = await read_errors(store.source, [built.chunk(number) for number in range(50)])
        errors += await read_errors(store.source, [built.chunk(number) for number in range(50)])
        for number, error in enumerate(errors):
            assert error.startswith("ChunkUnreadable ")
            assert built.chunk(number % 50).hex() in error
            assert pack.name in error
        # format, manifest and index object; the list of manifests.
        assert (verbs(store).count("fetch"), verbs(store).count("list")) == (3, 1)


@pytest.mark.virtual_clock
async def test_a_missing_pack_is_looked_for_again_after_a_while(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    key = pack_key(built.packs[0].name)
    lost = built.remote.objects.pop(key)
    async with open_store(built, tmp_path) as store:
        assert "ChunkUnreadable" in (await read_errors(store.source, [built.chunk(0)]))[0]
        built.remote.objects[key] = lost
        assert await store.source.read_chunk(built.chunk(0)) == content(built, 0)


async def test_a_chunk_that_came_with_another_pack_is_found_when_its_own_is_gone(
    tmp_path: Path,
) -> None:
    files = random_files(3, SIZE)
    built = build_remote(files)
    async with open_store(built, tmp_path) as store:
        built.remote.objects.clear()
        publish(built.remote, build_remote(files).packs)
        for number in range(3):
            assert await store.source.read_chunk(built.chunk(number)) == content(built, number)
        assert verbs(store).count("list") == 1


async def test_fifty_first_readers_ask_for_the_index_once(tmp_path: Path) -> None:
    built = build_remote(random_files(50, SIZE))
    async with open_store(built, tmp_path, know_index=False) as store:
        chunks = [built.chunk(number) for number in range(50)]
        found = await gather([partial(store.source.read_chunk, chunk) for chunk in chunks])
        assert found == list(built.contents.values())
        assert (verbs(store).count("fetch"), verbs(store).count("list")) == (3, 1)


async def test_unknown_chunks_are_named_and_do_not_storm_the_remote(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    unknown = [ChunkId(bytes([number]) * 32) for number in range(40)]
    async with open_store(built, tmp_path) as store:
        errors = await read_errors(store.source, unknown)
        for chunk, error in zip(unknown, errors, strict=True):
            assert error.startswith("ChunkMissing")
            assert chunk.hex() in error
        # Once for what is new, and once, for all of them, anew, since tables may lose rows.
        assert verbs(store).count("list") == 2
        assert len(await read_errors(store.source, unknown)) == 40
        assert verbs(store).count("list") == 2


async def test_a_chunk_whose_row_was_lost_is_found_again(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    async with open_store(built, tmp_path) as store:
        rows = store.index._tables.scan("chunks")
        store.index._tables.delete_many("chunks", [key for key, _ in rows])
        assert await store.read("whole-00001") == content(built, 1)


async def test_chunks_whose_rows_name_other_packs_are_found_again(tmp_path: Path) -> None:
    built = build_remote(random_files(3, SIZE))
    async with open_store(built, tmp_path) as store:
        rows = store.index._tables.scan("chunks")
        wrong = [(key, bytes([number]) * 16 + row[16:]) for number, (key, row) in enumerate(rows)]
        # What was learnt a moment ago is not asked for again so soon.
        await store.source._refresh()
        store.index._tables.put_many("chunks", wrong)
        for number, name in enumerate(built.contents):
            assert await store.read(name) == content(built, number)


async def test_a_first_reader_who_gives_up_leaves_the_index_to_the_others(tmp_path: Path) -> None:
    built = build_remote(random_files(2, SIZE))
    asked = 0

    def plan(_: Call, number: int) -> Fault | None:
        nonlocal asked
        asked += 1
        # The format, and the list of manifests beside it.
        return Hangs() if number < 2 else None

    async with open_store(built, tmp_path, wrap_remote=faulty(plan), know_index=False) as store:
        found: list[bytes] = []

        async def read() -> None:
            found.append(await store.source.read_chunk(built.chunk(1)))

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(read)
                    await wait_all_tasks_blocked()
                    nursery.start_soon(read)
                    nursery.start_soon(read)
                    await wait_all_tasks_blocked()
                    assert asked == 2
                    scope.cancel()
        assert found == [content(built, 1)] * 2


@pytest.mark.virtual_clock
async def test_a_remote_that_is_down_fails_all_in_one_deadline_and_heals(tmp_path: Path) -> None:
    built = build_remote(random_files(40, SIZE))
    down = True

    def plan(_: Call, __: int) -> Fault | None:
        return Raises(RemoteUnavailable("no route")) if down else None

    def wrap(remote: Remote) -> Remote:
        return RetryingRemote(FaultyRemote(remote, plan), random=lambda: 0.5)

    async with open_store(built, tmp_path, wrap_remote=wrap, know_index=False) as store:
        began = trio.current_time()
        errors = await read_errors(store.source, [built.chunk(number) for number in range(40)])
        assert all("no route" in error for error in errors)
        assert trio.current_time() - began <= 30
        down = False
        assert await store.source.read_chunk(built.chunk(7)) == content(built, 7)
        down = True
        # What is cached goes on.
        assert await without_memory(store).read_chunk(built.chunk(7)) == content(built, 7)
        began = trio.current_time()
        (error,) = await read_errors(store.source, [built.chunk(30)])
        assert "no route" in error
        assert built.chunk(30).hex() in error
        assert trio.current_time() - began <= 30
