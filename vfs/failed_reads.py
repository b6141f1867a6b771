"""FailedReads: reads that failed just now, so that the kernel's second try fails at once.

When a read-ahead fails, the kernel asks once more for the page that somebody waits for. Without a
memory of the failure its reader would wait for two deadlines, not one. Pure: the caller has the
clock.
"""

from typing import NamedTuple

# The second try comes at once; a reader who tries again by himself is to be served anew.
_MEMORY_SECONDS = 0.5
_MOST_FAILURES = 1024


class _Failure(NamedTuple):
    offset: int
    end: int
    time: float


class FailedReads:
    """The last failed range of each file that failed lately."""

    def __init__(self) -> None:
        # In order of time; never more than _MOST_FAILURES.
        self._failures: dict[int, _Failure] = {}

    def note(self, inode: int, offset: int, size: int, now: float) -> None:
        """A read of `size` bytes at `offset` failed at `now`, in seconds of any steady clock."""
        self._failures.pop(inode, None)
        self._failures[inode] = _Failure(offset, offset + size, now)
        if len(self._failures) > _MOST_FAILURES:
            del self._failures[next(iter(self._failures))]

    def covers(self, inode: int, offset: int, now: float) -> bool:
        """Whether a read that begins at `offset` is the kernel's second try of a failed one."""
        failure = self._failures.get(inode)
        if failure is None:
            return False
        if now - failure.time > _MEMORY_SECONDS:
            del self._failures[inode]
            return False
        return failure.offset <= offset < failure.end
