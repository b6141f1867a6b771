"""Directories of a revision: git's raw trees with their pointers parsed, in one compact form.

A directory is a function of its tree id, so the packed form can be kept by tree id for ever. It is
column by column, in the byte order of the machine, which it never leaves:

    u32 count, then per entry and column: u8 kind, u64 size in bytes, u32 chunks, 32-byte id
    (content id, or git id and 12 zero bytes); then the names, each with a NUL behind it.
"""

import logging
import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple, Protocol

from store.chunk_list import MAX_CHUNKS_PER_FILE
from store.errors import MalformedObject
from store.ids import ChunkId, GitId
from store.pointer import MAX_POINTER_BYTES, Pointer, parse_pointers

log = logging.getLogger(__name__)

MAX_NAME_BYTES = 255
MAX_DEPTH = 256
"""How deep folders may be nested, the root included; what lies deeper is not shown."""
MAX_SYMLINK_BYTES = 4095
GIT_ID_BYTES = 20

PACKED_VERSION = 2
"""Another form has another number: what keeps packed directories must not mix them up."""

_HEAD = struct.Struct("=I")
_ID_BYTES = 32
_COLUMN_BYTES = (1, 8, 4, _ID_BYTES)
_PADDING = bytes(_ID_BYTES - GIT_ID_BYTES)
# Octal mode, space, name, NUL, raw id.
_TREE_ENTRY = re.compile(rb"([0-7]{1,7}) ([^\0]*)\0(.{20})", re.DOTALL)
_TREE_ENTRY_BYTES = len(b" \0") + GIT_ID_BYTES
# The first letters of names that are none, and of those that a disguise of ".git" can have.
_SUSPECT_FIRST = frozenset((b"", b".", b"g", b"G", b"\xe2", b"\xef"))
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
_KINDS_OF_MODES = {0o040000: Kind.FOLDER, 0o160000: Kind.SUBMODULE, 0o120000: Kind.SYMLINK}
_TRACKED_AS = {
    int(Kind.PLAIN): Kind.TRACKED,
    int(Kind.PLAIN_EXECUTABLE): Kind.TRACKED_EXECUTABLE,
}
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

    def columns(self, start: int, stop: int) -> tuple[list[bytes], bytes, "array[int]"]:
        """Names, kinds and sizes of the entries from `start` on, up to `stop`."""
        return self._names[start:stop], self._kinds[start:stop], self._sizes[start:stop]

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
        columns = (self._kinds, self._sizes.tobytes(), self._chunks.tobytes(), self._ids)
        names = (part for name in self._names for part in (name, b"\0"))
        return b"".join((_HEAD.pack(len(self)), *columns, *names))

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
        """The directory of a packed form that `pack` made. Raises MalformedObject for one whose
        parts do not fit together."""
        if len(packed) < _HEAD.size:
            raise MalformedObject("a packed directory is cut short")
        (count,) = _HEAD.unpack_from(packed)
        columns, start = [], _HEAD.size
        for entry_bytes in _COLUMN_BYTES:
            columns.append(packed[start : start + count * entry_bytes])
            start += count * entry_bytes
        kinds, sizes, chunks, ids = columns
        *names, rest = packed[start:].split(b"\0")
        if start > len(packed) or rest or len(names) != count:
            raise MalformedObject(f"a packed directory does not hold the {count} entries it says")
        if max(kinds, default=0) >= len(_KINDS):
            raise MalformedObject("a packed directory holds something of an unknown kind")
        return Directory(names, kinds, array("Q", sizes), array("I", chunks), ids)


EMPTY_DIRECTORY = Directory.from_entries([])


class BlobSource(Protocol):
    """What reading a tree needs of git."""

    def load_blob_size(self, raw_id: bytes) -> int:
        """The size of a blob in bytes, without its contents. Raises GitError."""
        ...

    def load_small_blobs(self, raw_ids: Sequence[bytes], most_bytes: int) -> list[bytes | int]:
        """Of each blob, in the order asked, its contents, or where it is larger than `most_bytes`
        its size alone. Raises GitError."""
        ...


TreeRow = tuple[bytes, bytes, bytes]
"""One entry of a raw git tree: mode in octal digits, name, raw id."""


