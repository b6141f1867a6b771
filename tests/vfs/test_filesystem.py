"""The file system, without a kernel: deadlines, the end, and what it refuses."""

import pytest
import trio
import trio.testing

from store.directories import Directory, Entry, Kind
from store.errors import ChunkUnreadable, GitError, StoreError
from store.pointer import Pointer
from vfs.attributes import attributes_of
from vfs.errors import (
    FailedJustNow,
    IsADirectory,
    NoSuchName,
    NotADirectory,
    NotASymlink,
)
from vfs.filesystem import RevisionFilesystem
from vfs.inodes import ROOT_INODE
from vfs.tree import Absent, RevisionTree

ROOT_TREE, SUB_TREE = bytes([1]) * 20, bytes([2]) * 20
CONTENT = bytes(range(200))
TIMEOUT_SECONDS = 3.0
TIME_SECONDS = 1_700_000_000


def entry(name: bytes, kind: Kind, size: int, raw: bytes) -> Entry:
    return Entry(name, kind, size, 1 if kind == Kind.TRACKED else 0, raw.ljust(32, b"\0"))


DIRECTORIES = {
    ROOT_TREE: Directory.from_entries(
        [
            entry(b"sub", Kind.FOLDER, 0, SUB_TREE),
            entry(b"file", Kind.TRACKED, len(CONTENT), b"f"),
            entry(b"link", Kind.SYMLINK, 4, b"l"),
            entry(b"run", Kind.PLAIN_EXECUTABLE, len(CONTENT), b"p"),
        ]
    ),
    SUB_TREE: Directory.from_entries([entry(b"inner", Kind.PLAIN, 5, b"i")]),
}


class Loader:
    """Directories; `broken` ones cannot be read, `absent` ones are never in memory."""

    def __init__(self) -> None:
        self.broken: set[bytes] = set()
        self.absent: set[bytes] = set()

    def get(self, tree: bytes) -> Directory | None:
        return None if tree in self.absent else self.load(tree)

    def load(self, tree: bytes) -> Directory:
        if tree in self.broken:
            raise GitError("git has no object 42")
        return DIRECTORIES[tree]


class Contents:
    """Contents that come when `released`, or fail with `error`; `reads` were asked for."""

    def __init__(self) -> None:
        self.released = trio.Event()
        self.error: Exception | None = None
        self.reads = 0

    async def read(self, of: Pointer | Entry, offset: int, size: int) -> bytes:
        self.reads += 1
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return CONTENT[offset : offset + size]

    async def read_link(self, of: Entry) -> bytes:
        return b"file"


class Parts:
    """A file system and what it is made of."""

    def __init__(self, time_seconds: int = TIME_SECONDS) -> None:
        self.loader = Loader()
        self.contents = Contents()
        self.filesystem = RevisionFilesystem(
            RevisionTree(self.loader, ROOT_TREE, time_seconds),  # type: ignore[arg-type]
            self.contents,  # type: ignore[arg-type]
            self.contents,  # type: ignore[arg-type]
            TIMEOUT_SECONDS,
        )

    async def inode(self, name: bytes) -> int:
        return (await self.filesystem.lookup(ROOT_INODE, name)).inode


@pytest.fixture
def parts() -> Parts:
    return Parts()


async def names_from(parts: Parts, inode: int, position: int) -> list[tuple[bytes, int]]:
    listing = await parts.filesystem.list_directory(inode)
    dots = [(name, behind) for name, _, behind in listing.dots[position:]]
    return dots + [(name, behind) for name, _, behind in listing.items(position, 1000)]


async def test_a_listing_goes_on_from_any_position(parts: Parts) -> None:
    whole = await names_from(parts, ROOT_INODE, 0)
    assert [name for name, _ in whole] == [b".", b"..", b"file", b"link", b"run", b"sub"]
    for number, (_, position) in enumerate(whole):
        assert await names_from(parts, ROOT_INODE, position) == whole[number + 1 :]
    assert await names_from(parts, ROOT_INODE, 10_000) == []


async def test_a_listing_and_a_lookup_agree_on_everything(parts: Parts) -> None:
    for name, attributes, _ in (await parts.filesystem.list_directory(ROOT_INODE)).items(0, 1000):
        assert await parts.filesystem.lookup(ROOT_INODE, name) == attributes
        assert await parts.filesystem.load_attributes(attributes.inode) == attributes
    sub = await parts.inode(b"sub")
    listing = await parts.filesystem.list_directory(sub)
    assert [inode for _, inode, _ in listing.dots] == [sub, ROOT_INODE]
    assert (await parts.filesystem.lookup(sub, b"..")).inode == ROOT_INODE
    assert [name for name, _, _ in listing.items(0, 1000)] == [b"inner"]


async def test_what_is_in_memory_is_answered_as_what_has_to_be_loaded(parts: Parts) -> None:
    filesystem = parts.filesystem
    found = await filesystem.lookup(ROOT_INODE, b"sub")
    assert filesystem.get_lookup(ROOT_INODE, b"sub") == found
    assert filesystem.get_attributes(found.inode) == found
    assert filesystem.get_listing(found.inode) == await filesystem.list_directory(found.inode)


