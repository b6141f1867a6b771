"""The status of tracked data: what is staged, modified, not pushed yet, and here; without a remote.

Git's view of the work tree is in `store.work_tree_changes`; here is the rest, and both together.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from store.collector import without_collector
from store.directories import MAX_DEPTH, TRACKED_KINDS, Entry, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from store.git import Commit, GitRepository, Revision
from store.git_command import RepositoryPaths, run_git
from store.ids import ChunkId, GitId
from store.index_sizes import load_sizes_between
from store.local_chunks import LocalChunks, Presence
from store.local_store import LocalStore
from store.pointer import MAX_POINTER_BYTES, Pointer
from store.shown_names import escape_name
from store.work_tree_changes import (
    LEAST_TEXT_BYTES,
    WorkTreeChanges,
    group_changes,
    is_pointer_text,
    load_git_differences,
)

_FILES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Count:
    """A number of things and their bytes together."""

    items: int
    size_bytes: int


_NOTHING = Count(0, 0)


@dataclass(frozen=True, slots=True)
class Status:
    """What `revfs status` tells.

    `branch` is None where HEAD is detached, `commit` before the first one. `unwritten` counts clean
    tracked files that are pointer texts in the work tree. Then: staged packs; commits of HEAD's
    history that are not known to be in the remote, and the files in them whose data is staged;
    tracked files of HEAD, and those that can be read without a network; packs in the cache (of all
    repositories).
    """

    branch: str | None = None
    commit: GitId | None = None
    changes: WorkTreeChanges = field(default_factory=WorkTreeChanges)
    unwritten: Count = _NOTHING
    staged_packs: Count = _NOTHING
    unpushed_commits: int = 0
    unpushed_files: Count = _NOTHING
    head_files: Count = _NOTHING
    here_files: Count = _NOTHING
    cached_packs: Count = _NOTHING


def read_status(local: LocalStore, is_pushed: Callable[[Commit], bool]) -> Status:
    """Look and count. `is_pushed` tells commits that are known to have a manifest in the remote.

    Raises GitError.
    """
    repository = local.repository
    head = repository.resolve("HEAD") if repository.head_exists() else None
    # Git looks at the work tree while we look at HEAD.
    with ThreadPoolExecutor(1) as beside, without_collector():
        asked = beside.submit(load_git_differences, repository.paths)
        survey = _Survey(local)
        unpushed = _survey_history(survey, repository, head, is_pushed)
        differences = asked.result()
    changes = group_changes(repository, differences)
    for path in changes.touched:
        survey.texts.pop(path, None)
    survey.look_for_texts(_indexed(changes))
    uses = local.index.load_uses()
    packs = [] if local.staging is None else local.staging.packs()
    return Status(
        branch=_load_branch(repository.paths),
        commit=None if head is None else head.commit,
        changes=changes,
        unwritten=Count(len(survey.texts), sum(survey.texts.values())),
        staged_packs=Count(len(packs), sum(pack.size for pack in packs)),
        unpushed_commits=unpushed,
        unpushed_files=Count(len(survey.staged), sum(survey.staged.values())),
        head_files=Count(survey.files, survey.file_bytes),
        here_files=Count(survey.here, survey.here_bytes),
        cached_packs=Count(len(uses), sum(use.cached_bytes for use in uses)),
    )


def _survey_history(
    survey: "_Survey",
    repository: GitRepository,
    head: Revision | None,
    is_pushed: Callable[[Commit], bool],
) -> int:
    """Look at HEAD, and at what of its history is not pushed; the number of those commits."""
    if head is None:
        return 0
    commits = [c for c in repository.history([head.commit]) if not is_pushed(c)]
    trees = survey.look_at_head(head.tree, any(c.commit == head.commit for c in commits))
    for commit in commits:
        survey.look_at_unpushed(commit.tree, trees)
    return len(commits)


def _indexed(changes: WorkTreeChanges) -> list[tuple[bytes, Entry]]:
    """The tracked files that differ between HEAD and git's index, as the latter has them."""
    return [
        (path, Entry(b"", Kind.TRACKED, pointer.size, pointer.chunks, pointer.content))
        for path, pointer in changes.pointers.items()
    ]


