"""The stat cache: which content a file had when it was last read, so that it need not be again.

A row counts only if every stat field is as it was. That is proof of an unchanged file because a
file is read only once its last change is older than the clock's grain (`wait_until_settled`): any
later change then shows in its ctime.
"""

import os
import struct
import time
from collections.abc import Iterable, Sequence

from store.ids import ChunkId, hash_bytes
from store.pointer import Pointer
from store.tables import Tables

# Linux stamps files from a clock that ticks every 1 to 10 ms; some file systems keep whole seconds,
# FAT every second one.
_FINE_GRAIN_NS = 20_000_000
_COARSE_GRAIN_NS = 2_100_000_000
_SECOND_NS = 1_000_000_000
_ROW = struct.Struct("<QQQQQQ32sQ")


class StatCache:
    """path and stat → pointer, in the tables of one repository."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def load(self, files: Sequence[tuple[bytes, os.stat_result]]) -> list[Pointer | None]:
        """For each (absolute path, stat): the pointer of its content if it is unchanged."""
        rows = self._tables.get_many("files", [hash_bytes(path) for path, _ in files])
        return [_parse(row, status) for row, (_, status) in zip(rows, files, strict=True)]

    def keep(self, files: Iterable[tuple[bytes, os.stat_result, Pointer]]) -> None:
        """Remember what was read of files whose stat was the same before and after."""
        now = time.time_ns()
        rows = [
            (hash_bytes(path), _pack(status, pointer))
            for path, status, pointer in files
            if _age_ns(status, now) >= _grain_ns(status)
        ]
        self._tables.put_many("files", sorted(rows))


def wait_until_settled(status: os.stat_result) -> bool:
    """Sleep until the file's last change is older than its clock's grain. True if it slept, and
    the file should be looked at once more. A change time in the future is not waited for."""
    missing = _grain_ns(status) - _age_ns(status, time.time_ns())
    if not 0 < missing <= _COARSE_GRAIN_NS:
        return False
    time.sleep(missing / _SECOND_NS)
    return True


def _age_ns(status: os.stat_result, now_ns: int) -> int:
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns)


def _grain_ns(status: os.stat_result) -> int:
    whole_seconds = not (status.st_mtime_ns % _SECOND_NS or status.st_ctime_ns % _SECOND_NS)
    return _COARSE_GRAIN_NS if whole_seconds else _FINE_GRAIN_NS


def same_file_state(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two stats of a path show the same file with the same content."""
    return _fields(one) == _fields(other)


def _fields(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _pack(status: os.stat_result, pointer: Pointer) -> bytes:
    return _ROW.pack(*_unsigned(status), pointer.size, pointer.content, pointer.chunks)


def _parse(row: bytes | None, status: os.stat_result) -> Pointer | None:
    if row is None or len(row) != _ROW.size:
        return None
    *fields, size, content, chunks = _ROW.unpack(row)
    return Pointer(ChunkId(content), size, chunks) if fields == _unsigned(status) else None


def _unsigned(status: os.stat_result) -> list[int]:
    # Times before 1970 are negative.
    return [field % 2**64 for field in _fields(status)]
