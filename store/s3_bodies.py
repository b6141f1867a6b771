"""The bytes of one upload or one answer of S3, block by block, under the deadline of the call.

All of it runs in a worker thread that trio started. A deadline is in seconds of time.monotonic().
"""

import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import trio

from store.errors import RemoteError

BLOCK_BYTES = 1024 * 1024


class RangeAnswer(NamedTuple):
    """The head of an answer to a range, and its body, a stream to be closed."""

    status: int
    content_range: str | None
    content_length: int | None
    body: Any


class Upload:
    """The bytes of one upload, `size` of them, as the seekable file that boto3 wants."""

    def __init__(self, file: IO[bytes], deadline: float) -> None:
        self._file = file
        self._deadline = deadline
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, amount: int = -1) -> bytes:
        """Up to `amount` bytes more. Raises what check_deadline does."""
        check_deadline(self._deadline)
        return self._file.read(amount)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file: boto3 reads twice where it has to sign the body."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()


@contextlib.contextmanager
def open_upload(body: bytes | Path, deadline: float) -> Iterator[Upload]:
    """The upload of `body`. Raises RemoteError if it is a file that cannot be read."""
    try:
        file = body.open("rb") if isinstance(body, Path) else io.BytesIO(body)
    except OSError as error:
        raise RemoteError(f"cannot read {body!s}, which is to be uploaded: {error}") from error
    with file:
        yield Upload(file, deadline)


def check_deadline(deadline: float) -> None:
    """Raise TimeoutError past `deadline` (monotonic), or Cancelled if nobody waits any more."""
    trio.from_thread.check_cancelled()
    if time.monotonic() > deadline:
        raise TimeoutError


def read_blocks(stream: Any, most: int, deadline: float) -> Iterator[bytes]:
    """The body `stream` block by block, up to `most` bytes of it.

    read1 returns with what has come: a read of a whole block would wait for a trickle for ever.
    """
    left = most
    while left > 0:
        check_deadline(deadline)
        block: bytes = stream.read1(min(left, BLOCK_BYTES), decode_content=False)
        if not block:
            return
        yield block
        left -= len(block)


def read_body(stream: Any, most: int, deadline: float) -> bytes:
    """The body `stream`, up to `most` bytes of it."""
    return b"".join(read_blocks(stream, most, deadline))
