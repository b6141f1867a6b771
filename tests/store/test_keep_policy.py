"""Which commits a policy drops, by real history."""

from pathlib import Path

import pytest

from store.git import GitRepository
from store.ids import GitId
from store.keep_policy import KeepPolicy, find_dropped, load_names
from tests.fakes.repositories import Repository


def commit_at(repository: Repository, message: str, seconds: int) -> GitId:
    """A commit whose committer's time is that."""
    date = f"GIT_COMMITTER_DATE={seconds} +0000"
    command = ["env", date, "git", "commit", "-q", "--allow-empty", "-m", message]
    repository.git("-c", f"alias.at=!{' '.join(map(repr, command))}", "at")
    return GitId(repository.head())


@pytest.fixture
def history(repository: Repository) -> dict[str, GitId]:
    """first ← tagged ← main (HEAD), first ← side, an amended commit that only the reflog knows."""
    commits = {"start": GitId(repository.head())}
    commits["first"] = commit_at(repository, "first", 1_700_000_000)
    repository.git("branch", "side")
    commits["tagged"] = commit_at(repository, "tagged", 1_710_000_000)
    repository.git("tag", "-a", "v1", "-m", "a version")
    commits["amended"] = commit_at(repository, "amended", 1_715_000_000)
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    commits["main"] = commit_at(repository, "main", 1_720_000_000)
    repository.git("switch", "--quiet", "side")
    commits["side"] = commit_at(repository, "side", 1_725_000_000)
    repository.git("switch", "--quiet", "-")
    return commits


def dropped(opened: GitRepository, history: dict[str, GitId], policy: KeepPolicy) -> set[str]:
    names = {commit: name for name, commit in history.items()}
    return {names[commit] for commit in find_dropped(opened, policy, set(history.values()))}


def test_without_a_policy_nothing_is_dropped(
    opened: GitRepository, history: dict[str, GitId]
) -> None:
    assert KeepPolicy().is_empty
    assert dropped(opened, history, KeepPolicy()) == set()


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (KeepPolicy(branches=True), {"main", "side"}),
        (KeepPolicy(tags=True), {"main", "tagged"}),
        (KeepPolicy(since_seconds=1_710_000_000), {"tagged", "main", "side"}),
        (KeepPolicy(since_seconds=0.0), {"start", "first", "tagged", "main", "side"}),
        (KeepPolicy(branches=True, tags=True), {"tagged", "main", "side"}),
    ],
    ids=["branches", "tags", "since", "all", "both"],
)
def test_what_is_kept(
    opened: GitRepository, history: dict[str, GitId], policy: KeepPolicy, kept: set[str]
) -> None:
    """What is checked out always is."""
    # `start` was made by the clock on the wall.
    expected = set(history) - kept
    if policy.since_seconds is not None:
        expected.discard("start")
    assert dropped(opened, history, policy) == expected


def test_commits_by_name_and_by_range(opened: GitRepository, history: dict[str, GitId]) -> None:
    assert opened.commits_named("v1") == [history["tagged"]]
    assert opened.commits_named(f"{history['first']}..HEAD") == [history["tagged"], history["main"]]
    assert opened.commits_named("v1..") == [history["main"]]
    policy = KeepPolicy(commits=tuple(opened.commits_named("v1")))
    assert dropped(opened, history, policy) == set(history) - {"tagged", "main"}


def test_branches_of_git_remotes_and_other_work_trees_count(
    opened: GitRepository, repository: Repository, history: dict[str, GitId], tmp_path: Path
) -> None:
    repository.git("update-ref", "refs/remotes/origin/theirs", history["first"])
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "w"), history["tagged"])
    assert dropped(opened, history, KeepPolicy(branches=True)) == {"start", "amended"}


def test_an_unknown_commit_is_kept(opened: GitRepository, history: dict[str, GitId]) -> None:
    unknown = GitId("c0" * 20)
    assert find_dropped(opened, KeepPolicy(branches=True), {unknown}) == set()


def test_the_names_of_commits(opened: GitRepository, history: dict[str, GitId]) -> None:
    found = load_names(opened.paths, [history["side"], history["first"]])
    assert [(name.subject, name.time_seconds) for name in found] == [
        ("first", 1_700_000_000),
        ("side", 1_725_000_000),
    ]
    assert load_names(opened.paths, []) == []
