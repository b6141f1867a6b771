"""What is staged and what is modified among tracked files, in git's own view of both.

Git compares (`git status`), here its answer is read, and cut down to tracked files: those that
git's index or HEAD has a pointer for, or whose path has our attribute.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from store.directories import Entry
from store.git import GitRepository
from store.git_command import RepositoryPaths, run_git
from store.marked_paths import load_marked
from store.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer

# Locks are git's to take when a person runs it; exact renames, whatever the configuration says.
_STATUS = (
    "--no-optional-locks",
    "status",
    "--porcelain=v2",
    "-z",
    "--untracked-files=no",
    "--ignore-submodules=all",
    "--find-renames=100%",
)
_NO_BLOB = bytes(20)
LEAST_TEXT_BYTES = len(b"revfs 1\nblake3 \nsize 1\n") + 64
_UNCHANGED = "."


class Difference(Enum):
    """How a file differs from what it is compared to."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RENAMED = "renamed"


_DIFFERENCES = {"A": Difference.ADDED, "D": Difference.DELETED, "R": Difference.RENAMED}


class GitDifference(NamedTuple):
    """A record of git status. `staged` and `modified` are its letters for HEAD to index and for
    index to work tree, "." for none; blobs are raw ids, None where there is none. In a conflict
    the letters stand for the two sides, and `blobs` holds what either has."""

    staged: str
    modified: str
    conflict: bool
    blobs: tuple[bytes | None, bytes | None]
    path: bytes
    old_path: bytes | None


@dataclass(frozen=True, slots=True)
class FileChange:
    """A tracked file that differs. Sizes are in bytes, None on the side where it is not there;
    `old_path` is set for a renamed one alone."""

    difference: Difference
    path: bytes
    old_path: bytes | None
    size: int | None
    old_size: int | None


@dataclass(frozen=True, slots=True)
class WorkTreeChanges:
    """Tracked files that differ: staged for the next commit, modified since, and in conflict.

    `touched` is every path that differs, tracked or not. `pointers` holds what git's index has for
    those of them whose file is as the index has it.
    """

    staged: Sequence[FileChange] = ()
    modified: Sequence[FileChange] = ()
    conflicted: Sequence[bytes] = ()
    touched: frozenset[bytes] = frozenset()
    pointers: dict[bytes, Pointer] = field(default_factory=dict)


def load_git_differences(paths: RepositoryPaths) -> list[GitDifference]:
    """What git status says of HEAD, index and work tree; nothing where there is no work tree.

    Costs a stat of every file in the index. Raises GitError.
    """
    if paths.work_tree is None:
        return []
    return list(parse_git_status(run_git(_STATUS, cwd=paths.work_tree)))


def parse_git_status(raw: bytes) -> Iterator[GitDifference]:
    """The records of `git status --porcelain=v2 -z` (git-status(1)); its headers are passed
    over."""
    fields = iter(raw.split(b"\0")[:-1])
    for record in fields:
        kind, _, rest = record.partition(b" ")
        if kind == b"1":
            letters, *_, head, index, path = rest.split(b" ", 7)
            yield _difference(letters, head, index, path, None)
        elif kind == b"2":
            letters, *_, head, index, _score, path = rest.split(b" ", 8)
            yield _difference(letters, head, index, path, next(fields))
        elif kind == b"u":
            letters, *_, ours, theirs, path = rest.split(b" ", 9)
            yield _difference(letters, ours, theirs, path, None, conflict=True)


def _difference(
    letters: bytes,
    one: bytes,
    other: bytes,
    path: bytes,
    old_path: bytes | None,
    *,
    conflict: bool = False,
) -> GitDifference:
    return GitDifference(
        chr(letters[0]), chr(letters[1]), conflict, (_blob(one), _blob(other)), path, old_path
    )


def _blob(digits: bytes) -> bytes | None:
    raw = bytes.fromhex(digits.decode("ascii"))
    return None if raw == _NO_BLOB else raw


