"""Resident memory: a process that lasts gives back what it holds of memory and does not need.

Two things pile up without being used: pages of tables (LMDB and git map their files, and each page
that was looked at once stays in the map, with its neighbours), and what malloc keeps of buffers
that were freed. Neither is lost by giving it back: the pages stay in the kernel's cache of files.
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOST_MAPPED_BYTES = 16 << 20
_MOST_FREE_BYTES = 16 << 20
_MADV_DONTNEED = 4
# Those of LMDB, and git's own.
_TABLE_FILES = ("/data.mdb", ".idx", ".pack")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r--[sp] ")
_RESIDENT = re.compile(r"^Rss(Anon|File):\s+(\d+) kB$", re.MULTILINE)


class _MallInfo(ctypes.Structure):
    """What mallinfo2(3) gives: ten numbers, of which the ninth is the free bytes in the heap."""

    _fields_ = (
        ("before", ctypes.c_size_t * 8),
        ("free_bytes", ctypes.c_size_t),
        ("top", ctypes.c_size_t),
    )


class ResidentMemory:
    """The memory of this process. Without Linux and glibc nothing is given back."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        # What is left after the last time. Free bytes are counted also when they were given back.
        self._mapped_bytes = self._free_bytes = 0

    def give_back(self) -> None:
        """Give back what is worth it; cheap where nothing is. From any thread, one at a time."""
        with suppress(OSError, AttributeError, KeyError):
            self._give_back_tables()
            self._give_back_heap()

    def _give_back_tables(self) -> None:
        if read_resident()["File"] > self._mapped_bytes + _MOST_MAPPED_BYTES:
            self._forget_tables()
            self._mapped_bytes = read_resident()["File"]

    def _give_back_heap(self) -> None:
        free_bytes = self._count_free()
        if free_bytes > self._free_bytes + _MOST_FREE_BYTES:
            self._libc.malloc_trim(0)
            self._free_bytes = self._count_free()
        self._free_bytes = min(self._free_bytes, free_bytes)

    def _count_free(self) -> int:
        mallinfo = self._libc.mallinfo2
        mallinfo.restype = _MallInfo
        return int(mallinfo().free_bytes)

    def _forget_tables(self) -> None:
        # Only read through, and backed by a file: what is touched again is mapped again.
        for start, end in _table_mappings():
            self._libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def read_resident() -> dict[str, int]:
    """The resident bytes of this process, by kind: Anon and File. Empty where that is not told."""
    status = Path("/proc/self/status").read_text()
    return {kind: int(kilobytes) << 10 for kind, kilobytes in _RESIDENT.findall(status)}


def _table_mappings() -> Iterator[tuple[int, int]]:
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        found = _MAPPING.match(line)
        if found is not None and line.endswith(_TABLE_FILES):
            yield int(found[1], 16), int(found[2], 16)
