"""Pointer: the small text that git keeps in place of a tracked file, and its one spelling.

Whatever is not spelled exactly so is an ordinary file, never an error: a user's own file may begin
with the same words.
"""

import re
from collections.abc import Sequence
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
# The lines of one of many texts that are joined by NULs. What stands in the lines is looked at
# afterwards, column by column: twice as quick as to match each character.
_LINES = re.compile(
    rb"revfs 1\nblake3 ([^\n]{64})\nsize ([^\n]{1,16})\n(?:chunks ([^\n]{1,16})\n)?\0"
)
_LEAST_LINES_BYTES = len("revfs 1\nblake3 \nsize \n\0") + 64
_CHUNKS_LINE_BYTES = len("chunks \n")


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


PointerParts = tuple[bytes, int, int]
"""Content id, size and chunks: a pointer without the cost of an object for each of a million."""


def parse_pointer(blob: bytes) -> Pointer | None:
    """The pointer that `blob` spells, or None if it is an ordinary file.

    A text whose numbers no file can have (a size above MAX_FILE_BYTES, above what so many chunks
    can hold, or below one byte a chunk) is an ordinary file too.
    """
    parts = _parse(blob)
    return None if parts is None else Pointer(ChunkId(parts[0]), *parts[1:])


def parse_pointers(blobs: Sequence[bytes]) -> list[PointerParts | None]:
    """As `parse_pointer`, for many at once, in their order; quickest where all are pointers."""
    columns = _match_columns(blobs)
    if columns is None:
        return [_parse(blob) for blob in blobs]
    contents, sizes, chunks = columns
    if max(chunks) > 1 or max(sizes) > MAX_CHUNK_BYTES:
        found = zip(contents, sizes, chunks, strict=True)
        return [parts if _is_possible(*parts[1:]) else None for parts in found]
    return list(zip(contents, sizes, chunks, strict=True))


def _parse(blob: bytes) -> PointerParts | None:
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
    return bytes.fromhex(content.decode("ascii")), size, chunks


def _match_columns(blobs: Sequence[bytes]) -> tuple[list[bytes], list[int], list[int]] | None:
    """Content ids, sizes and chunks of texts that are all spelled like pointers; else None."""
    joined = b"\0".join(blobs) + b"\0"
    matches: list[tuple[bytes, bytes, bytes]] = _LINES.findall(joined)
    if not matches or len(matches) != len(blobs):
        return None
    contents, sizes, chunks = zip(*matches, strict=True)
    several = list(filter(None, chunks))
    matched_bytes = _LEAST_LINES_BYTES * len(matches) + sum(map(len, sizes))
    matched_bytes += _CHUNKS_LINE_BYTES * len(several) + sum(map(len, several))
    # As many matches as NULs between texts, and no byte outside: each match is one text.
    if matched_bytes != len(joined) or not _are_numbers(sizes) or not _are_numbers(several):
        return None
    digits = b"".join(contents)
    if digits.translate(None, b"0123456789abcdef") or b"1" in several:
        return None
    raw = bytes.fromhex(digits.decode("ascii"))
    ids = [raw[start : start + 32] for start in range(0, len(raw), 32)]
    return ids, list(map(int, sizes)), [int(text or b"1") for text in chunks]


def _are_numbers(texts: Sequence[bytes]) -> bool:
    """Whether all are decimal numbers without a sign or a leading zero."""
    return all(map(bytes.isdigit, texts)) and b"0" not in {text[:1] for text in texts}


def begins_like_pointer(content: bytes) -> bool:
    """Whether a file that is no pointer begins as one does: most often a pointer text that somebody
    has edited, thinking that it was the file."""
    return content.startswith(b"revfs 1\nblake3 ") and len(content) <= _MOST_EDITED_BYTES


def _is_possible(size: int, chunks: int) -> bool:
    """Whether a file of `size` bytes can consist of that many chunks."""
    return 1 <= chunks <= size <= min(MAX_FILE_BYTES, chunks * MAX_CHUNK_BYTES)
