"""A disk that loses power: from what was asked of files below a folder (`trace.c`), the states in
which a power cut at any moment may leave them.

What lasts is what was synced: the bytes of a file by a sync of the file, names by a sync of their
folder. Of all else any part may have reached the disk, in any order: each write whole, not at all,
or some of its sectors; each change of a name or not.
"""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
_HEAD = struct.Struct("<IBQQII")
_FOLDER = -1


class Call(NamedTuple):
    """Something that was asked: `kind` as in trace.c."""

    kind: str
    file: int
    offset: int
    first: bytes
    second: bytes


@dataclass
class File:
    """The bytes that last, and the writes and cuts since, in their order."""

    lasting: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


class Rename(NamedTuple):
    """A change of names in one folder: `old` goes, if any, `new` stands for `entry`, if any."""

    old: str | None
    new: str | None
    entry: int


def build_tracer(folder: Path) -> Path:
    """The library to preload."""
    source, library = Path(__file__).with_name("trace.c"), folder / "trace.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return library


def traced(root: Path, log: Path, library: Path) -> Mapping[str, str]:
    """What has to be in the environment of a process whose calls below `root` are written down."""
    names = {"REVFS_TRACE_ROOT": str(root), "REVFS_TRACE_LOG": str(log)}
    return {**names, "LD_PRELOAD": str(library)}


def parse_calls(log: Path) -> list[Call]:
    """What was written down."""
    raw, calls, place = log.read_bytes(), [], 0
    while place < len(raw):
        total, kind, number, offset, length, more = _HEAD.unpack_from(raw, place)
        start = place + _HEAD.size
        parts = raw[start : start + length], raw[start + length : start + length + more]
        calls.append(Call(chr(kind), number, offset, *parts))
        place += 4 + total
    return calls


class Disk:
    """The files below `root`, which last as they stand, and then what is asked of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, File] = {}
        # By inode, the file that has it now: numbers are used again.
        self._by_inode: dict[int, int] = {}
        self._lasting: dict[str, int] = {str(root): _FOLDER}
        self._current: dict[str, int] = {str(root): _FOLDER}
        self._pending: list[Rename] = []
        for path in sorted(root.rglob("*")):
            number = _FOLDER
            if path.is_file():
                number = self._add(path.stat().st_ino, path.read_bytes())
            self._lasting[str(path)] = self._current[str(path)] = number

    def _add(self, inode: int, content: bytes = b"") -> int:
        number = len(self._files)
        self._files[number] = File(content)
        self._by_inode[inode] = number
        return number

    def feed(self, call: Call) -> None:
        """Let the disk see one call."""
        first = os.path.normpath(os.fsdecode(call.first)) if call.first else ""
        if call.kind == "c":
            self._rename(None, first, self._add(call.file))
        elif call.kind == "m":
            self._rename(None, first, _FOLDER)
        elif call.kind in "ud":
            self._rename(first, None, self._current.get(first, _FOLDER))
        elif call.kind in "rl":
            second = os.path.normpath(os.fsdecode(call.second))
            entry = self._current.get(first, _FOLDER)
            old = first if call.kind == "r" else None
            if old is not None and os.path.dirname(first) != os.path.dirname(second):
                # Two folders, of which each lasts by itself.
                self._rename(None, second, entry)
                self._rename(old, None, entry)
            else:
                self._rename(old, second, entry)
        elif call.file in self._by_inode:
            self._feed_file(call, self._files[self._by_inode[call.file]])
        elif call.kind == "s":
            self._sync_folder(first)

    def _feed_file(self, call: Call, file: File) -> None:
        if call.kind == "w":
            file.pending.append((call.offset, call.first))
        elif call.kind == "t":
            file.pending.append((call.offset, None))
        elif call.kind == "s" and call.offset:
            self._sync_folder(os.path.normpath(os.fsdecode(call.first)))
        elif call.kind == "s":
            file.lasting = _apply(file.lasting, file.pending)
            file.pending = []

    def _rename(self, old: str | None, new: str | None, entry: int) -> None:
        change = Rename(old, new, entry)
        _change(self._current, change)
        self._pending.append(change)

    def _sync_folder(self, folder: str) -> None:
        rest = []
        for change in self._pending:
            if os.path.dirname(change.new or change.old or "") == folder:
                _change(self._lasting, change)
            else:
                rest.append(change)
        self._pending = rest

    def cut_power(self, chance: random.Random, into: Path) -> None:
        """Write one of the states that there may be after a power cut at this moment."""
        # Often all or nothing, since what lies between seldom shows what they do not.
        names = dict(self._lasting)
        share = chance.choice((0.0, 0.0, 0.5, 1.0))
        for change in self._pending:
            if chance.random() < share:
                _change(names, change)
        share = chance.choice((0.0, 0.5, 0.5, 1.0))
        for path in sorted(names):
            place = into / os.path.relpath(path, self._root)
            if not place.parent.is_dir() and path != str(self._root):
                continue
            if names[path] == _FOLDER:
                place.mkdir(mode=0o700, exist_ok=True)
            else:
                file = self._files[names[path]]
                place.write_bytes(_torn(file, share, chance))


def _change(names: dict[str, int], change: Rename) -> None:
    if change.old is not None:
        below = [path for path in names if path.startswith(change.old + "/")]
        for path in below:
            entry = names.pop(path)
            if change.new is not None:
                names[change.new + path.removeprefix(change.old)] = entry
        names.pop(change.old, None)
    if change.new is not None:
        names[change.new] = change.entry


def _apply(content: bytes, writes: Sequence[tuple[int, bytes | None]]) -> bytes:
    made = bytearray(content)
    for offset, piece in writes:
        if piece is None:
            del made[offset:]
            made.extend(bytes(offset - len(made)))
        else:
            made.extend(bytes(max(0, offset - len(made))))
            made[offset : offset + len(piece)] = piece
    return bytes(made)


def _torn(file: File, share: float, chance: random.Random) -> bytes:
    """The file with some of what was not synced, and of some writes some sectors."""
    kept: list[tuple[int, bytes | None]] = []
    for offset, piece in file.pending:
        if chance.random() >= share:
            if piece and chance.random() < 0.3:
                # The length lasts, the bytes do not.
                kept.append((offset + len(piece) - 1, b"\0"))
            continue
        if piece is not None and share < 1.0 and chance.random() < 0.5:
            kept += [part for part in _sectors(offset, piece) if chance.random() < 0.5]
        else:
            kept.append((offset, piece))
    return _apply(file.lasting, kept)


def _sectors(offset: int, piece: bytes) -> Iterator[tuple[int, bytes]]:
    end = offset + len(piece)
    while offset < end:
        following = min(end, offset - offset % SECTOR_BYTES + SECTOR_BYTES)
        yield offset, piece[: following - offset]
        piece = piece[following - offset :]
        offset = following


def cuts(
    disk: Disk, calls: Sequence[Call], chance: random.Random, count: int, folder: Path
) -> Iterator[tuple[int, Path]]:
    """`count` states after power cuts at random moments, each in a folder that is gone with the
    next, with how many of the calls had been made. The last call is the last moment."""
    moments = sorted(chance.randint(0, len(calls)) for _ in range(count - count // 10))
    moments += [len(calls)] * (count // 10)
    seen = 0
    for moment in moments:
        for call in calls[seen:moment]:
            disk.feed(call)
        seen = moment
        place = folder / "after"
        place.mkdir()
        disk.cut_power(chance, place)
        yield moment, place
        shutil.rmtree(place)
