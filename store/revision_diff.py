"""Comparing two revisions: which files were added, changed, renamed or removed between them.

By ids alone: a tree that both have is not walked, and nothing is read but directories. What the
changes cost in new bytes is in `store.new_bytes`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from store.directories import (
    EMPTY_DIRECTORY,
    EXECUTABLE_KINDS,
    MAX_DEPTH,
    TRACKED_KINDS,
    Directory,
    Entry,
    Kind,
)
from store.directory_loader import DirectoryLoader
from store.errors import GitError, PathNotFound
from store.paths import PathEntry, load_path
from store.shown_names import escape_name


class ChangeKind(Enum):
    """What became of a file; `MODE` is one whose execute bit alone changed."""

    ADDED = "added"
    CHANGED = "changed"
    RENAMED = "renamed"
    REMOVED = "removed"
    MODE = "mode"


class Change(NamedTuple):
    """A file before and after; None on the side where it is not there. A renamed one has the same
    content, and may have another execute bit."""

    kind: ChangeKind
    old: PathEntry | None
    new: PathEntry | None

    @property
    def path(self) -> bytes:
        """Where the file is now; for a removed one, where it was."""
        found = self.new or self.old
        assert found is not None
        return found.path


@dataclass(frozen=True, slots=True)
class ChangeTotal:
    """Files of one kind of change, and their bytes before and after."""

    files: int
    old_bytes: int
    new_bytes: int


def compare_trees(
    directories: DirectoryLoader, old_tree: bytes, new_tree: bytes, path: bytes = b""
) -> list[Change]:
    """What changed below `path`, in order of path; it may be a file, and may be on one side only.

    Raises GitError for a directory that cannot be read.
    """
    old = _load_entry(directories, old_tree, path)
    new = _load_entry(directories, new_tree, path)
    pairs = _differing(directories, path, old, new, path.count(b"/"))
    return sorted(_pair_renames(pairs), key=lambda change: change.path)


def total_of(changes: Iterable[Change]) -> dict[ChangeKind, ChangeTotal]:
    """The totals of every kind of change, also of those that there are none of."""
    sizes: dict[ChangeKind, list[tuple[int, int]]] = {kind: [] for kind in ChangeKind}
    for change in changes:
        sizes[change.kind].append((_size(change.old), _size(change.new)))
    return {
        kind: ChangeTotal(len(pairs), sum(old for old, _ in pairs), sum(new for _, new in pairs))
        for kind, pairs in sizes.items()
    }


def is_executable(entry: Entry) -> bool:
    """Whether git keeps the execute bit for a file."""
    return entry.kind in EXECUTABLE_KINDS


def _size(found: PathEntry | None) -> int:
    return 0 if found is None else found.entry.size


def _load_entry(directories: DirectoryLoader, tree: bytes, path: bytes) -> Entry | None:
    try:
        return load_path(directories, tree, path).entry
    except PathNotFound:
        return None


def _differing(
    directories: DirectoryLoader, path: bytes, old: Entry | None, new: Entry | None, depth: int
) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """Every path with the files that it has on both sides, where they differ in any way."""
    if old is not None and new is not None and old[1:] == new[1:]:
        return
    if depth > MAX_DEPTH:
        raise GitError(f"the folders of {escape_name(path)} are nested too deeply")
    old_folder, new_folder = _load_folder(directories, old), _load_folder(directories, new)
    old_file = old if old_folder is None else None
    new_file = new if new_folder is None else None
    if old_file is not None or new_file is not None:
        yield path, old_file, new_file
    for name, before, after in _merged(
        old_folder or EMPTY_DIRECTORY, new_folder or EMPTY_DIRECTORY
    ):
        below = path + b"/" + name if path else name
        yield from _differing(directories, below, before, after, depth + 1)


def _load_folder(directories: DirectoryLoader, entry: Entry | None) -> Directory | None:
    if entry is None or entry.kind != Kind.FOLDER:
        return None
    return directories.load_entry(entry)


def _merged(old: Directory, new: Directory) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """The names of two directories, each with what it stands for in either."""
    before = {entry.name: entry for entry in old}
    for entry in new:
        yield entry.name, before.pop(entry.name, None), entry
    for name, gone in before.items():
        yield name, gone, None


def _pair_renames(
    pairs: Iterable[tuple[bytes, Entry | None, Entry | None]],
) -> Iterator[Change]:
    """The changes; files that went and came with one content are paired, as `git diff -M100%` does:
    in order of path, with a source of the same file name before any other."""
    added: list[PathEntry] = []
    removed: list[PathEntry] = []
    for path, old, new in pairs:
        if old is None and new is not None:
            added.append(PathEntry(path, new))
        elif new is None and old is not None:
            removed.append(PathEntry(path, old))
        elif old is not None and new is not None:
            yield _in_place(PathEntry(path, old), PathEntry(path, new))
    sources: defaultdict[tuple[bytes, str], list[PathEntry]] = defaultdict(list)
    for gone in sorted(removed):
        sources[_content(gone.entry)].append(gone)
    for new_file in sorted(added):
        source = _take_source(sources[_content(new_file.entry)], new_file.path)
        kind = ChangeKind.ADDED if source is None else ChangeKind.RENAMED
        yield Change(kind, source, new_file)
    for left in sources.values():
        for gone in left:
            yield Change(ChangeKind.REMOVED, gone, None)


def _in_place(old: PathEntry, new: PathEntry) -> Change:
    same = _content(old.entry) == _content(new.entry)
    return Change(ChangeKind.MODE if same else ChangeKind.CHANGED, old, new)


def _take_source(sources: list[PathEntry], path: bytes) -> PathEntry | None:
    name = path.rpartition(b"/")[2]
    for number, source in enumerate(sources):
        if source.path.rpartition(b"/")[2] == name:
            return sources.pop(number)
    return sources.pop(0) if sources else None


def _content(entry: Entry) -> tuple[bytes, str]:
    """What two files that are the same have in common: all but the name and the execute bit."""
    if entry.kind in TRACKED_KINDS:
        return entry.raw_id, "tracked"
    if entry.kind in (Kind.SYMLINK, Kind.SUBMODULE):
        return entry.raw_id, entry.kind.name
    return entry.raw_id, "plain"
