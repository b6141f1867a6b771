"""Git: revisions, trees and blobs, and writes to git's objects. Its index is in `store.git_index`.

Reads go through libgit2, whose ownership check stays on. Objects are written by git itself, many in
one pack.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pygit2
from pygit2.enums import ObjectType, SortMode

from store.errors import GitError, RevisionNotFound
from store.git_blob_pack import BlobPack
from store.git_blobs import PackedBlobs, blob_id
from store.git_command import RepositoryPaths
from store.git_index import GIT_ERRORS, GitIndex
from store.git_refs import GitRefs, require_repository
from store.ids import GitId

__all__ = ["Commit", "GitRepository", "Revision", "blob_id"]

_WINDOW_BYTES = 4 << 20
_MAPPED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit and its root tree (raw id, 20 bytes)."""

    commit: GitId
    tree: bytes


@dataclass(frozen=True, slots=True)
class Revision:
    """What a user's text resolved to; `time_seconds` is the committer's time since 1970."""

    text: str
    commit: GitId
    tree: bytes
    time_seconds: int


class GitRepository:
    """One repository, opened in this process. Not for use from two threads at once."""

    def __init__(self, paths: RepositoryPaths) -> None:
        """Raises GitError for a repository that libgit2 cannot or, by its owner, must not open."""
        self.paths = paths
        _bound_maps()
        self.index = GitIndex(paths.git_dir / "index")
        try:
            self._repository = pygit2.Repository(str(paths.git_dir))
        except GIT_ERRORS as error:
            raise GitError(f"the repository {paths.git_dir} cannot be opened: {error}") from error
        self.refs = GitRefs(self._repository, paths)
        self._packed = PackedBlobs(paths.common_dir / "objects")

    def close(self) -> None:
        """Let go of file descriptors and maps."""
        self._packed.close()
        self._repository.free()

    def resolve(self, text: str) -> Revision:
        """The commit that `text` names, as git rev-parse would. Raises RevisionNotFound."""
        try:
            commit = self._repository.revparse_single(text).peel(pygit2.Commit)
        except GIT_ERRORS as error:
            if self._repository.is_empty:
                raise RevisionNotFound("there is no commit in this repository yet") from error
            raise RevisionNotFound(
                f"no commit goes by the name {text!r} here; git log --all --oneline shows them"
            ) from error
        return Revision(text, GitId(str(commit.id)), commit.tree_id.raw, commit.commit_time)

    def head_exists(self) -> bool:
        """Whether HEAD names a commit yet."""
        return not self._repository.head_is_unborn

    def branch_and_tag_commits(self) -> list[GitId]:
        """The commits of all local branches and tags; a tag of something else has none."""
        commits = []
        try:
            names = self._repository.raw_listall_references()
        except GIT_ERRORS as error:
            raise GitError(f"the branches and tags cannot be read: {error}") from error
        for name in names:
            if name.startswith((b"refs/heads/", b"refs/tags/")):
                try:
                    commits.append(self.resolve(os.fsdecode(name)).commit)
                except RevisionNotFound as error:
                    if name.startswith(b"refs/heads/") or isinstance(error.__cause__, UnicodeError):
                        raise
        return commits

    def history(self, tips: Iterable[GitId]) -> list[Commit]:
        """Every commit that can be reached from `tips`, parents before children."""
        walker = self._repository.walk(None, SortMode.TOPOLOGICAL | SortMode.REVERSE)
        try:
            for tip in tips:
                walker.push(pygit2.Oid(hex=tip))
            return [Commit(GitId(str(found.id)), found.tree_id.raw) for found in walker]
        except GIT_ERRORS as error:
            raise GitError(f"the history cannot be read: {error}") from error

    def commits_named(self, text: str) -> list[GitId]:
        """The commit that `text` names, or those of a range (`A..B`): what can be reached from B
        and not from A. Raises RevisionNotFound."""
        since, dots, until = text.partition("..")
        if not dots:
            return [self.resolve(text).commit]
        older = {commit.commit for commit in self.history([self.resolve(since).commit])}
        tip = self.resolve(until or "HEAD").commit
        return [commit.commit for commit in self.history([tip]) if commit.commit not in older]

    def load_tree(self, raw_id: bytes) -> bytes:
        """The raw bytes of a tree object. Raises GitError."""
        return self._load(raw_id, ObjectType.TREE)

    def load_blob(self, raw_id: bytes) -> bytes:
        """The contents of a blob, whole. Ask `load_blob_size` first. Raises GitError."""
        return self._load(raw_id, ObjectType.BLOB)

    def load_blob_size(self, raw_id: bytes) -> int:
        """The size of a blob in bytes; reads no contents. Raises GitError."""
        try:
            kind, size = self._repository.odb.read_header(pygit2.Oid(raw=raw_id))
        except GIT_ERRORS as error:
            require_repository(self.paths)
            raise GitError(f"git has no object {raw_id.hex()}") from error
        if kind != ObjectType.BLOB:
            raise GitError(f"the git object {raw_id.hex()} is not a file")
        return int(size)

    def load_small_blobs(self, raw_ids: Sequence[bytes], most_bytes: int) -> list[bytes | int]:
        """Of each blob, in the order asked, its contents, or where it is larger than `most_bytes`
        its size alone, which is all that is read of it. Raises GitError."""
        found: list[bytes | int] = []
        for raw_id, packed in zip(raw_ids, self._packed.load(raw_ids, most_bytes), strict=True):
            if packed is None:
                size = self.load_blob_size(raw_id)
                packed = size if size > most_bytes else self.load_blob(raw_id)
            found.append(packed)
        return found

    def _load(self, raw_id: bytes, kind: ObjectType) -> bytes:
        try:
            found, content = self._repository.read(pygit2.Oid(raw=raw_id))
        except GIT_ERRORS as error:
            require_repository(self.paths)
            raise GitError(f"git has no object {raw_id.hex()}") from error
        if found != kind:
            raise GitError(f"the git object {raw_id.hex()} is not a {kind.name.lower()}")
        return content

    def write_blobs(self, contents: Iterable[bytes], known: Collection[bytes] = ()) -> list[bytes]:
        """Write blobs and return their raw ids; those whose id is `known` are there already. Many
        go into one git pack, not a loose object each."""
        pack = BlobPack(known)
        ids = [pack.add(content) for content in contents]
        pack.write(self.paths)
        return ids


def _bound_maps() -> None:
    """Have libgit2 map small windows of git's packs, and few. A walk of a million files else brings
    the whole pack into this process, where it counts as memory in use; it is no slower."""
    pygit2.settings.mwindow_size = _WINDOW_BYTES
    pygit2.settings.mwindow_mapped_limit = _MAPPED_BYTES
