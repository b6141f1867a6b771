"""Git's index as a file (gitformat-index(5)), read and written in one pass over its bytes.

libgit2 is asked entry by entry, and of a million entries that takes longer than to read their
files. What is not plain here (version 4, extensions that change what entries mean, a checksum that
does not hold) is not read, and left to libgit2.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from store.file_state import Status

_HEADER = struct.Struct(">4sII")
_MAGIC = b"DIRC"
_VERSION, _EXTENDED_VERSION = 2, 3
_CHECKSUM_BYTES = 20
_EXTENSION = struct.Struct(">4sI")
# Seconds and nanoseconds of ctime and mtime, device, inode, mode, owner, group, size; id; flags.
_ENTRY = struct.Struct(">10I20sH")
_MORE_FLAGS = struct.Struct(">H")
# What of it is looked at: seconds of mtime, mode, id, flags.
_GLANCE = struct.Struct(">8xi12xI12x20sH")
_SIZE_OFFSET = 36
_FLAGS_OFFSET = 60
_EXTENDED = 1 << 14
_STAGE_SHIFT = 12
_LONGEST_NAME = 0xFFF
_SKIP_WORKTREE = 1 << 14
_U32 = 0xFFFFFFFF
_ENTRIES_AT_ONCE = 8192
_SECOND_NS = 1_000_000_000


class IndexFileEntry(NamedTuple):
    """An entry: its path, raw blob id, mode, stage (0 where it is not in conflict), whether it is
    there on purpose without a file, the second of its mtime, and all of it as it is stored."""

    path: bytes
    blob: bytes
    mode: int
    stage: int
    skipped: bool
    mtime_seconds: int
    stored: bytes

    def distrusted(self) -> bytes:
        """As stored, but with a size of 0."""
        return self.stored[:_SIZE_OFFSET] + bytes(4) + self.stored[_SIZE_OFFSET + 4 :]


class NotPlain(Exception):
    """An index that is not to be read here; it may be sound all the same."""


def read_entries(raw: bytes) -> Iterator[IndexFileEntry]:
    """The entries of an index, in their order. Raises NotPlain, at the latest behind the last."""
    try:
        count = _checked_count(raw)
        start, glance = _HEADER.size, _GLANCE.unpack_from
        # A handful of them, which need not be held a million times.
        modes: dict[int, int] = {}
        for _ in range(count):
            mtime, mode, blob, flags = glance(raw, start)
            name, more = start + _ENTRY.size, 0
            if flags & _EXTENDED:
                (more,) = _MORE_FLAGS.unpack_from(raw, name)
                name += _MORE_FLAGS.size
            length = flags & _LONGEST_NAME
            if length == _LONGEST_NAME:
                length = raw.index(b"\0", name + length) - name
            # Padded with 1 to 8 NUL bytes, to a multiple of 8.
            end = start + ((name - start + length + 8) & ~7)
            # The name ends where its length says and at a NUL; libgit2 looks only for the NUL.
            if raw.find(b"\0", name, end) != name + length:
                raise NotPlain
            yield IndexFileEntry(
                raw[name : name + length],
                blob,
                modes.setdefault(mode, mode),
                flags >> _STAGE_SHIFT & 3,
                more & _SKIP_WORKTREE != 0,
                mtime,
                raw[start:end],
            )
            start = end
        _check_extensions(raw, start)
    except (struct.error, ValueError) as error:
        raise NotPlain from error


def _checked_count(raw: bytes) -> int:
    """How many entries there are."""
    magic, version, count = _HEADER.unpack_from(raw)
    if magic != _MAGIC or version not in (_VERSION, _EXTENDED_VERSION):
        raise NotPlain
    body = memoryview(raw)[:-_CHECKSUM_BYTES]
    if hashlib.sha1(body, usedforsecurity=False).digest() != raw[-_CHECKSUM_BYTES:]:
        raise NotPlain
    return int(count)


def _check_extensions(raw: bytes, start: int) -> None:
    """Raise NotPlain unless every extension may be passed over by who does not know it."""
    end = len(raw) - _CHECKSUM_BYTES
    while start < end:
        signature, size = _EXTENSION.unpack_from(raw, start)
        if not signature[:1].isupper():
            raise NotPlain
        start += _EXTENSION.size + size
    if start != end:
        raise NotPlain


def rebuild_index_file(
    raw: bytes, new: Mapping[bytes, bytes], removed: Collection[bytes], distrusted_from: int
) -> Iterator[bytes]:
    """The index, in parts: with the `new` entries, as `encode_entry` has them by path; without
    those that are `removed` and those that the new ones leave no room for, files that became
    folders and what was below a folder that became a file. An entry whose file changed in the
    second `distrusted_from` or after loses its size, which has git compare contents.

    Raises NotPlain, also where the new entries themselves leave each other no room.
    """
    folders = _folders_above_all(new)
    if not folders.isdisjoint(new):
        raise NotPlain
    # For each folder that was met, whether it, or one above it, is a file now.
    displaced: dict[bytes, bool] = {b"": False}
    merged: list[tuple[bytes, bytes]] = []
    for entry in read_entries(raw):
        path = entry.path
        if path in new or path in removed or path in folders:
            continue
        if not _is_displaced(path.rpartition(b"/")[0], new, displaced):
            trusted = entry.mtime_seconds < distrusted_from
            merged.append((path, entry.stored if trusted else entry.distrusted()))
    merged += new.items()
    # Stable: the stages of a path in conflict stay in their order.
    merged.sort(key=itemgetter(0))
    return encode_index_file([stored for _, stored in merged])


def _folders_above_all(paths: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    # By way of the lowest, which many files share.
    for folder in {path.rpartition(b"/")[0] for path in paths}:
        above = folder
        while above and above not in found:
            found.add(above)
            above = above.rpartition(b"/")[0]
    return found


def _is_displaced(folder: bytes, new: Mapping[bytes, bytes], known: dict[bytes, bool]) -> bool:
    found = known.get(folder)
    if found is None:
        found = folder in new or _is_displaced(folder.rpartition(b"/")[0], new, known)
        known[folder] = found
    return found


def encode_entry(
    path: bytes, mode: int, blob: bytes, status: Status | None, skipped: bool
) -> bytes:
    """An entry that is not in conflict, as it is stored; without a stat, git looks for itself."""
    flags = min(len(path), _LONGEST_NAME) | (_EXTENDED if skipped else 0)
    more = _MORE_FLAGS.pack(_SKIP_WORKTREE) if skipped else b""
    entry = _ENTRY.pack(*_stat_fields(status, mode), blob, flags) + more + path
    return entry + bytes(8 - len(entry) % 8)


def _stat_fields(status: Status | None, mode: int) -> tuple[int, ...]:
    """As git's fill_stat_data has them: times split, everything cut to 32 bits."""
    if status is None:
        return (0, 0, 0, 0, 0, 0, mode, 0, 0, 0)
    ctime, ctime_ns = divmod(status.st_ctime_ns, _SECOND_NS)
    mtime, mtime_ns = divmod(status.st_mtime_ns, _SECOND_NS)
    return (
        ctime & _U32,
        ctime_ns,
        mtime & _U32,
        mtime_ns,
        status.st_dev & _U32,
        status.st_ino & _U32,
        mode,
        status.st_uid & _U32,
        status.st_gid & _U32,
        status.st_size & _U32,
    )


def encode_index_file(entries: Sequence[bytes]) -> Iterator[bytes]:
    """The file of these entries as stored, in order of path and stage, in parts. It has no
    extension: what they say would not hold any more, and git makes them anew."""
    is_extended = any(entry[_FLAGS_OFFSET] & _EXTENDED >> 8 for entry in entries)
    version = _EXTENDED_VERSION if is_extended else _VERSION
    part = _HEADER.pack(_MAGIC, version, len(entries))
    hasher = hashlib.sha1(part, usedforsecurity=False)
    yield part
    for start in range(0, len(entries), _ENTRIES_AT_ONCE):
        part = b"".join(entries[start : start + _ENTRIES_AT_ONCE])
        hasher.update(part)
        yield part
    yield hasher.digest()
