"""What git's index has, or must begin with in a clone that has none yet (`--no-checkout`).

A commit from an index without HEAD's files would remove them. So it begins as HEAD's tree, all of
it without files in the work tree (skip-worktree), but for what stands there.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from store.git import GitRepository
from store.git_command import RepositoryPaths, run_git
from store.git_index import MODE_EXECUTABLE, MODE_FILE, IndexChange, IndexedBlob
from store.standing_files import WorkTreeFolders


@dataclass(frozen=True, slots=True)
class StartingIndex:
    """What git's index has, by path. `is_new`: there is no index yet, and a write to it must begin
    with all of these entries."""

    entries: Mapping[bytes, IndexedBlob]
    is_new: bool

    def with_first(
        self, changes: Iterable[IndexChange], removed: Iterable[bytes]
    ) -> list[IndexChange]:
        """The changes, and before them what a new index begins with that they leave as it is."""
        if not self.is_new:
            return list(changes)
        wanted = {path: _first(path, entry) for path, entry in self.entries.items()}
        for path in removed:
            wanted.pop(path, None)
        return list((wanted | {change.path: change for change in changes}).values())


def load_starting_index(repository: GitRepository) -> StartingIndex:
    """Look at git's index, or at HEAD where there is none. Raises GitError."""
    if (repository.paths.git_dir / "index").exists() or not repository.head_exists():
        return StartingIndex(repository.index.load_entries(), False)
    folders = WorkTreeFolders(os.fsencode(repository.paths.top))
    entries = {
        path: entry._replace(skipped=folders.load_status(path) is None)
        for path, entry in _load_head(repository.paths)
    }
    return StartingIndex(entries, True)


def _first(path: bytes, entry: IndexedBlob) -> IndexChange:
    return IndexChange(path, entry.mode, entry.blob, None, entry.skipped)


def _load_head(paths: RepositoryPaths) -> Iterable[tuple[bytes, IndexedBlob]]:
    """Every file of HEAD's tree. By git itself, which fetches trees in a partial clone."""
    command = ["ls-tree", "-r", "-z", "--full-tree", "HEAD"]
    for line in run_git(command, cwd=paths.top).split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode, _, blob = facts.split()
        yield path, IndexedBlob(bytes.fromhex(blob.decode()), _canonical(int(mode, 8)), True)


def _canonical(mode: int) -> int:
    # Old trees have modes such as 100664, which git takes for one of its two.
    if not stat.S_ISREG(mode):
        return mode
    return MODE_EXECUTABLE if mode & stat.S_IXUSR else MODE_FILE
