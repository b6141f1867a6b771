"""Local pack files kept open for reading, a bounded number of them, safe from any thread."""

import errno
import os
import threading
from collections import OrderedDict
from pathlib import Path

_NOT_NOW_ERRORS = (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class NotInMemory(Exception):
    """The bytes are not in the kernel's page cache: reading them would wait for a disk."""


class _OpenFile:
    """A descriptor that closes when nobody uses it any more, so that dropping one that another
    thread is reading from is harmless."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class OpenFiles:
    """Reads ranges of files, keeping the last used ones open."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._lock = threading.Lock()
        # Last used last; never more than `most`.
        self._files: OrderedDict[Path, _OpenFile] = OrderedDict()

    def load(self, path: Path, start: int, length: int) -> bytes | None:
        """`length` bytes from `start`, or None where the file has them not. May wait for a disk."""
        return self._read(path, start, length, flags=0)

    def load_now(self, path: Path, start: int, length: int) -> bytes | None:
        """As `load`, but raises NotInMemory rather than wait."""
        try:
            return self._read(path, start, length, flags=os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _NOT_NOW_ERRORS:
                raise NotInMemory from error
            raise

    def close(self) -> None:
        """Close all."""
        with self._lock:
            self._files.clear()

    def _read(self, path: Path, start: int, length: int, flags: int) -> bytes | None:
        file = self._open(path)
        if file is None:
            return None
        target = bytearray(length)
        view = memoryview(target)
        filled = 0
        while filled < length:
            got = os.preadv(file.descriptor, [view[filled:]], start + filled, flags)
            if got == 0:
                return None
            filled += got
        return bytes(target)

    def _open(self, path: Path) -> _OpenFile | None:
        with self._lock:
            file = self._files.get(path)
            # A file that was evicted lives on under our descriptor, without what came later.
            if file is not None and os.fstat(file.descriptor).st_nlink:
                self._files.move_to_end(path)
                return file
            self._files.pop(path, None)
        try:
            file = _OpenFile(path)
        except FileNotFoundError:
            return None
        with self._lock:
            self._files[path] = file
            while len(self._files) > self._most:
                self._files.popitem(last=False)
        return file
