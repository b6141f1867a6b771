"""What is staged, not pushed yet, and cached: counted, without asking a remote."""

from collections.abc import Callable
from dataclasses import dataclass

from store.cache_index import CacheIndex
from store.directories import TRACKED_KINDS
from store.directory_loader import DirectoryLoader
from store.git import Commit, GitRepository
from store.ids import ChunkId
from store.staging import Staging


@dataclass(frozen=True, slots=True)
class Count:
    """A number of things and their bytes together."""

    items: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """Staged packs; commits of HEAD's history that are not known to be in the remote, and the
    files in them whose data is staged; packs in the cache (of all repositories)."""

    staged_packs: Count
    unpushed_commits: int
    unpushed_files: Count
    cached_packs: Count


def read_status(
    repository: GitRepository,
    directories: DirectoryLoader,
    index: CacheIndex,
    staging: Staging | None,
    is_pushed: Callable[[Commit], bool],
) -> Status:
    """Count it. `is_pushed` tells commits that are known to have a manifest in the remote."""
    packs = [] if staging is None else staging.packs()
    unpushed = _unpushed_commits(repository, is_pushed)
    files = _staged_files(unpushed, directories, staging) if packs else Count(0, 0)
    uses = index.load_uses()
    return Status(
        staged_packs=Count(len(packs), sum(pack.size for pack in packs)),
        unpushed_commits=len(unpushed),
        unpushed_files=files,
        cached_packs=Count(len(uses), sum(use.cached_bytes for use in uses)),
    )


def _unpushed_commits(
    repository: GitRepository, is_pushed: Callable[[Commit], bool]
) -> list[Commit]:
    if not repository.head_exists():
        return []
    history = repository.history([repository.resolve("HEAD").commit])
    return [commit for commit in history if not is_pushed(commit)]


def _staged_files(
    commits: list[Commit], directories: DirectoryLoader, staging: Staging | None
) -> Count:
    seen_trees: set[bytes] = set()
    contents: dict[ChunkId, int] = {}
    for commit in commits:
        for _, entry in directories.walk_new(commit.tree, seen_trees):
            if entry.kind in TRACKED_KINDS:
                contents[ChunkId(entry.raw_id)] = entry.size
    if staging is None:
        return Count(0, 0)
    places = staging.load_places(list(contents))
    sizes = [
        size for size, place in zip(contents.values(), places, strict=True) if place is not None
    ]
    return Count(len(sizes), sum(sizes))
