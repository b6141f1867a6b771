"""Shown roots: what the paths of a mount stand for at one moment, for whoever is not asked by the
kernel but given paths. Plain functions that may wait for a disk; one thread at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from store.directories import EMPTY_DIRECTORY, FOLDER_KINDS, TRACKED_KINDS, Directory, Entry
from store.directory_loader import DirectoryLoader
from store.errors import GitError, PathNotFound, PathRefused
from store.git_refs import GitRefs, Tip
from store.materialise import walk_files
from store.paths import PathEntry, load_path
from store.shown_names import escape_name
from store.warming import WarmFile
from vfs.ref_names import COMMITS, Snapshot


class ShownRoots(Protocol):
    """Where paths from the top of a mount lead. It stays as it was, though the mount may move."""

    loader: DirectoryLoader

    def find(self, path: bytes) -> PathEntry:
        """What is at that path. Raises PathNotFound, PathRefused, GitError."""
        ...


class OneRoot:
    """A mount of one tree."""

    def __init__(self, loader: DirectoryLoader, tree: bytes) -> None:
        self.loader = loader
        self._tree = tree

    def find(self, path: bytes) -> PathEntry:
        """What is at that path. Raises PathNotFound, GitError."""
        return load_path(self.loader, self._tree, path)


class NamedRoots:
    """A mount of all revisions."""

    def __init__(self, loader: DirectoryLoader, names: Snapshot, refs: GitRefs) -> None:
        self.loader = loader
        self._names = names
        self._refs = refs

    def find(self, path: bytes) -> PathEntry:
        """What is at that path. Raises PathNotFound, PathRefused, GitError."""
        parts = [part for part in path.split(b"/") if part]
        folder = self._names.names
        for depth, part in enumerate(parts, 1):
            found = folder.get(part)
            if found is None and parts[: depth - 1] == [COMMITS]:
                found = self._refs.find_commit(part.decode("ascii", "replace"))
            if found is None:
                raise PathNotFound(f"{escape_name(b'/'.join(parts[:depth]))} is not in that mount")
            if isinstance(found, Tip):
                below = load_path(self.loader, found.tree, b"/".join(parts[depth:]))
                return PathEntry(b"/".join(parts), below.entry)
            folder = found
        raise PathRefused("all revisions at once are too many: name one, as in branches/main")


def walk_tracked(roots: ShownRoots, paths: Sequence[bytes]) -> Iterator[WarmFile]:
    """The tracked files at and below paths. Raises as `find` does."""
    for path in paths:
        found = roots.find(path)
        is_folder = found.entry.kind in FOLDER_KINDS
        above = found.path + b"/" if found.path and is_folder else b""
        for item in walk_files(roots.loader, found):
            if item.entry.kind in TRACKED_KINDS:
                yield WarmFile(above + item.path if is_folder else found.path, item.entry.pointer)


def load_entries(roots: ShownRoots, paths: Sequence[bytes]) -> list[Entry | None]:
    """The entry at each path; None where nothing is, or a folder. Each folder is looked into once,
    whatever the order."""
    entries: list[Entry | None] = [None] * len(paths)
    for folder, numbers in _by_folder(paths).items():
        directory = _load_folder(roots, folder)
        for number in numbers:
            found = directory.number_of(paths[number].rpartition(b"/")[2])
            entry = None if found is None else directory.entry(found)
            if entry is not None and entry.kind not in FOLDER_KINDS:
                entries[number] = entry
    return entries


def _by_folder(paths: Sequence[bytes]) -> dict[bytes, list[int]]:
    """The numbers of the paths in each folder; those that begin outside of the mount are in
    none."""
    folders: dict[bytes, list[int]] = {}
    for number, path in enumerate(paths):
        if not path.startswith(b"/"):
            folders.setdefault(path.rpartition(b"/")[0], []).append(number)
    return folders


def _load_folder(roots: ShownRoots, path: bytes) -> Directory:
    try:
        entry = roots.find(path).entry
        return roots.loader.load_entry(entry) if entry.kind in FOLDER_KINDS else EMPTY_DIRECTORY
    except (PathNotFound, PathRefused, GitError):
        return EMPTY_DIRECTORY
