"""The stat cache: which content a file had when it was last read, so that it need not be again.

A row counts only if every stat field is as it was. That is proof of an unchanged file because a
file is read only once its last change is older than the clock's grain (`wait_until_settled`): any
later change then shows in its ctime.
"""

import struct
import time
from collections.abc import Iterable, Sequence

from store.file_state import FileState, Status
from store.ids import ChunkId, hash_bytes
from store.pointer import Pointer
from store.tables import Tables

# Linux stamps files from a clock that ticks every 1 to 10 ms; some file systems keep whole seconds,
# FAT every second one.
_FINE_GRAIN_NS = 20_000_000
_COARSE_GRAIN_NS = 2_100_000_000
_SECOND_NS = 1_000_000_000
# A row: the identity of the file's state, then size, content and chunks of the pointer.
_POINTER = struct.Struct("<Q32sQ")
_ROW_BYTES = 40 + _POINTER.size
_KEY_BYTES = 32
_LOOKUPS_AT_ONCE = 8192


class StatCache:
    """path and stat → pointer, in the tables of one repository."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def load(self, files: Sequence[tuple[bytes, Status]]) -> list[Pointer | None]:
        """For each (absolute path, stat): the pointer of its content if it is unchanged."""
        found: list[Pointer | None] = []
        for start in range(0, len(files), _LOOKUPS_AT_ONCE):
            batch = files[start : start + _LOOKUPS_AT_ONCE]
            rows = self._tables.get_many("files", [hash_bytes(path) for path, _ in batch])
            found += [_parse(row, status) for row, (_, status) in zip(rows, batch, strict=True)]
        return found

    def keep(self, files: Iterable[tuple[bytes, Status, Pointer]]) -> None:
        """Remember what was read of files whose stat was the same before and after."""
        now = time.time_ns()
        # Key and value in one piece each: of a million rows all are held until they are in order.
        rows = [
            hash_bytes(path) + _pack(status, pointer)
            for path, status, pointer in files
            if _age_ns(status, now) >= _grain_ns(status)
        ]
        rows.sort()
        self._tables.put_many("files", ((row[:_KEY_BYTES], row[_KEY_BYTES:]) for row in rows))


def wait_until_settled(status: Status) -> bool:
    """Sleep until the file's last change is older than its clock's grain. True if it slept, and
    the file should be looked at once more. A change time in the future is not waited for."""
    missing = _grain_ns(status) - _age_ns(status, time.time_ns())
    if not 0 < missing <= _COARSE_GRAIN_NS:
        return False
    time.sleep(missing / _SECOND_NS)
    return True


def _age_ns(status: Status, now_ns: int) -> int:
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns)


def _grain_ns(status: Status) -> int:
    whole_seconds = not (status.st_mtime_ns % _SECOND_NS or status.st_ctime_ns % _SECOND_NS)
    return _COARSE_GRAIN_NS if whole_seconds else _FINE_GRAIN_NS


def same_file_state(one: Status, other: Status) -> bool:
    """Whether two stats of a path show the same file with the same content."""
    return FileState.of(one).identity == FileState.of(other).identity


def _pack(status: Status, pointer: Pointer) -> bytes:
    numbers = _POINTER.pack(pointer.size, pointer.content, pointer.chunks)
    return FileState.of(status).identity + numbers


def _parse(row: bytes | None, status: Status) -> Pointer | None:
    if row is None or len(row) != _ROW_BYTES or not row.startswith(FileState.of(status).identity):
        return None
    size, content, chunks = _POINTER.unpack_from(row, _ROW_BYTES - _POINTER.size)
    return Pointer(ChunkId(content), size, chunks)
