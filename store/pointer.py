"""Pointer: the small text that git keeps in place of a tracked file, and its one spelling.

Whatever is not spelled exactly so is an ordinary file, never an error: a user's own file may begin
with the same words.
"""

import re
from dataclasses import dataclass

from store.chunking import MAX_CHUNK_BYTES
from store.ids import ChunkId

MAX_POINTER_BYTES = 200
MAX_FILE_BYTES = 2**53
"""Sizes above this are not exact in a double, and JSON readers keep numbers in doubles."""

# A file that is really about pointers is longer, or begins with other words.
_MOST_EDITED_BYTES = 4096
# No sign, no leading zero, at most the 16 digits of MAX_FILE_BYTES; `chunks 1` is never written.
_SPELLING = re.compile(
    rb"revfs 1\n"
    rb"blake3 ([0-9a-f]{64})\n"
    rb"size ([1-9][0-9]{0,15})\n"
    rb"(?:chunks ([1-9][0-9]{0,15})\n)?"
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What git knows of one tracked file.

    `content` is the id of its only chunk, or of its chunk list where there are more. `size` is in
    bytes, 1 to MAX_FILE_BYTES: an empty file has no pointer, it is git's empty blob.
    """

    content: ChunkId
    size: int
    chunks: int = 1

    def to_bytes(self) -> bytes:
        """The one spelling of this pointer, which `parse_pointer` reads back."""
        assert _is_possible(self.size, self.chunks), self
        chunks = f"chunks {self.chunks}\n" if self.chunks > 1 else ""
        text = f"revfs 1\nblake3 {self.content.hex()}\nsize {self.size}\n{chunks}"
        return text.encode("ascii")


def parse_pointer(blob: bytes) -> Pointer | None:
    """The pointer that `blob` spells, or None if it is an ordinary file.

    A text whose numbers no file can have (a size above MAX_FILE_BYTES, above what so many chunks
    can hold, or below one byte a chunk) is an ordinary file too.
    """
    if len(blob) > MAX_POINTER_BYTES:
        return None
    match = _SPELLING.fullmatch(blob)
    if match is None:
        return None
    content, size_text, chunks_text = match.groups()
    size = int(size_text)
    chunks = 1 if chunks_text is None else int(chunks_text)
    if chunks_text == b"1" or not _is_possible(size, chunks):
        return None
    return Pointer(ChunkId(bytes.fromhex(content.decode("ascii"))), size, chunks)


def begins_like_pointer(content: bytes) -> bool:
    """Whether a file that is no pointer begins as one does: most often a pointer text that somebody
    has edited, thinking that it was the file."""
    return content.startswith(b"revfs 1\nblake3 ") and len(content) <= _MOST_EDITED_BYTES


def _is_possible(size: int, chunks: int) -> bool:
    """Whether a file of `size` bytes can consist of that many chunks."""
    return 1 <= chunks <= size <= min(MAX_FILE_BYTES, chunks * MAX_CHUNK_BYTES)
