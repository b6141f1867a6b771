"""FlightLocks: which process of this machine brings which range of which pack.

One lock file for a whole cache folder, which is never removed and stays empty: a byte range of it
stands for one of a pack. The locks are the kernel's own (open file description locks, fcntl(2)), so
that those of a process that dies are free at once. Nobody waits in here: who finds a range taken
looks again later. Where the kernel has no such locks, nothing is ever taken.
"""

import fcntl
import logging
import os
import struct
from pathlib import Path

from store.ids import PackName

log = logging.getLogger(__name__)

# struct flock: type, whence, start, length, process (0 for these locks).
_FLOCK = struct.Struct("@hhqqi0q")
_SET = getattr(fcntl, "F_OFD_SETLK", None)
# A pack is at most 64 MiB long, so this many bits of its name tell 2^36 packs apart; two that share
# them wait for each other, no more.
_PACK_BITS = 26
_NAME_DIGITS = 9


class FlightLocks:
    """The locks of one fetcher. Not shared with a forked child: make it after any fork."""

    def __init__(self, path: Path) -> None:
        """`path` is the lock file, made at the first lock."""
        self._path = path
        self._descriptor: int | None = None

    def try_lock(self, pack: PackName, start: int, end: int) -> bool:
        """Take bytes start … end of a pack, unless another fetcher has any of them; whether it is
        taken. True as well where there are no locks."""
        return self._set(fcntl.F_WRLCK, pack, start, end)

    def unlock(self, pack: PackName, start: int, end: int) -> None:
        """Give bytes of a pack free."""
        self._set(fcntl.F_UNLCK, pack, start, end)

    def close(self) -> None:
        """Give all free."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _set(self, kind: int, pack: PackName, start: int, end: int) -> bool:
        if _SET is None:
            return True
        first = (int(pack[:_NAME_DIGITS], 16) << _PACK_BITS) + start
        try:
            fcntl.fcntl(self._open(), _SET, _FLOCK.pack(kind, os.SEEK_SET, first, end - start, 0))
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            # Without a lock the worst is that two processes fetch the same.
            log.debug("%s cannot be locked: %s", self._path, error)
        return True

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o600)
        return self._descriptor
