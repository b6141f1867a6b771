"""Local pack files kept open for reading, a bounded number of them, safe from any thread."""

import errno
import os
import resource
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from store.packs import PackEntry

Prove = Callable[[bytes | None], bytes]
"""The content that stored bytes (None: there are none) stand for; raises where they are wrong."""

# A smaller chunk is proven anew at every load for less than remembering it would cost.
_WORTH_REMEMBERING_BYTES = 256 << 10
# What had to be waited for lets so many times its bytes be read around it, this much at the most.
_AROUND_SHARE = 8
_MOST_AROUND_BYTES = 4 << 20
# Linux alone has it; elsewhere every read may wait.
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_SCRATCH_BYTES = 1 << 20
_of_thread = threading.local()
# Of the descriptors that a process may have, what each of these keeps at the most.
_DESCRIPTORS_SHARE = 8
_NOT_NOW_ERRORS = (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class NotInMemory(Exception):
    """The bytes are not in the kernel's page cache: reading them would wait for a disk."""


class _OpenFile:
    """A descriptor that closes when nobody uses it any more, so that dropping one that another
    thread is reading from is harmless. `proven` are the entries whose bytes were proven in this
    very file, whatever may come to lie under its name; `waited_bytes` counts what was read from it
    at the pace of a disk."""

    __slots__ = ("descriptor", "proven", "waited_bytes")

    def __init__(self, path: Path) -> None:
        self.proven: set[PackEntry] = set()
        self.waited_bytes = 0
        # Not blocking: in a folder that others write a pipe may lie where a pack should, and to
        # open it would wait for ever.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self.descriptor = os.open(path, flags)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class OpenFiles:
    """Reads ranges of files, keeping the last used ones open: `most`, or fewer where this process
    may have few descriptors."""

    def __init__(self, most: int = 256) -> None:
        self._most = min(most, _most_descriptors() // _DESCRIPTORS_SHARE)
        self._lock = threading.Lock()
        # Last used last; never more than `most`.
        self._files: OrderedDict[Path, _OpenFile] = OrderedDict()

    def load(self, path: Path, entry: PackEntry, prove: Prove) -> bytes:
        """What `prove` makes of the stored bytes of an entry of the pack file, or of None where the
        file has them not; that it did not raise is remembered. May wait for a disk."""
        return self._load(path, entry, prove, flags=0)

    def load_now(self, path: Path, entry: PackEntry, prove: Prove) -> bytes:
        """As `load`, but raises NotInMemory rather than wait."""
        with _not_now():
            return self._load(path, entry, prove, flags=_NOWAIT)

    def load_part(self, path: Path, entry: PackEntry, start: int, length: int) -> bytes | None:
        """`length` of the stored bytes of an entry, from its `start` on; None where the file has
        them not, or the entry was not proven in that very file. May wait for a disk."""
        return self._load_part(path, entry, start, length, flags=0)

    def load_part_now(self, path: Path, entry: PackEntry, start: int, length: int) -> bytes | None:
        """As `load_part`, but raises NotInMemory rather than wait."""
        with _not_now():
            return self._load_part(path, entry, start, length, flags=_NOWAIT)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            self._files.clear()

    def _load(self, path: Path, entry: PackEntry, prove: Prove, flags: int) -> bytes:
        file = self._open(path)
        if file is None:
            return prove(None)
        if not flags:
            _read_around(file, entry)
        content = prove(_read(file, entry.offset, entry.stored_length, flags))
        if entry.raw_length >= _WORTH_REMEMBERING_BYTES:
            file.proven.add(entry)
        return content

    def _load_part(
        self, path: Path, entry: PackEntry, start: int, length: int, flags: int
    ) -> bytes | None:
        file = self._open(path)
        if file is None or entry not in file.proven:
            return None
        return _read(file, entry.offset + start, length, flags)

    def _open(self, path: Path) -> _OpenFile | None:
        with self._lock:
            file = self._files.get(path)
            # A file that was evicted lives on under our descriptor, without what came later.
            if file is not None and not _is_removed(file):
                self._files.move_to_end(path)
                return file
            self._files.pop(path, None)
        try:
            file = self._open_anew(path)
        except FileNotFoundError:
            return None
        with self._lock:
            self._files[path] = file
            # The space of an evicted file is free only when nobody holds it open.
            for old in [old for old, kept in self._files.items() if _is_removed(kept)]:
                del self._files[old]
            while len(self._files) > self._most:
                self._files.popitem(last=False)
        return file

    def _open_anew(self, path: Path) -> _OpenFile:
        try:
            return _OpenFile(path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Others have all the rest: those that are kept here are what can be done without.
            self.close()
            return _OpenFile(path)


def _most_descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def plan_around(start: int, length: int, waited_bytes: int) -> tuple[int, int] | None:
    """Which bytes (start, length) of a file to read from the disk around some that are waited for,
    when so many were waited for in all; None where it is not worth it.

    Whoever reads small files in any order comes back for the neighbours, and a disk gives a large
    piece in little more time than a small one. A few reads here and there stay what they are.
    """
    most = min(_AROUND_SHARE * (waited_bytes - length), _MOST_AROUND_BYTES)
    # A power of two, so that pieces do not overlap.
    around = 1 << max(0, most.bit_length() - 1)
    if around < 2 * length:
        return None
    return start - start % around, around


def _read_around(file: _OpenFile, entry: PackEntry) -> None:
    file.waited_bytes += entry.stored_length
    planned = plan_around(entry.offset, entry.stored_length, file.waited_bytes)
    if planned is not None:
        # A hint; where it is not taken, what is waited for is read all the same.
        with suppress(OSError):
            os.posix_fadvise(file.descriptor, *planned, os.POSIX_FADV_WILLNEED)


def _is_removed(file: _OpenFile) -> bool:
    return os.fstat(file.descriptor).st_nlink == 0


def _read(file: _OpenFile, start: int, length: int, flags: int) -> bytes | None:
    if os.fstat(file.descriptor).st_size < start + length:
        return None
    if not flags:
        return _pread(file.descriptor, start, length)
    target = _scratch(length)
    filled = 0
    while filled < length:
        got = os.preadv(file.descriptor, [target[filled:length]], start + filled, flags)
        if got == 0:
            return None
        filled += got
    return bytes(target[:length])


def _pread(descriptor: int, start: int, length: int) -> bytes | None:
    """So many bytes; None where the file ends before."""
    content = os.pread(descriptor, length, start)
    if len(content) == length or not content:
        return content or None
    rest = _pread(descriptor, start + len(content), length - len(content))
    return None if rest is None else content + rest


def _scratch(length: int) -> memoryview:
    """Room for so many bytes, this thread's own until its next read: new memory would first be
    cleared by the kernel, then by Python."""
    room: memoryview | None = getattr(_of_thread, "room", None)
    if room is None or len(room) < length:
        room = memoryview(bytearray(max(length, _SCRATCH_BYTES)))
        if length <= _SCRATCH_BYTES:
            _of_thread.room = room
    return room


@contextmanager
def _not_now() -> Iterator[None]:
    if not _NOWAIT:
        raise NotInMemory
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_NOW_ERRORS:
            raise NotInMemory from error
        raise
