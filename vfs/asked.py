"""Asked: what the keepers of a mount were asked to warm and have not ended. It lies in memory that
each of them inherits, so that one which takes another's place goes on with it.
"""

import fcntl
import os
import zlib
from collections.abc import Iterator

from store.messages import Kind, Message, MessageBuffer

_FAST = 1


class Asked:
    """Messages, each with the number of its warming as the number of the call.

    Invariant: a DONE is behind all of a warming that has ended; behind the first byte there are
    whole messages and, where a process was killed while it wrote, the beginning of one.
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("revfs-asked", os.MFD_CLOEXEC)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, os.O_APPEND)

    def is_new(self) -> bool:
        """Whether no keeper has begun yet; from now on one has."""
        if os.fstat(self._descriptor).st_size:
            return False
        os.write(self._descriptor, b"\0")
        return True

    def append(self, kind: Kind, number: int, body: bytes = b"") -> None:
        """Note that this was asked."""
        os.write(self._descriptor, Message(kind, number, zlib.compress(body, _FAST)).to_bytes())

    def forget_all(self) -> None:
        """All of it has ended."""
        os.ftruncate(self._descriptor, 1)

    def take(self) -> list[Message]:
        """What has not ended, in the order in which it was asked; it is to be noted again."""
        messages = list(self._load_all())
        self.forget_all()
        ended = {message.call for message in messages if message.kind == Kind.DONE}
        return [
            message._replace(body=zlib.decompress(message.body))
            for message in messages
            if message.call not in ended
        ]

    def _load_all(self) -> Iterator[Message]:
        size = os.fstat(self._descriptor).st_size
        yield from MessageBuffer().feed(os.pread(self._descriptor, size, 1))
