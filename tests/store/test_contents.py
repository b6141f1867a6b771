"""Files as readers see them, against their plain bytes."""

import os
import random
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from store import contents
from store.chunk_list import encode_chunk_list
from store.contents import ContentReader, ReadStreams
from store.errors import ChunkUnreadable
from store.ids import ChunkId, chunk_id
from store.packs import PackKind
from store.pointer import Pointer
from tests.fakes.small_store import (
    STORE,
    BuiltRemote,
    SmallStore,
    build_pack,
    build_remote,
    gather,
    open_store,
    publish,
)
from tests.store.damage import unhurried

MIB = 1 << 20
many = settings(unhurried, max_examples=400)


def made_contents() -> dict[str, bytes]:
    chosen = random.Random(5)
    return {
        "whole-tiny": b"x",
        "whole-small": chosen.randbytes(60),
        "whole-zeros": bytes(5000),
        "large": chosen.randbytes(30_000),
        "text": b"the same words again and again, " * 700 + chosen.randbytes(2000),
    }


@pytest.fixture(scope="module", params=[False, True], ids=["raw", "compressed"])
def built(request: pytest.FixtureRequest) -> BuiltRemote:
    return build_remote(made_contents(), chunks_per_pack=20, compress=request.param)


READS = st.lists(
    st.tuples(
        st.sampled_from(sorted(made_contents())), st.integers(0, 31_000), st.integers(0, 9_000)
    ),
    min_size=1,
    max_size=15,
)


@settings(unhurried, max_examples=40)
@given(reads=READS)
async def test_every_read_gives_the_bytes_of_the_plain_file(
    built: BuiltRemote, tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[str, int, int]]
) -> None:
    async with open_store(built, tmp_path_factory.mktemp("reads")) as store:
        calls = [
            partial(store.reader.read, built.pointers[name], offset, size)
            for name, offset, size in reads
        ]
        expected = [built.contents[name][offset : offset + size] for name, offset, size in reads]
        assert await gather(calls) == expected
        assert [await call() for call in calls] == expected


async def test_a_whole_file_read_in_order_is_fetched_in_few_gets_and_once(
    built: BuiltRemote, tmp_path: Path
) -> None:
    plain = built.contents["large"]
    pointer = built.pointers["large"]
    assert pointer.chunks > 50
    async with open_store(built, tmp_path) as store:
        parts = [await store.reader.read(pointer, start, 500) for start in range(0, 30_000, 500)]
        assert b"".join(parts) == plain
        await store.until_quiet()
        stored = sum(entry.stored_length for pack in built.packs for entry in pack.table)
        assert store.fetcher.fetched_bytes <= stored
        assert len(store.gets) < pointer.chunks / 3


def lists_of(store: SmallStore, chunks: list[tuple[ChunkId, int]]) -> Pointer:
    """A pointer to a chunk list of these, which is published and known."""
    raw = encode_chunk_list(chunks)
    pack = build_pack([raw], PackKind.LISTS)
    publish(store.built.remote, [pack])
    store.index.keep_index(STORE, os.urandom(32).hex(), [pack.indexed])
    return Pointer(chunk_id(raw), sum(length for _, length in chunks), len(chunks))


