"""GitRefs: branches, tags and other refs with their commits, recent commits, and commits by prefix.

Here belongs what a mount asks of git again and again while names move. Whether anything has moved
is told from a few files, without libgit2.
"""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pygit2
from pygit2.enums import SortMode

from store.errors import GitError, RepositoryGone, RevisionNotFound
from store.git_command import RepositoryPaths
from store.git_index import GIT_ERRORS
from store.ids import GitId

_BRANCHES = b"refs/heads/"
_KINDS = (_BRANCHES, b"refs/remotes/", b"refs/tags/")
_PREFIX = re.compile(r"[0-9a-f]{4,40}")
_MOST_LINKS = 5

Stamp = tuple[object, ...]


class Tip(NamedTuple):
    """A commit as a mount shows it: its root tree (raw id), and the committer's time in seconds
    since 1970."""

    commit: GitId
    tree: bytes
    time_seconds: int


class Ref(NamedTuple):
    """A ref by its full name, and the commit that it leads to."""

    name: bytes
    tip: Tip


def require_repository(paths: RepositoryPaths) -> None:
    """Raise RepositoryGone unless there still is a git directory where the repository was."""
    # Not Path.is_dir, which raises where a network file system has lost the folder.
    if not os.path.isdir(paths.common_dir / "objects"):
        raise RepositoryGone(
            f"the repository that was at {paths.common_dir} is not there any more: unmount, and "
            "mount again from where it is now"
        )


def load_stamp(paths: RepositoryPaths) -> Stamp:
    """Something that is another whenever a ref has moved: of every loose ref and of packed-refs
    their inode, size and time. Raises RepositoryGone."""
    require_repository(paths)
    return (_file_stamp(paths.common_dir / "packed-refs"), *_loose_stamps(paths.common_dir))


def load_ref_stamp(paths: RepositoryPaths, names: Iterable[str]) -> Stamp:
    """As `load_stamp`, for the refs of these full names alone. Raises RepositoryGone."""
    require_repository(paths)
    places = [folder / name for name in names for folder in (paths.git_dir, paths.common_dir)]
    # With the names: a ref that now points to another may find the same commit there.
    contents = [(place, _content(place)) for place in places]
    return (_file_stamp(paths.common_dir / "packed-refs"), *contents)


class GitRefs:
    """The refs of one repository. Not for use from two threads at once."""

    def __init__(self, repository: pygit2.Repository, paths: RepositoryPaths) -> None:
        self._repository = repository
        self._paths = paths
        # What the targets of the refs peeled to when they were last listed; None for no commit.
        self._peeled: dict[object, Tip | None] = {}

    def load_all(self) -> list[Ref]:
        """Every branch, remote branch and tag that leads to a commit, in no order. Raises
        GitError."""
        require_repository(self._paths)
        peeled: dict[object, Tip | None] = {}
        found = []
        try:
            for reference in self._references():
                name, target = reference.raw_name, reference.target
                if name.startswith(_KINDS):
                    tip = self._peeled.get(target) or _peel(reference)
                    if not isinstance(target, str):
                        peeled[target] = tip
                    if tip is not None:
                        found.append(Ref(name, tip))
        except GIT_ERRORS as error:
            raise GitError(f"the branches and tags cannot be read: {error}") from error
        self._peeled = peeled
        return found

    def load_recent(self, tips: Iterable[Tip], count: int) -> list[Tip]:
        """The newest commits that can be reached from `tips`, newest first. Raises GitError."""
        walker = self._repository.walk(None, SortMode.TIME)
        try:
            for commit in {tip.commit for tip in tips}:
                walker.push(pygit2.Oid(hex=commit))
            return [_tip_of(commit) for commit in islice(walker, count)]
        except GIT_ERRORS as error:
            raise GitError(f"the history cannot be read: {error}") from error

    def find_commit(self, prefix: str) -> Tip | None:
        """The commit of that id, or of an id that alone begins so (4 digits at least, lower case);
        None for anything else. Raises RepositoryGone."""
        require_repository(self._paths)
        if not _PREFIX.fullmatch(prefix):
            return None
        try:
            found: object = self._repository[self._repository.expand_id(prefix)]
        except GIT_ERRORS:
            return None
        return _tip_of(found) if isinstance(found, pygit2.Commit) else None

    def resolve_name(self, text: str) -> list[str]:
        """The full name of the ref that `text` means, a branch before others, and of those that it
        points to by name. Raises RevisionNotFound where it names no ref."""
        for pattern in ("refs/heads/%s", "%s", "refs/%s", "refs/tags/%s", "refs/remotes/%s"):
            chain = self.load_chain(pattern % text)
            if chain:
                return chain
        raise RevisionNotFound(
            f"no branch or tag is called {text!r}, and nothing else moves: leave --follow out for "
            "a fixed commit; git branch --all shows the branches"
        )

    def load_chain(self, name: str) -> list[str]:
        """The full name of a ref and of those that it points to by name; none where there is no
        such ref."""
        chain: list[str] = []
        while len(chain) < _MOST_LINKS:
            try:
                target = self._repository.lookup_reference(name).target
            except (*GIT_ERRORS, UnicodeError):
                break
            chain.append(name)
            if not isinstance(target, str):
                break
            name = target
        return chain

    def load_ref(self, name: str) -> Tip | None:
        """The commit that the ref of that full name leads to now; None where it is gone or leads to
        none. Raises RepositoryGone."""
        require_repository(self._paths)
        try:
            return _peel(self._repository.lookup_reference(name))
        except GIT_ERRORS:
            return None

    def _references(self) -> Iterator[pygit2.Reference]:
        iterator = self._repository.references_iterator_init()
        while (reference := self._repository.references_iterator_next(iterator)) is not None:
            yield reference


def _peel(reference: pygit2.Reference) -> Tip | None:
    try:
        return _tip_of(reference.peel(pygit2.Commit))
    except GIT_ERRORS:
        return None


def _tip_of(commit: pygit2.Commit) -> Tip:
    return Tip(GitId(str(commit.id)), commit.tree_id.raw, commit.commit_time)


def _loose_stamps(common_dir: Path) -> Iterator[object]:
    folders = [os.fsencode(common_dir / "refs")]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.name.endswith(b".lock"):
                        yield entry.path, _file_stamp(entry.path)
        except OSError:
            # A folder of refs goes with the last one in it.
            continue


def _file_stamp(path: Path | bytes) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    # git writes a new file and renames it, so that each change has another inode or time.
    return status.st_ino, status.st_size, status.st_mtime_ns


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
