"""Directories of a revision: git's raw trees with their pointers parsed, in one compact form.

A directory is a function of its tree id, so the packed form can be kept by tree id for ever:

    u32 count, then per entry (51 bytes): u8 kind, u64 size in bytes, u32 chunks, u16 name length,
    u32 zero, 32-byte id (content id, or git id and 12 zero bytes); then the names, back to back.
"""

import logging
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

from store.chunk_list import MAX_CHUNKS_PER_FILE
from store.errors import MalformedObject
from store.ids import ChunkId, GitId
from store.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer

log = logging.getLogger(__name__)

MAX_NAME_BYTES = 255
MAX_DEPTH = 256
"""How deep folders may be nested, the root included; what lies deeper is not shown."""
MAX_SYMLINK_BYTES = 4095
GIT_ID_BYTES = 20

_HEAD = struct.Struct("<I")
_ENTRY = struct.Struct("<BQIHI32s")
# Code points that HFS+ ignores inside a name, so that ".g<U+200C>it" opens ".git" there.
_HFS_IGNORED = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)


class Kind(IntEnum):
    """What an entry of a directory is."""

    FOLDER = 0
    TRACKED = 1
    TRACKED_EXECUTABLE = 2
    PLAIN = 3
    PLAIN_EXECUTABLE = 4
    SYMLINK = 5
    SUBMODULE = 6


# By value: to look a kind up costs far less than to make it, and some do so for every file.
_KINDS = tuple(Kind)
TRACKED_KINDS = frozenset((Kind.TRACKED, Kind.TRACKED_EXECUTABLE))
EXECUTABLE_KINDS = frozenset((Kind.TRACKED_EXECUTABLE, Kind.PLAIN_EXECUTABLE))
FOLDER_KINDS = frozenset((Kind.FOLDER, Kind.SUBMODULE))


class Entry(NamedTuple):
    """One name in a directory. `raw_id` is 32 bytes: a content id for tracked kinds, else a git
    id and zeros. `size` is in bytes; 0 for folders. `chunks` is 0 but for tracked kinds."""

    name: bytes
    kind: Kind
    size: int
    chunks: int
    raw_id: bytes

    @property
    def git_id(self) -> GitId:
        """The git object behind a folder, plain file, symlink or submodule."""
        return GitId(self.raw_id[:GIT_ID_BYTES].hex())

    @property
    def tree(self) -> bytes:
        """The raw tree id behind a folder."""
        return self.raw_id[:GIT_ID_BYTES]

    @property
    def pointer(self) -> Pointer:
        """The pointer behind a tracked file."""
        return Pointer(ChunkId(self.raw_id), self.size, self.chunks)


class Directory:
    """The entries of one directory, sorted by name, in a few compact columns."""

    __slots__ = ("_chunks", "_ids", "_kinds", "_names", "_sizes")

    def __init__(
        self,
        names: list[bytes],
        kinds: bytes,
        sizes: "array[int]",
        chunks: "array[int]",
        ids: bytes,
    ) -> None:
        self._names = names
        self._kinds = kinds
        self._sizes = sizes
        self._chunks = chunks
        self._ids = ids

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Entry]:
        # Column by column, without a Python call for each: status walks all files of a revision.
        kinds = map(_KINDS.__getitem__, self._kinds)
        ids = (self._ids[start : start + 32] for start in range(0, len(self._ids), 32))
        return map(Entry, self._names, kinds, self._sizes, self._chunks, ids)

    def entry(self, number: int) -> Entry:
        """The entry of that number; IndexError past the last."""
        return Entry(
            self._names[number],
            _KINDS[self._kinds[number]],
            self._sizes[number],
            self._chunks[number],
            self._ids[32 * number : 32 * number + 32],
        )

    def number_of(self, name: bytes) -> int | None:
        """The number of the entry of that name, or None."""
        number = bisect_left(self._names, name)
        return number if number < len(self._names) and self._names[number] == name else None

    def folder_rank(self, number: int) -> int:
        """How many folders (submodules, which show as empty ones, included) stand before entry
        `number`."""
        before = self._kinds[:number]
        return before.count(Kind.FOLDER) + before.count(Kind.SUBMODULE)

    def folder_numbers(self) -> list[int]:
        """The numbers of the entries that are folders."""
        return [number for number, kind in enumerate(self._kinds) if kind in FOLDER_KINDS]

    def pack(self) -> bytes:
        """The packed form."""
        parts = [_HEAD.pack(len(self))]
        parts += [_ENTRY.pack(e.kind, e.size, e.chunks, len(e.name), 0, e.raw_id) for e in self]
        return b"".join(parts + self._names)

    @staticmethod
    def from_entries(entries: list[Entry]) -> "Directory":
        """A directory of these entries, whatever their order."""
        entries = sorted(entries)
        return Directory(
            [entry.name for entry in entries],
            bytes(entry.kind for entry in entries),
            array("Q", (entry.size for entry in entries)),
            array("I", (entry.chunks for entry in entries)),
            b"".join(entry.raw_id for entry in entries),
        )

    @staticmethod
    def unpack(packed: bytes) -> "Directory":
        """The directory of a packed form that `pack` made."""
        (count,) = _HEAD.unpack_from(packed)
        names_start = _HEAD.size + count * _ENTRY.size
        if not count:
            return EMPTY_DIRECTORY
        rows = _ENTRY.iter_unpack(memoryview(packed)[_HEAD.size : names_start])
        kinds, sizes, chunks, lengths, _, ids = zip(*rows, strict=True)
        ends = accumulate(lengths, initial=names_start)
        names = [packed[start:end] for start, end in pairwise(ends)]
        return Directory(names, bytes(kinds), array("Q", sizes), array("I", chunks), b"".join(ids))


