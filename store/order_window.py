"""OrderWindow: how far ahead of a reader of an order to fetch. Pure.

The window begins behind the last file that was read and holds a bounded number of bytes that were
fetched for files in it. Reads of files move it on: one in the window, or a little behind its end,
at once. One far ahead does so only where the next reads are near it, since somebody who looks into
a single file does not read the order. What is read late, behind the window, says nothing.
"""

from collections import deque

_LEAST_SHARE = 4
_NEAR_FILES = 256


class OrderWindow:
    """Places in an order, and the bytes that were fetched for them.

    Invariant: `_fetched` has, in order of place, only places from `position` on, with the bytes
    fetched for each; `fetched_bytes` is their sum.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        # The first place that has not been read and not been passed over.
        self.position = 0
        # The first place that has not been planned yet.
        self.planned = 0
        self.fetched_bytes = 0
        self._fetched: deque[tuple[int, int]] = deque()
        # A lone read far ahead.
        self._heard: int | None = None

    @property
    def room_bytes(self) -> int:
        """How many more bytes may be fetched now."""
        return max(0, self.most_bytes - self.fetched_bytes)

    def next_step_bytes(self, least_bytes: int, left_bytes: int) -> int | None:
        """How many bytes the next step may fetch, where `left_bytes` at the most are left of the
        order. None where it is better to wait for the reader until there is room for a quarter of
        the window, and for `least_bytes`: few large steps need fewer requests than many small
        ones."""
        worthwhile_bytes = min(self.most_bytes // _LEAST_SHARE, left_bytes)
        return self.room_bytes if self.room_bytes >= max(worthwhile_bytes, least_bytes) else None

    def note_fetched(self, place: int, byte_count: int) -> None:
        """So many bytes are fetched for a place, which comes after those before."""
        if place >= self.position and byte_count:
            self._fetched.append((place, byte_count))
            self.fetched_bytes += byte_count

    def note_planned(self, place: int) -> None:
        """All before that place is fetched, or need not be."""
        self.planned = max(self.planned, place)

    def note_read(self, place: int) -> bool:
        """The file at that place is being read; whether the window moves."""
        if place < self.position:
            return False
        if place >= max(self.planned, self.position) + _NEAR_FILES:
            heard, self._heard = self._heard, place
            if heard is None or heard == place or abs(place - heard) > _NEAR_FILES:
                return False
        self._move_to(place + 1)
        return True

    def _move_to(self, position: int) -> None:
        self.position = position
        self.note_planned(position)
        self._heard = None
        while self._fetched and self._fetched[0][0] < position:
            self.fetched_bytes -= self._fetched.popleft()[1]
