"""The file system and its adapter, without a kernel: deadlines, the end, and what leaves a
handler."""

import errno
import inspect
import logging

import pyfuse3
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
    RequestError,
)
from vfs.filesystem import DirectoryItem, RevisionFilesystem
from vfs.fuse import Ownership, RevisionOperations
from vfs.inodes import ROOT_INODE
from vfs.tree import RevisionTree

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
    """Directories from memory; `broken` ones cannot be read."""

    def __init__(self) -> None:
        self.broken: set[bytes] = set()

    def get(self, tree: bytes) -> Directory | None:
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
    items = await parts.filesystem.list_directory(inode, position)
    return [(item.name, item.next_position) for item in items]


async def test_a_listing_goes_on_from_any_position(parts: Parts) -> None:
    whole = await names_from(parts, ROOT_INODE, 0)
    assert [name for name, _ in whole] == [b".", b"..", b"file", b"link", b"run", b"sub"]
    for number, (_, position) in enumerate(whole):
        assert await names_from(parts, ROOT_INODE, position) == whole[number + 1 :]
    assert await names_from(parts, ROOT_INODE, 10_000) == []


async def test_a_listing_and_a_lookup_agree_on_everything(parts: Parts) -> None:
    items: list[DirectoryItem] = list(await parts.filesystem.list_directory(ROOT_INODE, 0))
    for item in items:
        found = await parts.filesystem.lookup(ROOT_INODE, item.name)
        assert found == item.attributes
        assert await parts.filesystem.get_attributes(found.inode) == found
    sub = await parts.inode(b"sub")
    (dot, above, inner) = await parts.filesystem.list_directory(sub, 0)
    assert (dot.attributes.inode, above.attributes.inode) == (sub, ROOT_INODE)
    assert (await parts.filesystem.lookup(sub, b"..")).inode == ROOT_INODE
    assert inner.name == b"inner"


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
        await filesystem.check_file(sub)
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
    assert (await parts.filesystem.get_attributes(sub)).mode == 0o040555
    assert len(await names_from(parts, ROOT_INODE, 0)) == 6


class FailingFilesystem:
    """Whatever is asked of it raises `error`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> object:
        async def fail(*arguments: object) -> None:
            raise self.error

        return fail


HANDLERS: dict[str, tuple[object, ...]] = {
    "lookup": (1, b"name", None),
    "getattr": (1, None),
    "readlink": (1, None),
    "opendir": (1, None),
    "readdir": (1, 0, None),
    "open": (1, 0, None),
    "read": (1, 0, 10),
}
# They ask nobody, so nothing can go wrong in them.
QUIET_HANDLERS = {"forget", "release", "releasedir", "statfs"}
REFUSING_HANDLERS = {"flush", "access", "getxattr", "listxattr"}


def failing(error: Exception) -> RevisionOperations:
    filesystem = FailingFilesystem(error)
    return RevisionOperations(filesystem, Ownership(1, 2))  # type: ignore[arg-type]


def test_every_handler_is_known_here() -> None:
    own = {
        name
        for name, value in vars(RevisionOperations).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert own == HANDLERS.keys() | QUIET_HANDLERS | REFUSING_HANDLERS


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), KeyError("x"), OSError(24, "files"), MemoryError()], ids=repr
)
async def test_a_bug_below_any_handler_becomes_eio_and_is_logged_with_its_traceback(
    name: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await getattr(failing(error), name)(*HANDLERS[name])
    assert raised.value.errno == errno.EIO
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_store_error_below_any_handler_becomes_eio_and_the_log_says_why(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await getattr(failing(GitError("git has no object 42")), name)(*HANDLERS[name])
    assert raised.value.errno == errno.EIO
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.ERROR, None)
    assert "git has no object 42" in record.getMessage()


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_request_that_cannot_be_has_its_errno_and_troubles_no_log(name: str) -> None:
    error: RequestError = NoSuchName(b"name")
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await getattr(failing(error), name)(*HANDLERS[name])
    assert raised.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", HANDLERS)
async def test_cancelling_passes_through_every_handler(name: str) -> None:
    class Waiting(FailingFilesystem):
        def __getattr__(self, name: str) -> object:
            async def wait(*arguments: object) -> None:
                await trio.sleep_forever()

            return wait

    operations = RevisionOperations(
        Waiting(RuntimeError()),  # type: ignore[arg-type]
        Ownership(1, 2),
    )
    with trio.move_on_after(0) as scope:
        await getattr(operations, name)(*HANDLERS[name])
    assert scope.cancelled_caught


async def test_what_is_answered_enosys_is_never_asked_again() -> None:
    operations = failing(RuntimeError())
    calls = [
        operations.flush(1),
        operations.access(1, 4, None),  # type: ignore[arg-type]
        operations.getxattr(1, b"user.a", None),  # type: ignore[arg-type]
        operations.listxattr(1, None),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await call
        assert raised.value.errno == errno.ENOSYS


@pytest.mark.parametrize("seconds", [0, 1_700_000_000, -1, 2**40, -(2**40), 2**62])
async def test_any_commit_time_that_git_can_hold_can_be_shown(seconds: int) -> None:
    parts = Parts(seconds)
    operations = RevisionOperations(parts.filesystem, Ownership(1, 2))
    inode = await parts.inode(b"file")
    shown = await operations.getattr(inode, None)  # type: ignore[arg-type]
    assert shown.st_mtime_ns == shown.st_ctime_ns == shown.st_atime_ns == seconds * 10**9
    assert (shown.st_uid, shown.st_gid, shown.st_ino) == (1, 2, inode)
    assert (shown.st_size, shown.st_nlink) == (len(CONTENT), 1)
    assert shown.entry_timeout == shown.attr_timeout > 10**9