class _Survey:
    """Counts of tracked files, taken some thousand files at a time, so that a large revision is
    never held as a whole. `staged`: sizes by content (raw id) of what is staged and not pushed;
    `texts`: sizes by path of what stands in the work tree as a pointer text."""

    def __init__(self, local: LocalStore) -> None:
        self._directories = local.directories
        self._chunks = LocalChunks(local)
        work_tree = local.repository.paths.work_tree
        self._top = None if work_tree is None else os.fsencode(work_tree) + b"/"
        index = local.repository.paths.git_dir / "index"
        self._sizes = load_sizes_between(index, LEAST_TEXT_BYTES, MAX_POINTER_BYTES)
        self.files = self.file_bytes = 0
        self.here = self.here_bytes = 0
        self.staged: dict[bytes, int] = {}
        self.texts: dict[bytes, int] = {}

    def look_at_head(self, tree: bytes, unpushed: bool) -> set[bytes]:
        """Count the files of HEAD; its trees, where that is all that has to be seen of them."""
        trees: set[bytes] = set()
        for batch in _batches(_walk_tracked(self._directories, tree, trees)):
            entries = [entry for _, entry in batch]
            self.files += len(entries)
            self.file_bytes += sum(entry.size for entry in entries)
            self._look_up(entries, unpushed)
            self.look_for_texts(batch)
        return trees if unpushed else set()

    def look_at_unpushed(self, tree: bytes, seen: set[bytes]) -> None:
        """Count what is staged of a commit, passing over trees in `seen`."""
        for batch in _batches(self._directories.walk_new(tree, seen)):
            entries = [entry for _, entry in batch if entry.kind in TRACKED_KINDS]
            for entry, found in self._load_presence(entries):
                if found.staged:
                    self.staged[entry.raw_id] = entry.size

    def look_for_texts(self, files: Iterable[tuple[bytes, Entry]]) -> None:
        """Note which of these tracked files are pointer texts."""
        sizes = self._sizes
        if self._top is None or (sizes is not None and not sizes):
            return
        for path, entry in files:
            # Where nobody knows the sizes, 0 has each file looked at.
            size = 0 if sizes is None else sizes.get(path)
            if size is not None and is_pointer_text(self._top + path, entry, size):
                self.texts[path] = entry.size

    def _look_up(self, entries: list[Entry], unpushed: bool) -> None:
        several: list[Pointer] = []
        for entry, found in self._load_presence(entries):
            if found.staged and unpushed:
                self.staged[entry.raw_id] = entry.size
            if found.here and entry.chunks == 1:
                self.here += 1
                self.here_bytes += entry.size
            elif found.here:
                several.append(entry.pointer)
        whole = zip(several, self._chunks.load_files_here(several), strict=True)
        sizes = [pointer.size for pointer, is_here in whole if is_here]
        self.here += len(sizes)
        self.here_bytes += sum(sizes)

    def _load_presence(self, entries: list[Entry]) -> Iterator[tuple[Entry, Presence]]:
        found = self._chunks.load_presence([ChunkId(entry.raw_id) for entry in entries])
        return zip(entries, found, strict=True)


def _batches(
    files: Iterator[tuple[bytes, Entry]],
) -> Iterator[list[tuple[bytes, Entry]]]:
    while batch := list(islice(files, _FILES_AT_ONCE)):
        yield batch


def _walk_tracked(
    directories: DirectoryLoader, tree: bytes, seen: set[bytes]
) -> Iterator[tuple[bytes, Entry]]:
    """Every tracked file below a tree with its path, in no order; its trees are added to `seen`."""
    waiting = [(tree, b"", 0)]
    while waiting:
        tree, above, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise GitError(f"the folders of {escape_name(above)} are nested too deeply")
        seen.add(tree)
        for entry in directories.load(tree):
            if entry.kind in TRACKED_KINDS:
                yield above + entry.name, entry
            elif entry.kind == Kind.FOLDER:
                waiting.append((entry.tree, above + entry.name + b"/", depth + 1))


def _load_branch(paths: RepositoryPaths) -> str | None:
    command = ["symbolic-ref", "--quiet", "--short", "HEAD"]
    name = run_git(command, cwd=paths.top, ok_codes=(0, 1)).rstrip(b"\n")
    return os.fsdecode(name) if name else None
