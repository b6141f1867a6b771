"""Reads of every kind as data, and who carries them out on a folder: the same ones on a mount and
on plain files must give the same.

A `Read` names a method of Reader and its arguments; files that are open, and mappings, are numbers
into what the reader has open. A place in a file is a share of its size and some bytes more or less,
so that edges are hit whatever the size is.
"""

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.mounted.system_calls import LIBC, MAP_FAILED, checked

PAGE = mmap.PAGESIZE
SECTOR = 512
SHARES = 64
Result = bytes | int | str | tuple[Any, ...]
Value = TypeVar("Value")


class Read(NamedTuple):
    """A method of Reader and its arguments."""

    method: str
    arguments: tuple[Any, ...]


class Place(NamedTuple):
    """An offset: so many 64ths of the file's size, and so many bytes more."""

    share: int
    more: int

    def in_file(self, size: int) -> int:
        """The offset in a file of that size."""
        return max(0, size * self.share // SHARES + self.more)


class _Opened(NamedTuple):
    descriptor: int
    direct: bool

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


class Reader:
    """One who reads below `top`. With `past_the_cache` he does as he is told where a file is to be
    opened with O_DIRECT; else he opens it as any other, which must make no difference."""

    def __init__(self, top: Path, *, past_the_cache: bool) -> None:
        self._top = top
        self._past_the_cache = past_the_cache
        self._opened: list[_Opened] = []
        self._maps: list[mmap.mmap] = []

    def results(self, reads: Sequence[Read]) -> list[Result]:
        """What each of the reads gives: bytes, a number, or the name of an errno; after the last,
        all is closed."""
        try:
            return [self._result(read) for read in reads]
        finally:
            self._close_all()

    def _result(self, read: Read) -> Result:
        method: Callable[..., Result] = getattr(self, read.method)
        try:
            return method(*read.arguments)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        except (LookupError, ValueError) as error:
            # Nothing is open, or Python itself refuses to map nothing.
            return type(error).__name__

    def _close_all(self) -> None:
        for mapped in self._maps:
            mapped.close()
        for opened in self._opened:
            os.close(opened.descriptor)
        self._maps, self._opened = [], []

    # What a Read can name.

    def open(self, name: str, direct: bool) -> Result:
        """Open a file, or a link to one."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        if direct and self._past_the_cache:
            flags |= os.O_DIRECT
        self._opened.append(_Opened(os.open(self._top / name, flags), direct))
        return self._opened[-1].size

    def dup(self, number: int) -> Result:
        """A second descriptor, which shares the position."""
        opened = self._file(number)
        self._opened.append(opened._replace(descriptor=os.dup(opened.descriptor)))
        return len(self._opened)

    def close(self, number: int) -> Result:
        """Close a descriptor. Mappings and duplicates stay."""
        opened = self._file(number)
        self._opened.remove(opened)
        os.close(opened.descriptor)
        return len(self._opened)

    def pread(self, number: int, place: Place, length: int) -> Result:
        """Bytes from a place."""
        return self.preadv(number, place, (length,))

    def preadv(self, number: int, place: Place, lengths: tuple[int, ...]) -> Result:
        """Bytes from a place, into several buffers."""
        opened = self._file(number)
        offset = place.in_file(opened.size)
        if opened.direct:
            offset -= offset % SECTOR
        return _into_buffers(
            opened, lengths, lambda buffers: os.preadv(opened.descriptor, buffers, offset)
        )

    def readv(self, number: int, lengths: tuple[int, ...]) -> Result:
        """Bytes from the position, which moves, into several buffers."""
        opened = self._file(number)
        return _into_buffers(opened, lengths, lambda buffers: os.readv(opened.descriptor, buffers))

    def seek(self, number: int, place: Place, whence: int) -> Result:
        """The position after it was moved: from the start, to data, to a hole."""
        opened = self._file(number)
        return os.lseek(opened.descriptor, place.in_file(opened.size), whence)

    def seek_by(self, number: int, distance: int, whence: int) -> Result:
        """The position after it was moved from where it is, or from the end."""
        return os.lseek(self._file(number).descriptor, distance, whence)

    def sendfile(self, number: int, place: Place | None, count: int) -> Result:
        """Bytes from a place, or from the position, as the kernel itself copies them elsewhere; and
        the position afterwards."""
        opened = self._file(number)
        offset = None if place is None else place.in_file(opened.size)
        target = os.memfd_create("sent")
        try:
            sent = 0
            while sent < count:
                start = None if offset is None else offset + sent
                # It may copy less than it is told to.
                now = os.sendfile(target, opened.descriptor, start, count - sent)
                if now == 0:
                    break
                sent += now
            content = os.pread(target, sent, 0)
        finally:
            os.close(target)
        return content, os.lseek(opened.descriptor, 0, os.SEEK_CUR)

    def map(self, number: int, place: Place, length: int, private: bool) -> Result:
        """Map pages of a file, shared to read or with changes of one's own; their first bytes."""
        opened = self._file(number)
        offset = place.in_file(opened.size) // PAGE * PAGE
        length = min(length, opened.size - offset)
        access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
        if length <= 0:
            raise ValueError("nothing is mapped")
        self._maps.append(mmap.mmap(opened.descriptor, length, access=access, offset=offset))
        return self._maps[-1][:SECTOR]

    def peek(self, number: int, place: Place, length: int) -> Result:
        """Bytes of a mapping."""
        mapped = self._map(number)
        offset = place.in_file(len(mapped))
        return mapped[offset : offset + length]

    def scribble(self, number: int, place: Place) -> Result:
        """Change a byte of a mapping, which nobody else sees."""
        mapped = self._map(number)
        try:
            mapped[min(place.in_file(len(mapped)), len(mapped) - 1)] ^= 0xFF
        except TypeError:
            return "shared"
        return len(mapped)

    def last_page(self, number: int) -> Result:
        """The whole of the last page as a mapping shows it: zeros follow the end of the file."""
        opened = self._file(number)
        if opened.size == 0:
            raise ValueError("nothing is mapped")
        offset = (opened.size - 1) // PAGE * PAGE
        LIBC.mmap.restype = ctypes.c_void_p
        LIBC.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]
        address = LIBC.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, opened.descriptor, offset)
        if address == MAP_FAILED:
            checked(-1)
        try:
            return ctypes.string_at(address, PAGE)
        finally:
            LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(PAGE))

    def link(self, name: str) -> Result:
        """The target of a symbolic link."""
        return os.readlink(os.fsencode(self._top / name))

    def forget(self, number: int) -> Result:
        """Have the kernel drop what it keeps of a file."""
        os.posix_fadvise(self._file(number).descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return 0

    def _file(self, number: int) -> _Opened:
        return _at(self._opened, number)

    def _map(self, number: int) -> mmap.mmap:
        return _at(self._maps, number)


def _at(kept: list[Value], number: int) -> Value:
    if not kept:
        raise LookupError("nothing is open")
    return kept[number % len(kept)]


def _into_buffers(
    opened: _Opened, lengths: tuple[int, ...], read: Callable[[list[mmap.mmap]], int]
) -> bytes:
    """What a read puts into buffers of these lengths, which begin at pages as O_DIRECT wants it."""
    if opened.direct:
        lengths = tuple(-(-length // SECTOR) * SECTOR for length in lengths)
    with contextlib.ExitStack() as stack:
        buffers = [stack.enter_context(mmap.mmap(-1, max(1, length))) for length in lengths]
        views = [
            memoryview(buffer)[:length] for buffer, length in zip(buffers, lengths, strict=True)
        ]
        try:
            got = read(views)  # type: ignore[arg-type]
            return b"".join(bytes(view) for view in views)[:got]
        finally:
            for view in views:
                view.release()
