"""ResentRequests: how long requests have been handed out again, in memory that the processes of a
mount share, and which outlives each of them.

When a process that serves is killed, the kernel hands out anew what has no answer, and marks it. A
request that itself kills whoever takes it would go round for ever, and its reader would wait for
ever: one that has gone round for longer than a read may take is refused.
"""

import mmap
import struct

RESENT = 1 << 63
"""FUSE_UNIQUE_RESEND of linux/fuse.h, Linux 6.9: the mark, in the number of the request."""

_ROW = struct.Struct("=Qd")
_ROWS = 4096


class ResentRequests:
    """When requests were first handed out again. Made before the processes are forked."""

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        # By the number of the request; who takes the same row later forgets the one before.
        self._rows = mmap.mmap(-1, _ROWS * _ROW.size)

    def is_overdue(self, unique: int, now: float) -> bool:
        """Whether a marked request has been going round for too long at `now`, in seconds of a
        clock that all processes share."""
        # The kernel counts requests in steps of two.
        offset = (unique >> 1) % _ROWS * _ROW.size
        known, first = _ROW.unpack_from(self._rows, offset)
        if known != unique:
            _ROW.pack_into(self._rows, offset, unique, now)
            return False
        return bool(now - first > self._deadline_seconds)
