"""Sets of byte ranges of one file, kept as sorted, disjoint pairs packed into bytes. Pure.

Packed form, as it stands in the cache index: for each range u32 start, u32 end (exclusive),
little-endian, in order, with a gap between any two.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence

EMPTY = b""
_PAIR = struct.Struct("<II")


def pairs(packed: bytes) -> list[tuple[int, int]]:
    """The ranges as (start, end); a torn row (not whole pairs) counts as no ranges."""
    if len(packed) % _PAIR.size:
        return []
    return list(_PAIR.iter_unpack(packed))


def pack(found: Iterable[tuple[int, int]]) -> bytes:
    """The packed form of ranges as `pairs` gives them."""
    return b"".join(_PAIR.pack(*pair) for pair in found)


def covers(packed: bytes, start: int, end: int) -> bool:
    """Whether every byte of start … end lies in the set."""
    return covered_by(pairs(packed), start, end)


def covered_by(found: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """As `covers`, for ranges as `pairs` gives them: for whoever asks many times."""
    index = bisect_right(found, (start, 1 << 32)) - 1
    return index >= 0 and found[index][1] >= end


def add(packed: bytes, start: int, end: int) -> bytes:
    """The set with start … end in it; touching ranges become one."""
    return union(packed, _PAIR.pack(start, end))


def union(packed: bytes, other: bytes) -> bytes:
    """Both sets in one; touching ranges become one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(pairs(packed) + pairs(other)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return pack(merged)


def remove(packed: bytes, start: int, end: int) -> bytes:
    """The set without start … end."""
    kept = []
    for low, high in pairs(packed):
        kept += [(a, b) for a, b in ((low, min(high, start)), (max(low, end), high)) if a < b]
    return b"".join(_PAIR.pack(*pair) for pair in kept)


def total(packed: bytes) -> int:
    """How many bytes the set holds."""
    return sum(end - start for start, end in pairs(packed))
