"""OrderPaths: a list of paths in memory, and where in it each of them stands. A million paths of 50
bytes take 80 MB.
"""

from array import array
from collections.abc import Iterable

_EMPTY = 0


class OrderPaths:
    """Paths in an order; one may stand in it several times.

    They are appended first, then `finish` is called, and only then they are looked up.
    """

    def __init__(self) -> None:
        # One after the other; path i ends at `_ends[i]`.
        self._text = bytearray()
        self._ends = array("Q")
        self._hashes = array("q")
        # A table with open addresses: the place in the order + 1 of the last path of each hash...
        self._slots = array("I", [_EMPTY])
        # ... and for each path the place + 1 of the one of the same hash before it.
        self._before = array("I")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, paths: Iterable[bytes]) -> None:
        """Add paths at the end."""
        for path in paths:
            self._text += path
            self._ends.append(len(self._text))
            self._hashes.append(hash(path))

    def finish(self) -> None:
        """Make the table. Takes a second for a million: call it in a thread."""
        size = 1 << (2 * len(self) + 1).bit_length()
        self._slots = array("I", bytes(4 * size))
        self._before = array("I", bytes(4 * len(self)))
        for place, hashed in enumerate(self._hashes):
            slot = self._slot_of(hashed)
            self._before[place] = self._slots[slot]
            self._slots[slot] = place + 1

    def path(self, place: int) -> bytes:
        """The path at that place."""
        start = self._ends[place - 1] if place else 0
        return bytes(self._text[start : self._ends[place]])

    def nearest(self, path: bytes, place: int) -> int | None:
        """Where the path stands in the order: of several places the one nearest to `place`. None
        where it is not in it."""
        found = self._slots[self._slot_of(hash(path))]
        best: int | None = None
        while found != _EMPTY:
            here = found - 1
            if best is not None and abs(here - place) > abs(best - place):
                break
            best = here
            found = self._before[here]
        return best

    def _slot_of(self, hashed: int) -> int:
        """The slot of paths of that hash, or the empty one where it would be. 64 bits of a hash
        stand for the path: a mix-up in a billion would only move a window."""
        mask = len(self._slots) - 1
        slot = hashed & mask
        while (found := self._slots[slot]) != _EMPTY and self._hashes[found - 1] != hashed:
            slot = (slot + 1) & mask
        return slot
