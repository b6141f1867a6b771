"""The loop that answers requests, without a kernel: what becomes of errors, and who waits for
whom."""

import errno
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
import trio.testing

from store.errors import GitError, RepositoryGone
from vfs.attributes import Attributes
from vfs.errors import NoSuchName
from vfs.kernel_messages import Opcode, Owner
from vfs.operations import Operations
from vfs.requests import RequestLoop
from vfs.resent_requests import RESENT, ResentRequests
from vfs.tree import Absent

# struct fuse_in_header, fuse_out_header and fuse_read_in of linux/fuse.h.
HEADER = struct.Struct("=IIQQIIIHH")
ANSWER = struct.Struct("=IiQ")
READ = struct.Struct("=QQIIQII")
INODE = 77
CONTENT = bytes(range(256)) * 8
ATTRIBUTES = Attributes(INODE, 0o100444, len(CONTENT), 1_700_000_000, 2.5)


class Filesystem:
    """Answers from memory, or with `absent` only to those who can wait, until `released`; or raises
    `error`."""

    keeps_listings = True

    def __init__(self) -> None:
        self.absent = False
        self.error: BaseException | None = None
        self.released = trio.Event()

    def _get(self) -> Attributes:
        if self.absent:
            raise Absent(b"tree")
        if self.error is not None:
            raise self.error
        return ATTRIBUTES

    def get_lookup(self, parent: int, name: bytes) -> Attributes:
        return self._get()

    def get_attributes(self, inode: int) -> Attributes:
        return self._get()

    def get_listing(self, handle: int) -> object:
        return self._get()

    def read_now(self, inode: int, offset: int, size: int) -> bytes:
        self._get()
        return CONTENT[offset : offset + size]

    async def _load(self) -> Attributes:
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return ATTRIBUTES

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        return await self._load()

    async def load_attributes(self, inode: int) -> Attributes:
        return await self._load()

    async def list_directory(self, handle: int) -> object:
        return await self._load()

    async def read(self, inode: int, offset: int, size: int) -> bytes:
        await self._load()
        return CONTENT[offset : offset + size]

    async def read_link(self, inode: int) -> bytes:
        await self._load()
        return b"target"


class Answered(NamedTuple):
    """An answer: the call's number, an errno or 0, and what else there is."""

    unique: int
    errno: int
    body: bytes


