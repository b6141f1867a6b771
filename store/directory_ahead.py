"""DirectoriesAhead: a process beside this one that reads the folders which are likely to come next.

To read a folder of a thousand files from git takes some milliseconds of processor time, all of them
under Python's lock, so a thread would only get in the way. Whoever walks a revision goes from the
first folder to the last; the other process goes from the last to the first, and both keep what they
read in the cache index: they meet in the middle, with nothing to say to one another.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from store.cache_index import CacheIndex
from store.directories import GIT_ID_BYTES, Directory, Kind, read_tree
from store.errors import MalformedObject, StoreError
from store.git import GitRepository
from store.git_command import RepositoryPaths

# Enough to see that folders are being read one after another, and how large they are.
_LEAST_READ = 4
# About half a second of reading; less is not worth a process, which takes 0.2 s to begin.
_LEAST_ENTRIES_LEFT = 50_000
# Small, for a folder that is not kept yet is read again by whoever comes to it.
_BATCH_BYTES = 1 << 20
_PROGRAM = "from store.directory_ahead import main; main()"
_NICENESS = 5


class DirectoriesAhead:
    """Watches which directories are read from git, and starts the process once. For one thread."""

    def __init__(self, start: Callable[[list[bytes]], object]) -> None:
        """`start` is called with raw tree ids, in the order in which to read them."""
        self._start = start
        # The folders beside one another of which some have been read, without those.
        self._left: dict[bytes, None] = {}
        self._read_folders = 0
        self._read_entries = 0

    def note(self, tree: bytes, directory: Directory) -> None:
        """Take note of a directory that was just read from git."""
        if tree in self._left:
            del self._left[tree]
            self._read_folders += 1
            self._read_entries += len(directory)
            if self._is_worthwhile():
                trees, self._left = list(self._left), {}
                self._start(trees[::-1])
        folders = _folders_of(directory)
        if len(folders) > len(self._left):
            self._left = dict.fromkeys(folders)
            self._read_folders = self._read_entries = 0

    def _is_worthwhile(self) -> bool:
        if self._read_folders < _LEAST_READ:
            return False
        mean_entries = self._read_entries / self._read_folders
        return mean_entries * len(self._left) >= _LEAST_ENTRIES_LEFT


def start_reading(paths: RepositoryPaths, index: Path, trees: list[bytes]) -> threading.Thread:
    """Have another process read these trees and all below them into the cache index in that folder.
    It ends by itself, with this process at the latest; that it cannot start is no error."""
    arguments = (str(os.getpid()), str(paths.git_dir), str(paths.common_dir), str(index))
    # In a thread, which waits for its end: nothing is left for anybody to clear away.
    thread = threading.Thread(target=_run, args=(arguments, b"".join(trees)), daemon=True)
    thread.start()
    return thread


def _run(arguments: tuple[str, ...], trees: bytes) -> None:
    with suppress(OSError):
        subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM, *arguments],
            input=trees,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=False,
        )


def main() -> None:
    """The other process: raw tree ids on its standard input; the id of the process that wants
    them, the two git directories and the folder of the cache index as arguments."""
    parent, git_dir, common_dir, folder = sys.argv[1:]
    os.nice(_NICENESS)
    if not _is_only_one(folder):
        return
    raw = sys.stdin.buffer.read()
    trees = [raw[start : start + GIT_ID_BYTES] for start in range(0, len(raw), GIT_ID_BYTES)]
    with suppress(StoreError):
        repository = GitRepository(RepositoryPaths(Path(git_dir), Path(common_dir), None))
        index = CacheIndex(Path(folder))
        _keep_all(index, _read_missing(repository, index, trees), int(parent))


def _is_only_one(folder: str) -> bool:
    """Whether no other such process has this cache index; until this one ends, none will. Several
    processes that serve one mount may all have seen the same walk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _keep_all(index: CacheIndex, found: Iterator[tuple[bytes, bytes]], parent: int) -> None:
    batch: dict[bytes, bytes] = {}
    for tree, packed in found:
        # Whoever wanted them may have ended, and this process is then somebody else's child.
        if os.getppid() != parent:
            return
        batch[tree] = packed
        if sum(map(len, batch.values())) >= _BATCH_BYTES:
            index.keep_directories(batch.items())
            batch = {}
    index.keep_directories(batch.items())


def _read_missing(
    repository: GitRepository, index: CacheIndex, trees: list[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Tree id and packed directory of those that the index does not have, and of all below."""
    stack, seen = trees[::-1], set(trees)
    while stack:
        tree = stack.pop()
        if index.load_directory(tree) is not None:
            continue
        directory = _read(repository, tree)
        if directory is not None:
            yield tree, directory.pack()
            below = [folder for folder in _folders_of(directory) if folder not in seen]
            seen.update(below)
            stack += below


def _read(repository: GitRepository, tree: bytes) -> Directory | None:
    """The directory; None for one that cannot be read or of which something was left out, which
    is then said, once, by whoever shows it."""
    complaints: list[str] = []
    try:
        found = read_tree(repository.load_tree(tree), repository, complaints.append)
    except (StoreError, MalformedObject):
        return None
    return None if complaints else found


def _folders_of(directory: Directory) -> list[bytes]:
    entries = map(directory.entry, directory.folder_numbers())
    return [entry.tree for entry in entries if entry.kind == Kind.FOLDER]
