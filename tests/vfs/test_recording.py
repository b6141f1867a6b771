"""What is told of reads, and how it is recorded."""

import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from store.directories import Directory, Entry, Kind
from store.errors import StoreError
from store.messages import FileRead
from store.order_files import iterate_paths
from vfs.first_reads import FirstReads, InodeSet
from vfs.inodes import ROOT_DIRECTORY, inode_of
from vfs.recording import Recorder
from vfs.tree import RevisionTree

ROOT, SUB = bytes([1]) * 20, bytes([2]) * 20


class Loader:
    """A root with the folder `sub` in it, and files in both."""

    def get(self, tree: bytes) -> Directory:
        return self.load(tree)

    def load(self, tree: bytes) -> Directory:
        files = [Entry(b"%02d" % n, Kind.PLAIN, 9, 0, bytes(32)) for n in range(20)]
        if tree == ROOT:
            files.append(Entry(b"sub", Kind.FOLDER, 0, 0, SUB.ljust(32, b"\0")))
        return Directory.from_entries(files)


class Told:
    """A tree, notes of its reads, and what was told of them."""

    def __init__(self) -> None:
        self.tree = RevisionTree(Loader(), ROOT, 0)  # type: ignore[arg-type]
        self.notes = FirstReads(self.tree)
        self.notes.watch(True)
        self.tree.get_directory(ROOT_DIRECTORY)
        self.sub = self.tree._get_number(inode_of(ROOT_DIRECTORY, 20))
        self.reads: list[FileRead] = []

    def note(self, directory: int, entry: int, offset: int = 0) -> None:
        inode = inode_of(directory, entry)
        self.notes.note(inode, self.tree.get_entry(inode).name, offset)

    async def tell(self, reads: Sequence[FileRead]) -> None:
        self.reads += reads


@given(st.lists(st.integers(0, 2**40)))
def test_an_inode_is_new_once(inodes: list[int]) -> None:
    found = InodeSet()
    seen: set[int] = set()
    # The number of an entry is one less than what stands in an inode number.
    for inode in (number for number in inodes if number & 0xFFFFFFFF in range(1, 100_000)):
        assert found.add(inode) == (inode not in seen)
        seen.add(inode)


async def test_told_is_the_beginning_of_each_reading_with_its_path() -> None:
    told = Told()
    told.note(told.sub, 3, 0)
    told.note(told.sub, 3, 4096)
    told.note(ROOT_DIRECTORY, 5, 8192)
    told.note(told.sub, 3, 8192)
    told.note(ROOT_DIRECTORY, 5, 0)
    await told.notes.tell_waiting(told.tell)
    assert [(read.path, read.is_first) for read in told.reads] == [
        (b"sub/03", True),
        (b"05", True),
        (b"05", False),
    ]
    assert told.reads == sorted(told.reads)


async def test_nobody_hears_of_what_was_read_while_nobody_wanted_to() -> None:
    told = Told()
    told.note(told.sub, 3)
    told.notes.watch(False)
    await told.notes.tell_waiting(told.tell)
    assert told.reads == []
    assert not told.notes.are_wanted


async def test_one_who_does_not_listen_ends_nothing() -> None:
    told = Told()

    async def refuse(reads: Sequence[FileRead]) -> None:
        raise StoreError("no")

    told.note(told.sub, 3)
    await told.notes.tell_waiting(refuse)
    told.note(told.sub, 4)
    await told.notes.tell_waiting(told.tell)
    assert [read.path for read in told.reads] == [b"sub/04"]


@pytest.mark.virtual_clock
async def test_what_comes_at_once_is_told_at_once() -> None:
    told = Told()
    calls: list[int] = []

    async def tell(reads: Sequence[FileRead]) -> None:
        calls.append(len(reads))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.notes.run, tell)
        for entry in range(10):
            told.note(told.sub, entry)
        await trio.sleep(1)
        told.note(told.sub, 11)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert calls == [10, 1]


def reads_of(count: int) -> list[FileRead]:
    return [FileRead(float(n), inode_of(9, n), True, b"folder/%d" % n) for n in range(count)]


def recorded(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(iterate_paths(file))


async def test_a_record_is_in_the_order_of_time_whoever_is_heard_first(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record")
    reads = reads_of(50)
    mixed = random.Random(1).sample(reads, len(reads))
    recorder.note(mixed[:25])
    recorder.note(mixed)
    recorder.note([read._replace(is_first=False, inode=99) for read in mixed])
    await recorder.write(30.0)
    assert recorded(tmp_path / "record") == [read.path for read in reads[:31]]
    await recorder.write(math.inf)
    assert recorded(tmp_path / "record") == [read.path for read in reads]


async def test_the_next_keeper_does_not_record_again_what_the_one_before_did(
    tmp_path: Path,
) -> None:
    reads = reads_of(20)
    for some in (reads[:10], reads):
        recorder = Recorder(tmp_path / "record")
        recorder.note(some)
        await recorder.write(math.inf)
    assert recorded(tmp_path / "record") == [read.path for read in reads]


async def test_a_name_with_a_line_break_has_room_only_where_a_nul_ends_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reads = [
        FileRead(1.0, inode_of(1, 1), True, b"line\nbreak"),
        FileRead(2.0, inode_of(1, 2), True, b"not utf-8 \xff"),
        FileRead(3.0, inode_of(1, 3), True, b"line\nagain"),
    ]
    for name in ("lines", "nuls.z"):
        recorder = Recorder(tmp_path / name)
        recorder.note(reads)
        await recorder.write(math.inf)
    assert recorded(tmp_path / "lines") == [b"not utf-8 \xff"]
    assert recorded(tmp_path / "nuls.z") == [read.path for read in reads]
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "has room for it" in said.getMessage()


async def test_a_record_that_cannot_be_written_is_said_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path / "gone" / "record")
    for read in reads_of(3):
        recorder.note([read])
        await recorder.write(math.inf)
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == [
        "ERROR"
    ]