class Kernel:
    """The other end of the device."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def ask(self, opcode: int, unique: int, body: bytes = b"") -> None:
        head = HEADER.pack(HEADER.size + len(body), opcode, unique, INODE, 0, 0, 0, 0, 0)
        self._end.send(head + body)

    async def answer(self) -> Answered:
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(self._end)
        length, number, unique = ANSWER.unpack_from(received := self._end.recv(1 << 20))
        assert length == len(received)
        return Answered(unique, -number, received[ANSWER.size :])


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A device that keeps messages apart."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@asynccontextmanager
async def serving(
    filesystem: Filesystem, ends: tuple[socket.socket, socket.socket]
) -> AsyncIterator[Kernel]:
    operations = Operations(filesystem, Owner(1, 2))  # type: ignore[arg-type]
    loop = RequestLoop(ends[1].fileno(), operations.by_opcode)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.serve)
        yield Kernel(ends[0])
        nursery.cancel_scope.cancel()


READ_ALL = READ.pack(0, 0, 4096, 0, 0, 0, 0)
ASKED: dict[Opcode, bytes] = {
    Opcode.LOOKUP: b"name\0",
    Opcode.GETATTR: bytes(16),
    Opcode.READ: READ_ALL,
    Opcode.READDIR: READ_ALL,
    Opcode.READDIRPLUS: READ_ALL,
    Opcode.READLINK: b"",
}
# They ask nobody.
QUIET = {Opcode.STATFS, Opcode.IOCTL}
Ends = tuple[socket.socket, socket.socket]
parametrize_asked = pytest.mark.parametrize("opcode", ASKED, ids=lambda opcode: opcode.name)
parametrize_absent = pytest.mark.parametrize("absent", [False, True], ids=["memory", "loaded"])


def test_every_operation_is_known_here() -> None:
    operations = Operations(Filesystem(), Owner(1, 2))  # type: ignore[arg-type]
    assert operations.by_opcode.keys() == ASKED.keys() | QUIET


async def ask_failing(
    ends: Ends, opcode: Opcode, error: BaseException, *, absent: bool
) -> Answered:
    filesystem = Filesystem()
    filesystem.absent, filesystem.error = absent, error
    filesystem.released.set()
    async with serving(filesystem, ends) as kernel:
        kernel.ask(opcode, 5, ASKED[opcode])
        return await kernel.answer()


@parametrize_asked
@parametrize_absent
@pytest.mark.parametrize(
    "error",
    [
        *(RuntimeError("a bug"), KeyError("x"), OSError(24, "files"), MemoryError()),
        *(SystemExit(3), KeyboardInterrupt(), GeneratorExit()),
        BaseExceptionGroup("several", [SystemExit(3), ValueError("x")]),
    ],
    ids=repr,
)
async def test_a_bug_below_any_operation_is_eio_and_is_logged_with_its_traceback(
    ends: Ends, opcode: Opcode, absent: bool, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask_failing(ends, opcode, error, absent=absent) == (5, errno.EIO, b"")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@parametrize_asked
@parametrize_absent
async def test_a_store_error_below_any_operation_is_eio_and_the_log_says_why(
    ends: Ends, opcode: Opcode, absent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    error = GitError("git has no object 42")
    assert await ask_failing(ends, opcode, error, absent=absent) == (5, errno.EIO, b"")
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.ERROR, None)
    assert "git has no object 42" in record.getMessage()


@parametrize_asked
@parametrize_absent
@pytest.mark.parametrize(
    ("error", "number"), [(NoSuchName(b"name"), errno.ENOENT), (RepositoryGone("x"), errno.EIO)]
)
async def test_what_is_no_news_has_its_errno_and_troubles_no_log(
    ends: Ends,
    opcode: Opcode,
    absent: bool,
    error: Exception,
    number: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await ask_failing(ends, opcode, error, absent=absent) == (5, number, b"")
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_who_waits_holds_up_nobody_and_is_answered_when_it_is_time(ends: Ends) -> None:
    filesystem = Filesystem()
    async with serving(filesystem, ends) as kernel:
        filesystem.absent = True
        kernel.ask(Opcode.READ, 1, READ.pack(0, 100, 50, 0, 0, 0, 0))
        kernel.ask(Opcode.LOOKUP, 2, b"name\0")
        await trio.testing.wait_all_tasks_blocked()
        filesystem.absent = False
        kernel.ask(Opcode.READ, 3, READ.pack(0, 0, 10, 0, 0, 0, 0))
        assert await kernel.answer() == (3, 0, CONTENT[:10])
        filesystem.released.set()
        answers = {
            answer.unique: answer for answer in (await kernel.answer(), await kernel.answer())
        }
        assert answers[1] == (1, 0, CONTENT[100:150])
        assert answers[2].errno == 0


@pytest.mark.parametrize("opcode", [Opcode.OPEN, Opcode.OPENDIR, Opcode.FLUSH, 34, 22, 36, 4711])
async def test_what_is_not_known_or_need_not_be_asked_again_is_enosys(
    ends: Ends, opcode: int
) -> None:
    async with serving(Filesystem(), ends) as kernel:
        kernel.ask(opcode, 9)
        assert await kernel.answer() == (9, errno.ENOSYS, b"")


async def test_what_wants_no_answer_gets_none(ends: Ends) -> None:
    async with serving(Filesystem(), ends) as kernel:
        kernel.ask(Opcode.FORGET, 1, bytes(8))
        kernel.ask(Opcode.BATCH_FORGET, 2, bytes(8))
        kernel.ask(Opcode.IOCTL, 3, bytes(32))
        assert await kernel.answer() == (3, errno.ENOTTY, b"")


async def test_a_hundred_requests_at_once_are_all_answered(ends: Ends) -> None:
    async with serving(Filesystem(), ends) as kernel:
        for unique in range(100):
            kernel.ask(Opcode.READ, unique, READ.pack(0, unique, 16, 0, 0, 0, 0))
        for unique in range(100):
            assert await kernel.answer() == (unique, 0, CONTENT[unique : unique + 16])


async def test_what_goes_round_among_processes_that_end_is_refused_when_its_time_is_up(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    resent = ResentRequests(deadline_seconds=0.2)
    operations = Operations(Filesystem(), Owner(1, 2))  # type: ignore[arg-type]
    loop = RequestLoop(ends[1].fileno(), operations.by_opcode, resent)
    kernel = Kernel(ends[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.serve)
        for unique in (RESENT | 8, RESENT | 10, 8):
            kernel.ask(Opcode.GETATTR, unique, bytes(16))
            assert (await kernel.answer()).errno == 0
        await trio.sleep(0.3)
        for unique, number in ((RESENT | 8, errno.EIO), (RESENT | 12, 0), (8, 0)):
            kernel.ask(Opcode.GETATTR, unique, bytes(16))
            assert (await kernel.answer()).errno == number
        nursery.cancel_scope.cancel()
    (record,) = caplog.records
    assert "getattr of inode 0x4d is refused" in record.getMessage()


async def test_the_loop_ends_with_the_mount(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    operations = Operations(Filesystem(), Owner(1, 2))  # type: ignore[arg-type]
    loop = RequestLoop(ends[1].fileno(), operations.by_opcode)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.serve)
        await trio.testing.wait_all_tasks_blocked()
        os.close(ends[0].detach())
    assert caplog.records == []
