"""The folder that tables lie in: which file it is that is open, and how damaged tables make way for
new ones while other processes have them open.

The folder is moved away whole, so that nobody meets the file of the one with the locks of the
other. Whoever opens tables holds the folder above together with others; who moves them away holds
it alone.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from store.errors import Busy, CacheUnusable

FileIdentity = tuple[int, int]
"""Device and inode number. No other file gets them while somebody has this one open."""

# Room for two thousand readers; LMDB takes the length that it finds.
_LOCK_BYTES = 128 << 10
# The unit of st_blocks, whatever the file system's own (stat(2)).
_STAT_BLOCK_BYTES = 512
_MOST_WAIT_SECONDS = 10.0
_PAUSE_SECONDS = 0.01


def load_identity(folder: Path) -> FileIdentity | None:
    """Which tables stand in a folder; None where there are none."""
    try:
        # By stat alone: to open and close the file would drop the locks of this process.
        status = os.stat(folder / "data.mdb", follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def reserve_locks(folder: Path) -> None:
    """Have the file of the locks whole on the disk before anybody maps it: where it has holes that
    a full disk cannot fill, to take a lock would kill the process. Raises OSError."""
    path = folder / "lock.mdb"
    length = _LOCK_BYTES
    with suppress(FileNotFoundError):
        status = os.stat(path, follow_symlinks=False)
        # Of one that is in use, no more than it has.
        length = status.st_size or _LOCK_BYTES
        if status.st_size and status.st_blocks * _STAT_BLOCK_BYTES >= length:
            return
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, length)
    finally:
        os.close(descriptor)


@contextmanager
def holding(folder: Path, *, alone: bool) -> Iterator[None]:
    """Keep others from moving the tables in `folder` away, or, `alone`, from opening them. Raises
    Busy."""
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, LOCK_EX if alone else LOCK_SH, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, folder: Path) -> None:
    deadline = time.monotonic() + _MOST_WAIT_SECONDS
    while True:
        try:
            return flock(descriptor, kind | LOCK_NB)
        except BlockingIOError:
            # Not for ever: whoever holds it may have been stopped.
            if time.monotonic() >= deadline:
                raise Busy(f"another process holds {folder.parent}; wait for its end") from None
            time.sleep(_PAUSE_SECONDS)


def set_aside(folder: Path, identity: FileIdentity | None) -> bool:
    """Put an empty folder in the place of that one, if those tables still stand in it. Whoever has
    the old ones open goes on with files that have no name. Raises CacheUnusable, Busy."""
    with holding(folder, alone=True):
        _remove_leftovers(folder)
        if load_identity(folder) != identity:
            return False
        away = folder.with_name(f"{folder.name}.damaged-{secrets.token_hex(8)}")
        try:
            folder.rename(away)
            # First, since there may be no room for another folder.
            shutil.rmtree(away, ignore_errors=True)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise CacheUnusable(
                f"the damaged tables in {folder} cannot be made anew: {error.strerror}"
            ) from error
    return True


def _remove_leftovers(folder: Path) -> None:
    """What somebody who was killed has moved away and not removed."""
    with suppress(OSError):
        for path in folder.parent.glob(f"{folder.name}.damaged-*"):
            shutil.rmtree(path, ignore_errors=True)