async def test_what_is_not_in_memory_is_only_loaded_by_who_may_wait(parts: Parts) -> None:
    parts.loader.absent.add(SUB_TREE)
    filesystem = parts.filesystem
    sub = filesystem.get_lookup(ROOT_INODE, b"sub").inode
    for _ in range(2):
        # Not kept by the loader, as one that is larger than all that it may keep.
        with pytest.raises(Absent):
            filesystem.get_lookup(sub, b"inner")
        inner = await filesystem.lookup(sub, b"inner")
        assert await filesystem.load_attributes(inner.inode) == inner
        filesystem._tree._just_loaded.clear()


async def test_what_is_asked_of_the_wrong_kind_of_node_is_refused(parts: Parts) -> None:
    filesystem = parts.filesystem
    file, sub = await parts.inode(b"file"), await parts.inode(b"sub")
    with pytest.raises(NoSuchName):
        await filesystem.lookup(ROOT_INODE, b"missing")
    with pytest.raises(NotADirectory):
        await filesystem.lookup(file, b"x")
    with pytest.raises(NotADirectory):
        await filesystem.open_directory(file)
    with pytest.raises(IsADirectory):
        await filesystem.read(sub, 0, 10)
    with pytest.raises(NotASymlink):
        await filesystem.read_link(file)
    assert await filesystem.read_link(await parts.inode(b"link")) == b"file"


def test_modes_are_those_of_a_read_only_folder() -> None:
    modes = {kind: attributes_of(7, entry(b"n", kind, 513, b"x"), 0).mode for kind in Kind}
    assert modes[Kind.FOLDER] == modes[Kind.SUBMODULE] == 0o040555
    assert modes[Kind.TRACKED] == modes[Kind.PLAIN] == 0o100444
    assert modes[Kind.TRACKED_EXECUTABLE] == modes[Kind.PLAIN_EXECUTABLE] == 0o100555
    assert modes[Kind.SYMLINK] == 0o120777
    assert attributes_of(7, entry(b"n", Kind.PLAIN, 513, b"x"), 0).blocks == 2


@pytest.mark.virtual_clock
async def test_a_read_that_never_ends_fails_at_its_deadline_and_its_page_at_once(
    parts: Parts,
) -> None:
    inode = await parts.inode(b"file")
    began = trio.current_time()
    with pytest.raises(StoreError, match="reading file failed: no bytes within 3 s"):
        await parts.filesystem.read(inode, 0, 100)
    assert trio.current_time() - began == TIMEOUT_SECONDS
    with pytest.raises(FailedJustNow):
        await parts.filesystem.read(inode, 0, 50)
    assert trio.current_time() - began == TIMEOUT_SECONDS
    assert parts.contents.reads == 1


@pytest.mark.virtual_clock
async def test_a_failure_is_that_of_its_range_and_its_file_and_soon_forgotten(
    parts: Parts,
) -> None:
    inode, other = await parts.inode(b"file"), await parts.inode(b"run")
    parts.contents.error = ChunkUnreadable("chunk 00 in pack 11 at 0: gone")
    parts.contents.released.set()
    with pytest.raises(StoreError, match="reading file failed: chunk 00 in pack 11 at 0: gone"):
        await parts.filesystem.read(inode, 0, 100)
    parts.contents.error = None
    assert await parts.filesystem.read(inode, 100, 10) == CONTENT[100:110]
    assert await parts.filesystem.read(other, 0, 10) == CONTENT[:10]
    with pytest.raises(FailedJustNow):
        await parts.filesystem.read(inode, 0, 10)
    await trio.sleep(1)
    assert await parts.filesystem.read(inode, 0, 10) == CONTENT[:10]


@pytest.mark.virtual_clock
async def test_the_end_waits_for_reads_under_way_and_takes_no_new_ones(parts: Parts) -> None:
    inode = await parts.inode(b"file")
    got: list[bytes] = []

    async def read() -> None:
        got.append(await parts.filesystem.read(inode, 0, 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        finished = trio.Event()

        async def finish() -> None:
            await parts.filesystem.finish_reads()
            finished.set()

        nursery.start_soon(finish)
        await trio.sleep(TIMEOUT_SECONDS / 2)
        assert not finished.is_set()
        with pytest.raises(StoreError, match="being taken down"):
            await parts.filesystem.read(inode, 0, 5)
        assert got == []
        parts.contents.released.set()
    assert got == [CONTENT[:5]]


async def test_a_broken_folder_fails_alone(parts: Parts) -> None:
    sub = await parts.inode(b"sub")
    parts.loader.broken.add(SUB_TREE)
    with pytest.raises(GitError):
        await parts.filesystem.open_directory(sub)
    assert (await parts.filesystem.load_attributes(sub)).mode == 0o040555
    assert len(await names_from(parts, ROOT_INODE, 0)) == 6
