"""Paths inside a revision: from what a user types to a directory or an entry. Plain functions."""

from collections.abc import Iterator
from typing import NamedTuple

from store.directories import FOLDER_KINDS, GIT_ID_BYTES, MAX_DEPTH, Directory, Entry, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError, PathNotFound
from store.shown_names import escape_name


class PathEntry(NamedTuple):
    """An entry and its path from the root of the revision."""

    path: bytes
    entry: Entry


def load_path(loader: DirectoryLoader, root_tree: bytes, path: bytes) -> PathEntry:
    """The entry at a path; slashes at its ends do not matter, and an empty one is the root.

    Raises PathNotFound naming the part that is not there.
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    entry = Entry(b"", Kind.FOLDER, 0, 0, root_tree + bytes(32 - GIT_ID_BYTES))
    for depth, part in enumerate(parts, 1):
        directory = loader.load_entry(entry) if entry.kind in FOLDER_KINDS else None
        number = None if directory is None else directory.number_of(part)
        if directory is None or number is None:
            shown = escape_name(b"/".join(parts[:depth]))
            raise PathNotFound(f"{shown} is not in that revision")
        entry = directory.entry(number)
    return PathEntry(b"/".join(parts), entry)


def list_path(loader: DirectoryLoader, found: PathEntry) -> Iterator[PathEntry]:
    """The entries of a folder, or the entry itself where it is none."""
    if found.entry.kind not in FOLDER_KINDS:
        yield found
        return
    directory: Directory = loader.load_entry(found.entry)
    for entry in directory:
        yield PathEntry(found.path + b"/" + entry.name if found.path else entry.name, entry)


def walk_path(loader: DirectoryLoader, found: PathEntry) -> Iterator[PathEntry]:
    """Every file below a folder, or the entry itself where it is none, in order of path; nothing
    for the folders themselves. Raises GitError for folders that are nested too deeply."""
    if found.entry.kind != Kind.FOLDER:
        yield found
        return
    if found.path.count(b"/") >= MAX_DEPTH:
        raise GitError(f"the folders of {escape_name(found.path)} are nested too deeply")
    for below in list_path(loader, found):
        yield from walk_path(loader, below)
