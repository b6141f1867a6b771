"""Where files are cut: content-defined chunks by FastCDC, and the parameters of the cutting.

The cut points are part of the data's identity: a file cut in another way is another list of
chunks, and shares nothing with what is stored already.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Protocol

from store.errors import MalformedObject

MAX_CHUNK_BYTES = 4 << 20

# What pyfastcdc accepts, save the upper bound of `most`, which is ours (the library's is 16 MiB).
_LEAST_RANGE = range(64, (1 << 20) + 1)
_MEAN_RANGE = range(256, (4 << 20) + 1)
_MOST_RANGE = range(1024, MAX_CHUNK_BYTES + 1)


@dataclass(frozen=True, slots=True)
class ChunkingParameters:
    """The sizes that steer the cutting, in bytes.

    A chunk is at least about `least_bytes` long (one byte less where that is odd; the end of a
    file may be shorter still) and at most `most_bytes`. Raises MalformedObject for sizes that
    cannot be used, since they come from a remote.
    """

    least_bytes: int
    mean_bytes: int
    most_bytes: int

    def __post_init__(self) -> None:
        sizes = (self.least_bytes, self.mean_bytes, self.most_bytes)
        allowed = zip(sizes, (_LEAST_RANGE, _MEAN_RANGE, _MOST_RANGE), strict=True)
        if not all(size in bounds for size, bounds in allowed) or sorted(sizes) != list(sizes):
            raise MalformedObject(
                f"chunking parameters {self.least_bytes}/{self.mean_bytes}/{self.most_bytes} bytes"
                " (least/mean/most) cannot be used"
            )


DEFAULT_CHUNKING = ChunkingParameters(256 << 10, 1 << 20, 4 << 20)


class SupportsReadinto(Protocol):
    """A binary file, pipe or buffer that fills memory of ours."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read up to the length of `buffer` into it; 0 is the end, None would have to wait."""
        ...


def read_chunks(
    file: SupportsReadinto, parameters: ChunkingParameters, window_bytes: int = 32 << 20
) -> Iterator[bytes]:
    """The consecutive chunks of what is left of `file`: none of them empty, none for an empty file.

    The cut points are those of the whole stream in one buffer, whatever `window_bytes` is and
    however short the reads are. Holds `window_bytes` and about two chunks in memory.
    """
    head = memoryview(bytearray(parameters.least_bytes + 1))
    filled = _fill(file, head, 0)
    if filled < len(head):
        # Too short to be cut: most files of a data set end here, without the cost of a window.
        if filled:
            yield bytes(head[:filled])
        return
    # Anonymous memory costs nothing until it is filled; clearing a bytearray of that size took
    # 24 ms. At most one chunk is carried over a border, so every round reads a whole window.
    window = memoryview(mmap(-1, window_bytes + parameters.most_bytes))
    window[:filled] = head
    yield from _cut_windows(file, parameters, window, filled)


def _cut_windows(
    file: SupportsReadinto, parameters: ChunkingParameters, window: memoryview, carried: int
) -> Iterator[bytes]:
    """The chunks of the `carried` bytes at the start of the window and of the rest of the file."""
    # Here and not above: a mount wants the limits of this module, not the library.
    from pyfastcdc import FastCDC

    cutter = FastCDC(
        parameters.mean_bytes,
        min_size=parameters.least_bytes,
        max_size=parameters.most_bytes,
        normalized_chunking=1,
    )
    while True:
        filled = _fill(file, window, carried)
        at_end = filled < len(window)
        done = 0
        for chunk in cutter.cut_buf(window[:filled]):
            end = chunk.offset + chunk.length
            # The library takes the end of a buffer for the end of the file: a cut there says
            # nothing, and that piece is cut again with what follows it. Any earlier cut was
            # decided by the bytes before it alone.
            if end == filled and not at_end:
                break
            yield bytes(window[chunk.offset : end])
            done = end
        if at_end:
            return
        carried = filled - done
        window[:carried] = window[done:filled]


def _fill(file: SupportsReadinto, window: memoryview, filled: int) -> int:
    """Read on until the window is full or the file ends; how many bytes of it are filled then."""
    while filled < len(window):
        count = file.readinto(window[filled:])
        assert count is not None, "a file to be cut must not be in non-blocking mode"
        if count == 0:
            break
        filled += count
    return filled
