"""The lines of `.gitattributes` that mark tracked paths. Pure.

A folder is marked by `/folder/** …`, a file by its own path; both are anchored at the top, quoted
and escaped as gitattributes(5) and gitignore(5) have it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

ATTRIBUTES_FILE = b".gitattributes"
_ATTRIBUTES = b" filter=revfs -merge -text"

# Git's own files stay git's own, wherever they lie; so do ours.
UNTRACKED_NAMES = frozenset(
    (
        ATTRIBUTES_FILE,
        b".gitignore",
        b".gitmodules",
        b".mailmap",
        b".revfsconfig",
        b".revfsignore",
        b"revfs.lock",
    )
)


class Target(NamedTuple):
    """A path to mark, relative to the top of the work tree, without slashes at its ends."""

    path: bytes
    is_folder: bool


def add_patterns(existing: bytes, targets: Iterable[Target]) -> bytes:
    """The text of `.gitattributes` with a line for each target that no line of ours covers yet."""
    lines = existing.splitlines()
    covered = {line for line in lines if line.endswith(_ATTRIBUTES)}
    new: list[bytes] = []
    for target in sorted(targets):
        if not any(line in covered for line in _covering_lines(target)):
            line = _line(target)
            covered.add(line)
            new.append(line)
    if not new:
        return existing
    separator = b"" if not existing or existing.endswith(b"\n") else b"\n"
    return existing + separator + b"".join(line + b"\n" for line in new)


def remove_patterns(existing: bytes, removed: Iterable[bytes], kept: Iterable[bytes]) -> bytes:
    """The text of `.gitattributes` without those lines of ours that mark a `removed` path and none
    of the `kept` ones, but for git's own files."""
    lines = existing.splitlines(keepends=True)
    ours = {line for line in existing.splitlines() if line.endswith(_ATTRIBUTES)}
    gone = set(removed)
    others = (p for p in kept if p.rpartition(b"/")[2] not in UNTRACKED_NAMES)
    folders = _all_folders_above(gone) - _all_folders_above(others)
    doomed = {_line(Target(folder, True)) for folder in folders}
    if ours - doomed:
        doomed |= {_line(Target(path, False)) for path in gone}
    return b"".join(line for line in lines if line.rstrip(b"\r\n") not in doomed)


def _all_folders_above(paths: Iterable[bytes]) -> set[bytes]:
    # By way of the lowest, which many files share.
    lowest = {path.rpartition(b"/")[0] for path in paths} - {b""}
    return {above for folder in lowest for above in _folders_above(folder + b"/")}


def _folders_above(path: bytes) -> Iterable[bytes]:
    parts = path.split(b"/")
    return (b"/".join(parts[:depth]) for depth in range(1, len(parts)))


def _covering_lines(target: Target) -> Sequence[bytes]:
    above = [_line(Target(folder, True)) for folder in _folders_above(target.path)]
    return [*above, _line(target)]


def _line(target: Target) -> bytes:
    escaped = b"".join(b"\\" + bytes([c]) if c in b"\\*?[" else bytes([c]) for c in target.path)
    pattern = b"/" + escaped + (b"/**" if target.is_folder else b"")
    return _quoted(pattern) + _ATTRIBUTES


def _quoted(pattern: bytes) -> bytes:
    """In C style where a plain word would not do: blanks, quotes, control and non-ASCII bytes."""
    if all(0x20 < c < 0x7F and c != 0x22 for c in pattern):
        return pattern
    return b'"' + b"".join(_quoted_byte(c) for c in pattern) + b'"'


def _quoted_byte(value: int) -> bytes:
    if value in b'"\\':
        return b"\\" + bytes([value])
    return bytes([value]) if 0x20 <= value < 0x7F else b"\\%03o" % value
