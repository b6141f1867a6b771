"""The sizes of files as git's index remembers them, without a stat of each.

For a file that git calls clean that is its size. Read from the index file itself, of which nothing
else is wanted here (index-format.txt); all other reads of it are in `store.git_index`.
"""

import struct
from pathlib import Path

_HEADER = struct.Struct(">4sII")
# What follows ten fields of stat data: size, object id, flags.
_ENTRY = struct.Struct(">36xI20xH")
_EXTENDED_FLAGS = struct.Struct(">H")
_EXTENDED = 1 << 14
_SKIP_WORKTREE = 1 << 14
_STAGE = 3 << 12
_SPECIAL = _STAGE | _EXTENDED
_LONGEST_NAME = 0xFFF
# Version 4 cuts names that begin alike.
_VERSIONS = (2, 3)


def load_sizes_between(index: Path, least_bytes: int, most_bytes: int) -> dict[bytes, int] | None:
    """The files of such a size in git's index, with their sizes, and with 0 those that git has to
    look at again. Conflicts and what is to have no file (skip-worktree) are left out.

    None where the index is not there, or is not of a form that is read here.
    """
    try:
        return _parse(index.read_bytes(), least_bytes, most_bytes)
    except (OSError, ValueError, struct.error):
        return None


def _parse(raw: bytes, least: int, most: int) -> dict[bytes, int] | None:
    magic, version, count = _HEADER.unpack_from(raw)
    if magic != b"DIRC" or version not in _VERSIONS:
        return None
    found: dict[bytes, int] = {}
    start, read_entry = _HEADER.size, _ENTRY.unpack_from
    for _ in range(count):
        size, flags = read_entry(raw, start)
        name = start + _ENTRY.size + (2 if flags & _EXTENDED else 0)
        length = flags & _LONGEST_NAME
        if length == _LONGEST_NAME:
            length = raw.index(b"\0", name + length) - name
        is_wanted = least <= size <= most or not size
        if is_wanted and (not flags & _SPECIAL or _is_in_work_tree(raw, start, flags)):
            found[raw[name : name + length]] = size
        # Padded with 1 to 8 NUL bytes, to a multiple of 8.
        start += (name - start + length + 8) & ~7
    return found


def _is_in_work_tree(raw: bytes, start: int, flags: int) -> bool:
    """Of an entry in conflict, or one with more flags."""
    if flags & _STAGE:
        return False
    (more,) = _EXTENDED_FLAGS.unpack_from(raw, start + _ENTRY.size)
    return not more & _SKIP_WORKTREE
