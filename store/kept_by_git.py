"""Files that git keeps itself, met by an add of everything; and pointers that no rule marks."""

from collections.abc import Iterable, Mapping, Sequence

from store.directories import TRACKED_KINDS
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from store.git import GitRepository
from store.git_index import IndexedBlob
from store.marked_paths import load_marked
from store.pointer import MAX_POINTER_BYTES, parse_pointer


def load_kept_by_git(
    repository: GitRepository, paths: Iterable[bytes], indexed: Mapping[bytes, IndexedBlob]
) -> set[bytes]:
    """Those of the paths that git's index has as files of its own: no pointers, and marked by no
    rule. One run of git. Raises GitError."""
    known = [path for path in paths if path in indexed]
    unmarked = set(known) - load_marked(repository.paths, known)
    return {path for path in unmarked if not _is_pointer(repository, indexed[path].blob)}


def load_unmarked(
    repository: GitRepository, directories: DirectoryLoader, trees: Sequence[bytes]
) -> list[bytes]:
    """Tracked files of these trees that no rule of the work tree's `.gitattributes` marks, in order
    of path: git would take their data itself when they change. One run of git. Raises GitError."""
    seen: set[bytes] = set()
    tracked = {
        path
        for tree in trees
        for path, entry in directories.walk_new(tree, seen)
        if entry.kind in TRACKED_KINDS
    }
    return sorted(tracked - load_marked(repository.paths, tracked))


def _is_pointer(repository: GitRepository, blob: bytes) -> bool:
    try:
        if repository.load_blob_size(blob) > MAX_POINTER_BYTES:
            return False
        return parse_pointer(repository.load_blob(blob)) is not None
    except GitError:
        # In a partial clone it may not be here; it is not for us to fetch it.
        return False