def parse_tree(raw: bytes) -> list[TreeRow]:
    """The entries of a raw git tree, in its order: mode in octal digits, space, name, NUL, 20 bytes
    of id. Raises MalformedObject."""
    rows: list[TreeRow] = _TREE_ENTRY.findall(raw)
    # A match that does not begin where the one before ended leaves bytes out.
    if sum(len(mode) + len(name) + _TREE_ENTRY_BYTES for mode, name, _ in rows) != len(raw):
        raise MalformedObject("a git tree is malformed or cut short")
    return rows


def read_tree(
    raw: bytes, blobs: BlobSource, warn: Callable[[str], None] = log.warning
) -> Directory:
    """The directory of a raw git tree.

    Entries with names that no checkout could have are dropped, with one warning for the tree; a
    blob that cannot be read fails the whole directory.
    """
    rows = parse_tree(raw)
    kinds = {mode: _kind_of_mode(int(mode, 8)) for mode in {row[0] for row in rows}}
    if _are_suspect(rows, kinds):
        rows = _without_refused(rows, kinds, warn)
    # Git sorts a folder as if a separator followed its name.
    rows.sort(key=itemgetter(1))
    return _build(rows, bytearray(kinds[mode] or 0 for mode, _, _ in rows), blobs)


def _build(rows: Sequence[TreeRow], kinds: bytearray, blobs: BlobSource) -> Directory:
    """The directory of sorted rows of known kinds."""
    ids = [raw_id + _PADDING for _, _, raw_id in rows]
    sizes = array("Q", bytes(8 * len(rows)))
    chunks = array("I", bytes(4 * len(rows)))
    for number in (number for number, kind in enumerate(kinds) if kind == Kind.SYMLINK):
        sizes[number] = blobs.load_blob_size(rows[number][2])
    files = [number for number, kind in enumerate(kinds) if kind in _TRACKED_AS]
    found = blobs.load_small_blobs([rows[number][2] for number in files], MAX_POINTER_BYTES)
    pointers = iter(parse_pointers([blob for blob in found if isinstance(blob, bytes)]))
    for number, blob in zip(files, found, strict=True):
        pointer = None if isinstance(blob, int) else next(pointers)
        # No list of more chunks fits in a chunk, so such a text was never written as a pointer.
        if pointer is None or pointer[2] > MAX_CHUNKS_PER_FILE:
            sizes[number] = blob if isinstance(blob, int) else len(blob)
        else:
            ids[number], sizes[number], chunks[number] = pointer
            kinds[number] = _TRACKED_AS[kinds[number]]
    return Directory([name for _, name, _ in rows], bytes(kinds), sizes, chunks, b"".join(ids))


def _kind_of_mode(mode: int) -> Kind | None:
    """What an entry of that mode is, be a file tracked or not; None if that is unknown."""
    if mode >> 12 == 0o10:
        return Kind.PLAIN_EXECUTABLE if mode & 0o100 else Kind.PLAIN
    return _KINDS_OF_MODES.get(mode)


def _are_suspect(rows: Sequence[TreeRow], kinds: Mapping[bytes, Kind | None]) -> bool:
    """Whether any entry could have to be dropped; nearly always a few looks at all tell of none."""
    names = [name for _, name, _ in rows]
    joined = b"\0".join(names)
    return (
        None in kinds.values()
        or len(set(names)) != len(names)
        or max(map(len, names), default=0) > MAX_NAME_BYTES
        or not _SUSPECT_FIRST.isdisjoint({name[:1] for name in names})
        or b"/" in joined
        or b"\\" in joined
    )


def _without_refused(
    rows: Iterable[TreeRow], kinds: Mapping[bytes, Kind | None], warn: Callable[[str], None]
) -> list[TreeRow]:
    kept: dict[bytes, TreeRow] = {}
    refused: list[str] = []
    for mode, name, raw_id in rows:
        reason = refusal_of_name(name) or ("is there twice" if name in kept else None)
        if reason is None and kinds[mode] is None:
            reason = f"has the unknown mode {int(mode, 8):o}"
        if reason is None:
            kept[name] = mode, name, raw_id
        else:
            refused.append(f"{name!r} {reason}")
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        warn(f"left out of a directory: {refused[0]}{more}")
    return list(kept.values())


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
    if b"\\" not in name and name[:1] not in _SUSPECT_FIRST:
        return False
    text = name.decode("utf-8", "replace")
    if text.translate(_HFS_IGNORED).casefold() == ".git":
        return True
    # NTFS drops trailing dots and spaces, and what follows a colon; a backslash parts folders.
    stems = (part.split(":")[0].rstrip(". ").casefold() for part in text.split("\\"))
    return any(stem in (".git", "git~1") for stem in stems)
