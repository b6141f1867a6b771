"""The loop of a process that serves a mount: requests in, answers out.

Any number of processes may run it over openings of /dev/fuse of their own: the kernel gives each
request to one of them. Here an error becomes an errno, and whatever else goes wrong in an operation
is EIO for that request alone; so is a request that has ended one process after the other.
"""

import errno
import logging
import os
import time

import trio

from store.errors import RepositoryGone, StoreError, is_of_a_refusal
from vfs.errnos import errno_of
from vfs.errors import RequestError
from vfs.kernel_messages import (
    REQUEST_BYTES,
    REQUEST_HEAD_BYTES,
    UNANSWERED,
    Opcode,
    Request,
    answer_head,
    error_answer,
    parse_request,
)
from vfs.operations import Later, Operation
from vfs.resent_requests import RESENT, ResentRequests

log = logging.getLogger(__name__)

# As many as come at once before the tasks that wait for something get their turn.
_AT_ONCE = 32
# The kernel holds back what it reads ahead; this holds back a flood of readers.
_MOST_UNDER_WAY = 4096
# A request that was taken back while it was read, or before it was answered.
_TAKEN_BACK = (errno.ENOENT, errno.EINTR)


class RequestLoop:
    """Serves requests that come from `descriptor`, which does not block, until it is cancelled or
    the mount is gone. Belongs to one trio loop."""

    def __init__(
        self,
        descriptor: int,
        operations: dict[int, Operation],
        resent: ResentRequests | None = None,
    ) -> None:
        """`resent` is None where no other process is handed what this one leaves behind."""
        self._descriptor = descriptor
        self._operations = operations
        self._resent = resent
        self._buffer = bytearray(REQUEST_BYTES)
        self._under_way = 0
        self._gone = False

    async def serve(self) -> None:
        """Answer requests until the mount is taken away or this is cancelled."""
        async with trio.open_nursery() as nursery:
            while not self._gone:
                await trio.lowlevel.wait_readable(self._descriptor)
                while self._under_way > _MOST_UNDER_WAY:
                    await trio.sleep(0.001)
                for _ in range(_AT_ONCE):
                    if not self._take(nursery):
                        break
            nursery.cancel_scope.cancel()

    def _take(self, nursery: trio.Nursery) -> bool:
        """Take one request and answer it, or begin to; False where there is none."""
        try:
            received = os.readv(self._descriptor, [self._buffer])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _TAKEN_BACK:
                return True
            self._end(error)
            return False
        if received < REQUEST_HEAD_BYTES:
            self._gone = True
            return False
        request = parse_request(self._buffer)
        if request.opcode in UNANSWERED:
            return True
        operation = self._operations.get(request.opcode)
        if operation is None:
            self._write(error_answer(request.unique, errno.ENOSYS))
            return True
        if request.unique & RESENT and self._has_gone_round(request):
            return True
        try:
            answer = operation(request, self._buffer)
        except BaseException as error:
            # Whatever it is: for one request no process may end that others wait for.
            self._fail(request, error)
            return True
        if isinstance(answer, bytes):
            self._write(answer_head(request.unique, len(answer)), answer)
        else:
            self._under_way += 1
            nursery.start_soon(self._finish, request, answer)
        return True

    async def _finish(self, request: Request, later: Later) -> None:
        try:
            body = await later()
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._fail(request, error)
        else:
            self._write(answer_head(request.unique, len(body)), body)
        finally:
            self._under_way -= 1

    def _has_gone_round(self, request: Request) -> bool:
        """Refuse a request that was handed out again and again for too long."""
        if self._resent is None or not self._resent.is_overdue(request.unique, time.monotonic()):
            return False
        log.error(
            "%s of inode %#x is refused: each process that took it has ended",
            _name_of(request.opcode),
            request.inode,
        )
        self._write(error_answer(request.unique, errno.EIO))
        return True

    def _fail(self, request: Request, error: BaseException) -> None:
        what = f"{_name_of(request.opcode)} of inode {request.inode:#x}"
        if isinstance(error, RequestError | RepositoryGone):
            # Whoever keeps the mount has said once that the repository is gone: here it would be a
            # line for each request.
            log.debug("%s: %r", what, error)
        elif isinstance(error, StoreError) and is_of_a_refusal(error):
            # As before: what a remote refuses fails at once, and for every reader.
            log.debug("%s: %s", what, error)
        elif isinstance(error, StoreError):
            log.error("%s: %s", what, error)
        else:
            log.error("%s failed in a way that it should not", what, exc_info=error)
        self._write(error_answer(request.unique, errno_of(error)))

    def _write(self, *parts: bytes) -> None:
        try:
            os.writev(self._descriptor, parts)
        except OSError as error:
            if error.errno not in _TAKEN_BACK:
                self._end(error)

    def _end(self, error: OSError) -> None:
        if error.errno != errno.ENODEV and not self._gone:
            log.error("the kernel takes no more answers: %s", error.strerror)
        self._gone = True


def _name_of(opcode: int) -> str:
    try:
        return Opcode(opcode).name.lower()
    except ValueError:
        return f"request {opcode}"
