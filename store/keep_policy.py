"""Which commits of this repository a remote is to keep, by what this clone knows of its history."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from store.git import GitRepository
from store.git_command import RepositoryPaths, run_git
from store.git_refs import Ref
from store.ids import GitId

_ALL = 1 << 62
_REMOTE_BRANCHES = (b"refs/heads/", b"refs/remotes/")


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """What is kept: the tips of all branches (of git remotes as well), all tags, every commit since
    a time (in seconds since 1970) that a ref or a work tree leads to, and commits by name. Each
    adds to the others, and what is checked out is always kept. With none, nothing is forgotten."""

    branches: bool = False
    tags: bool = False
    since_seconds: float | None = None
    commits: tuple[GitId, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self == KeepPolicy()


@dataclass(frozen=True, slots=True)
class CommitName:
    """A commit for people: the committer's time in seconds since 1970, and the first line."""

    commit: GitId
    time_seconds: int
    subject: str


def find_dropped(
    repository: GitRepository, policy: KeepPolicy, commits: Collection[GitId]
) -> set[GitId]:
    """Those of `commits` that the policy does not keep. One that this clone does not know is kept:
    somebody else's branch may lead to it. Raises GitError."""
    if policy.is_empty:
        return set()
    refs = repository.refs.load_all()
    heads = _load_heads(repository)
    kept = set(policy.commits) | heads
    if policy.branches:
        kept |= _tips_of(refs, _REMOTE_BRANCHES)
    if policy.tags:
        kept |= _tips_of(refs, (b"refs/tags/",))
    if policy.since_seconds is not None:
        tips = [ref.tip for ref in refs]
        tips += [tip for head in heads if (tip := repository.refs.find_commit(head)) is not None]
        reached = repository.refs.load_recent(tips, _ALL)
        kept |= {tip.commit for tip in reached if tip.time_seconds >= policy.since_seconds}
    return {c for c in commits if c not in kept and repository.refs.find_commit(c) is not None}


def load_names(paths: RepositoryPaths, commits: Iterable[GitId]) -> list[CommitName]:
    """What people call commits that this clone knows, oldest first."""
    asked = "".join(f"{commit}\n" for commit in commits).encode()
    if not asked:
        return []
    command = ("rev-list", "--no-walk=unsorted", "--format=%H%x00%ct%x00%s", "--stdin")
    lines = run_git(command, cwd=paths.git_dir, stdin=asked)
    rows = [line.split("\0") for line in lines.decode(errors="replace").splitlines()]
    names = [CommitName(GitId(row[0]), int(row[1]), row[2]) for row in rows if len(row) == 3]
    return sorted(names, key=lambda name: (name.time_seconds, name.commit))


def _tips_of(refs: Iterable[Ref], kinds: tuple[bytes, ...]) -> set[GitId]:
    return {ref.tip.commit for ref in refs if ref.name.startswith(kinds)}


def _load_heads(repository: GitRepository) -> set[GitId]:
    """What is checked out, here and in the other work trees of the repository."""
    listed = run_git(("worktree", "list", "--porcelain"), cwd=repository.paths.git_dir).decode(
        errors="replace"
    )
    heads = [line.split()[1] for line in listed.splitlines() if line.startswith("HEAD ")]
    return {GitId(head) for head in heads if head.strip("0")}