EMPTY_DIRECTORY = Directory.from_entries([])


class BlobSource(Protocol):
    """What reading a tree needs of git."""

    def load_blob_size(self, raw_id: bytes) -> int:
        """The size of a blob in bytes, without its contents. Raises GitError."""
        ...

    def load_blob(self, raw_id: bytes) -> bytes:
        """The contents of a blob. Raises GitError."""
        ...


def parse_tree(raw: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(mode, name, raw id) of each entry of a raw git tree: octal mode, space, name, NUL, 20 bytes
    of id. Raises MalformedObject."""
    position = 0
    while position < len(raw):
        space = raw.find(b" ", position, position + 8)
        end = raw.find(b"\0", space)
        if space < 0 or end < 0 or end + 1 + GIT_ID_BYTES > len(raw):
            raise MalformedObject("a git tree is cut short")
        digits = raw[position:space]
        if not digits or digits.strip(b"01234567"):
            raise MalformedObject("a git tree has a malformed mode")
        yield int(digits, 8), raw[space + 1 : end], raw[end + 1 : end + 1 + GIT_ID_BYTES]
        position = end + 1 + GIT_ID_BYTES


def read_tree(
    raw: bytes, blobs: BlobSource, warn: Callable[[str], None] = log.warning
) -> Directory:
    """The directory of a raw git tree.

    Entries with names that no checkout could have are dropped, with one warning for the tree; a
    blob that cannot be read fails the whole directory.
    """
    entries: dict[bytes, Entry] = {}
    refused: list[str] = []
    for mode, name, raw_id in parse_tree(raw):
        reason = refusal_of_name(name) or ("is there twice" if name in entries else None)
        entry = None if reason else _entry(mode, name, raw_id, blobs)
        if entry is None:
            refused.append(f"{name!r} {reason or f'has the unknown mode {mode:o}'}")
        else:
            entries[name] = entry
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        warn(f"left out of a directory: {refused[0]}{more}")
    return Directory.from_entries(list(entries.values()))


def _entry(mode: int, name: bytes, raw_id: bytes, blobs: BlobSource) -> Entry | None:
    padded = raw_id + bytes(32 - GIT_ID_BYTES)
    if mode == 0o040000:
        return Entry(name, Kind.FOLDER, 0, 0, padded)
    if mode == 0o160000:
        return Entry(name, Kind.SUBMODULE, 0, 0, padded)
    if mode == 0o120000:
        size = blobs.load_blob_size(raw_id)
        return Entry(name, Kind.SYMLINK, size, 0, padded)
    if mode >> 12 != 0o10:
        return None
    executable = bool(mode & 0o100)
    size = blobs.load_blob_size(raw_id)
    pointer = parse_pointer(blobs.load_blob(raw_id)) if size <= MAX_POINTER_BYTES else None
    # No list of more chunks fits in a chunk, so such a text was never written as a pointer.
    if pointer is None or pointer.chunks > MAX_CHUNKS_PER_FILE:
        return Entry(name, Kind.PLAIN_EXECUTABLE if executable else Kind.PLAIN, size, 0, padded)
    kind = Kind.TRACKED_EXECUTABLE if executable else Kind.TRACKED
    return Entry(name, kind, pointer.size, pointer.chunks, pointer.content)


def refusal_of_name(name: bytes) -> str | None:
    """Why a name cannot stand in a directory, or None if it can. The disguises of ".git" are those
    that git itself refuses (fsck, core.protectHFS, core.protectNTFS)."""
    if name in (b"", b".", b".."):
        return "is no name"
    if b"/" in name or b"\0" in name:
        return "holds a separator"
    if len(name) > MAX_NAME_BYTES:
        return "is too long"
    return "stands for .git" if _is_git_folder(name) else None


def _is_git_folder(name: bytes) -> bool:
    # Most names are told at a glance: no backslash, and no first letter that a disguise could have.
    if b"\\" not in name and name[0:1] not in (b".", b"g", b"G", b"\xe2", b"\xef"):
        return False
    text = name.decode("utf-8", "replace")
    if text.translate(_HFS_IGNORED).casefold() == ".git":
        return True
    # NTFS drops trailing dots and spaces, and what follows a colon; a backslash parts folders.
    stems = (part.split(":")[0].rstrip(". ").casefold() for part in text.split("\\"))
    return any(stem in (".git", "git~1") for stem in stems)