async def refusal(reader: ContentReader, pointer: Pointer) -> str:
    """Every read of the file fails; what the last one said."""
    said = ""
    for offset in (0, 1, pointer.size // 2, pointer.size - 1):
        with pytest.raises(ChunkUnreadable) as raised:
            await reader.read(pointer, offset, 10)
        said = str(raised.value)
    return said


@pytest.mark.parametrize("wrong", [-1, 1, 100])
@pytest.mark.parametrize("name", ["whole-small", "whole-zeros"])
async def test_a_pointer_with_a_wrong_size_is_an_error_and_never_other_bytes(
    built: BuiltRemote, tmp_path: Path, name: str, wrong: int
) -> None:
    true = built.pointers[name]
    lie = Pointer(true.content, true.size + wrong)
    async with open_store(built, tmp_path) as store:
        assert str(lie.size) in await refusal(store.reader, lie)
        assert await store.read(name) == built.contents[name]


@pytest.mark.parametrize("change", [(1, 0), (-1, 0), (0, 1), (0, -1)])
async def test_a_chunk_list_that_disagrees_with_its_pointer_is_an_error(
    built: BuiltRemote, tmp_path: Path, change: tuple[int, int]
) -> None:
    true = built.pointers["large"]
    lie = Pointer(true.content, true.size + change[0], true.chunks + change[1])
    async with open_store(built, tmp_path) as store:
        assert true.content.hex() in await refusal(store.reader, lie)


async def test_a_list_that_fits_one_pointer_serves_no_other_that_names_it(
    built: BuiltRemote, tmp_path: Path
) -> None:
    right = built.pointers["large"]
    liars = [
        Pointer(right.content, right.size + more, right.chunks + chunks)
        for more, chunks in ((-5000, 0), (1, 0), (0, 1))
    ]
    async with open_store(built, tmp_path) as store:
        assert await store.reader.read(right, 0, right.size) == built.contents["large"]
        for liar in liars:
            assert store.reader.read_now(liar, 0, 100) is None
            with pytest.raises(ChunkUnreadable, match="does not fit its pointer"):
                await store.reader.read(liar, 0, 100)
        assert store.reader.read_now(right, 0, 100) == built.contents["large"][:100]


async def test_a_chunk_list_with_wrong_lengths_is_an_error_where_they_sum_up(
    built: BuiltRemote, tmp_path: Path
) -> None:
    async with open_store(built, tmp_path) as store:
        one, two = (built.packs[0].table.entry(number) for number in (0, 1))
        good = lists_of(store, [(one.chunk, one.raw_length), (two.chunk, two.raw_length)])
        assert len(await store.reader.read(good, 0, good.size)) == good.size
        lie = lists_of(store, [(one.chunk, one.raw_length + 1), (two.chunk, two.raw_length - 1)])
        assert lie.size == good.size
        assert "bytes where" in await refusal(store.reader, lie)


async def test_a_file_where_a_chunk_list_should_be_is_an_error(
    built: BuiltRemote, tmp_path: Path
) -> None:
    plain = built.pointers["whole-zeros"]
    async with open_store(built, tmp_path) as store:
        said = await refusal(store.reader, Pointer(plain.content, plain.size, 2))
        assert "chunk list" in said


async def test_a_list_as_a_file_of_one_chunk_is_just_its_own_bytes(
    built: BuiltRemote, tmp_path: Path
) -> None:
    pointer = built.pointers["large"]
    size = 16 + 36 * pointer.chunks
    async with open_store(built, tmp_path) as store:
        raw = await store.reader.read(Pointer(pointer.content, size), 0, size)
        assert chunk_id(raw) == pointer.content


async def test_reads_outside_the_file_are_empty(built: BuiltRemote, tmp_path: Path) -> None:
    async with open_store(built, tmp_path) as store:
        for pointer in built.pointers.values():
            assert await store.reader.read(pointer, pointer.size, 10) == b""
            assert await store.reader.read(pointer, pointer.size + 7, 10) == b""
            assert await store.reader.read(pointer, 0, 0) == b""
        assert store.gets == []


async def test_the_streams_that_are_remembered_are_bounded(
    built: BuiltRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_CONTENTS", 1)
    async with open_store(built, tmp_path) as store:
        for name in ("large", "text", "large"):
            await store.reader.read(built.pointers[name], 0, 100)
            assert len(store.reader._streams) == 1


class Reader:
    """A reader of a made file; what is fetched ahead of it is checked at every step."""

    def __init__(self, file_size: int) -> None:
        self.file_size = file_size
        self.streams = ReadStreams()
        self.windows: list[int] = []
        self.planned: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> None:
        start, end = self.streams.plan_ahead(offset, size, self.file_size)
        assert 0 <= start <= end <= self.file_size
        self.windows.append(self.streams.last.window_bytes)
        if start < end:
            assert start >= min(offset + size, self.file_size), "what is being read is prefetched"
            self.planned.append((start, end))


@many
@given(st.integers(1, 400 * MIB), st.integers(1 << 16, MIB // 2), st.data())
def test_a_reader_in_order_has_everything_fetched_ahead_once_with_a_growing_window(
    file_size: int, step: int, data: st.DataObject
) -> None:
    reader = Reader(file_size)
    offset = data.draw(st.integers(0, file_size - 1))
    while offset < file_size:
        reader.read(offset, step)
        offset += step
    # Window after window, without a gap, nothing twice, up to the end.
    borders = [border for pair in reader.planned for border in pair]
    assert borders == sorted(borders)
    assert borders[1:-1:2] == borders[2::2]
    assert not borders or borders[-1] == file_size
    assert reader.windows == sorted(reader.windows)
    assert max(reader.windows) <= 64 * MIB
    if file_size > 300 * MIB and reader.planned and reader.planned[0][0] < 50 * MIB:
        assert max(reader.windows) == 64 * MIB


def test_a_long_read_from_the_beginning_is_one_in_order_and_a_short_one_proves_nothing() -> None:
    long, short, middle = (Reader(400 * MIB) for _ in range(3))
    long.read(0, MIB)
    assert long.planned == [(MIB, 5 * MIB)]
    short.read(0, 128 << 10)
    middle.read(100 * MIB, MIB)
    assert not short.planned
    assert not middle.planned


def test_a_wide_window_goes_on_in_short_steps() -> None:
    reader = Reader(400 * MIB)
    for offset in range(0, 300 * MIB, MIB):
        reader.read(offset, MIB)
    lengths = [end - start for start, end in reader.planned if start > 128 * MIB]
    assert lengths
    assert max(lengths) <= 8 * MIB


@many
@given(st.integers(1, 30 * MIB), st.randoms(use_true_random=False))
def test_pieces_out_of_order_within_the_kernel_s_read_ahead_are_still_in_order(
    file_size: int, chosen: random.Random
) -> None:
    reader = Reader(file_size)
    offsets = list(range(0, file_size, 128 << 10))
    for start in range(0, len(offsets), 8):
        batch = offsets[start : start + 8]
        chosen.shuffle(batch)
        for offset in batch:
            start_ahead, end_ahead = reader.streams.plan_ahead(offset, 128 << 10, file_size)
            assert start_ahead <= end_ahead <= file_size
            if start_ahead < end_ahead:
                reader.planned.append((start_ahead, end_ahead))
    borders = [border for pair in reader.planned for border in pair]
    assert borders == sorted(borders), "something is fetched ahead twice"


@many
@given(st.lists(st.integers(0, 99), min_size=1, max_size=40))
def test_jumps_fetch_nothing_ahead(places: list[int]) -> None:
    reader = Reader(1000 * MIB)
    last = None
    for place in places:
        before = len(reader.planned)
        reader.read(place * 10 * MIB, 4096)
        if last is None or place != last:
            assert len(reader.planned) == before
        last = place


@many
@given(st.data(), st.integers(2, 8))
def test_readers_at_several_places_of_one_file_have_a_window_each(
    data: st.DataObject, readers: int
) -> None:
    together = Reader(readers * 40 * MIB)
    alone = [Reader(readers * 40 * MIB) for _ in range(readers)]
    offsets = [number * 40 * MIB for number in range(readers)]
    planned: list[list[tuple[int, int]]] = [[] for _ in range(readers)]
    for number in data.draw(st.lists(st.integers(0, readers - 1), max_size=100)):
        before = len(together.planned)
        together.read(offsets[number], 128 << 10)
        alone[number].read(offsets[number], 128 << 10)
        planned[number] += together.planned[before:]
        offsets[number] += 128 << 10
    assert planned == [reader.planned for reader in alone]


def test_no_more_streams_are_told_apart_than_a_few() -> None:
    reader = Reader(1000 * MIB)
    for number in range(50):
        reader.read(number * 20 * MIB, 4096)
    assert len(reader.streams) == 8


async def test_fifty_readers_of_one_large_file_get_their_bytes(
    built: BuiltRemote, tmp_path: Path
) -> None:
    async with open_store(built, tmp_path) as store:
        with trio.fail_after(20):
            calls = [partial(store.read, "large")] * 50
            assert set(await gather(calls)) == {built.contents["large"]}
        await store.until_quiet()
        stored = sum(entry.stored_length for pack in built.packs for entry in pack.table)
        assert store.fetcher.fetched_bytes <= stored