class _Blobs:
    """The sizes that blobs stand for: a pointer's, else their own."""

    def __init__(self, repository: GitRepository) -> None:
        self._repository = repository

    def load_pointer(self, blob: bytes | None) -> Pointer | None:
        if blob is None or self._repository.load_blob_size(blob) > MAX_POINTER_BYTES:
            return None
        return parse_pointer(self._repository.load_blob(blob))

    def load_size(self, blob: bytes | None) -> int | None:
        pointer = self.load_pointer(blob)
        if pointer is not None:
            return pointer.size
        return None if blob is None else self._repository.load_blob_size(blob)


def group_changes(
    repository: GitRepository, differences: Sequence[GitDifference]
) -> WorkTreeChanges:
    """Those of tracked files, by what they are; with a stat of each that is modified.

    Raises GitError for a blob that git does not have.
    """
    blobs = _Blobs(repository)
    top = repository.paths.work_tree
    tracked = _only_tracked(repository, blobs, differences)
    merged = [found for found in tracked if not found.conflict]
    clean = {
        found.path: blobs.load_pointer(found.blobs[1])
        for found in merged
        if found.modified == _UNCHANGED
    }
    staged = [found for found in merged if found.staged != _UNCHANGED]
    modified = [found for found in merged if found.modified != _UNCHANGED]
    return WorkTreeChanges(
        staged=tuple(_staged(found, blobs) for found in staged),
        modified=tuple(_modified(found, blobs, top) for found in modified),
        conflicted=tuple(found.path for found in tracked if found.conflict),
        touched=frozenset(found.path for found in differences),
        pointers={path: pointer for path, pointer in clean.items() if pointer is not None},
    )


def _only_tracked(
    repository: GitRepository, blobs: _Blobs, differences: Sequence[GitDifference]
) -> list[GitDifference]:
    is_pointer = [any(map(blobs.load_pointer, found.blobs)) for found in differences]
    pairs = list(zip(differences, is_pointer, strict=True))
    marked = load_marked(repository.paths, [found.path for found, known in pairs if not known])
    return [found for found, known in pairs if known or found.path in marked]


def _staged(found: GitDifference, blobs: _Blobs) -> FileChange:
    old_blob, blob = found.blobs
    return FileChange(
        _DIFFERENCES.get(found.staged, Difference.MODIFIED),
        found.path,
        found.old_path if found.staged == "R" else None,
        blobs.load_size(blob),
        blobs.load_size(old_blob),
    )


def _modified(found: GitDifference, blobs: _Blobs, top: Path | None) -> FileChange:
    return FileChange(
        Difference.DELETED if found.modified == "D" else Difference.MODIFIED,
        found.path,
        None,
        None if found.modified == "D" or top is None else _file_size(top, found.path),
        blobs.load_size(found.blobs[1]),
    )


def _file_size(top: Path, path: bytes) -> int | None:
    try:
        return os.lstat(os.path.join(os.fsencode(top), path)).st_size
    except OSError:
        # Gone since git looked.
        return None


def is_pointer_text(place: bytes, entry: Entry, known_bytes: int) -> bool:
    """Whether a tracked file that git calls clean stands there as its pointer text. It is the text
    or the data, and their sizes tell them apart, but for the one size that both have.

    `known_bytes` is the size of the file, or 0 to look at it.
    """
    try:
        file_bytes = known_bytes or os.lstat(place).st_size
        text_bytes = _text_bytes(entry)
        if file_bytes != text_bytes or text_bytes != entry.size:
            return file_bytes == text_bytes
        with open(place, "rb") as file:
            return file.read(MAX_POINTER_BYTES + 1) == entry.pointer.to_bytes()
    except OSError:
        return False


def _text_bytes(entry: Entry) -> int:
    """How long the text of a tracked file's pointer is. In a clone that holds nothing but pointers
    this is asked of every file, and to write the text out would take most of the time."""
    chunks_line = len(f"chunks {entry.chunks}\n") if entry.chunks > 1 else 0
    return LEAST_TEXT_BYTES - 1 + len(str(entry.size)) + chunks_line
