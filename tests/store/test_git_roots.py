"""What hides a part of what git has, or is in the middle of changing it, is said."""

import shutil
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from store.errors import GitError
from store.git_command import RepositoryPaths, find_repository
from store.git_roots import load_full_stamp, load_git_dirs, require_all_in_sight
from tests.fakes.repositories import Repository


@pytest.fixture
def paths(repository: Repository) -> RepositoryPaths:
    return find_repository(repository.top)


def linked(repository: Repository) -> Repository:
    other = Repository(repository.top.with_name("linked"))
    repository.git("worktree", "add", "--quiet", str(other.top))
    return other


def test_an_ordinary_repository_is_in_sight(repository: Repository, paths: RepositoryPaths) -> None:
    linked(repository)
    repository.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/gone")
    repository.git("update-ref", "refs/heads/one", "HEAD")
    (repository.top / ".git/refs/heads/one.lock").write_bytes(b"half a li")
    require_all_in_sight(paths)
    assert [folder.name for folder in load_git_dirs(paths)] == [".git", "linked"]


def make_shallow(repository: Repository) -> None:
    repository.commit("second")
    clone = repository.top.with_name("shallow")
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.top}", str(clone))
    shutil.copy(clone / ".git/shallow", repository.top / ".git/shallow")


def make_partial(repository: Repository) -> None:
    repository.git("config", "uploadpack.allowFilter", "true")
    clone = repository.top.with_name("partial")
    address = f"file://{repository.top}"
    repository.git("clone", "--quiet", "--no-checkout", "--filter=blob:none", address, str(clone))
    shutil.copy(clone / ".git/config", repository.top / ".git/config")


def graft(repository: Repository) -> None:
    (repository.top / ".git/info").mkdir(exist_ok=True)
    (repository.top / ".git/info/grafts").write_text(f"{repository.head()}\n")


def damage_a_branch(repository: Repository) -> None:
    (repository.top / ".git/refs/heads/main").write_bytes(b"\0" * 41)


def damage_a_ref_of_another_worktree(repository: Repository) -> None:
    linked(repository).git("update-ref", "refs/bisect/bad", "HEAD")
    (repository.top / ".git/worktrees/linked/refs/bisect/bad").write_bytes(b"")


def damage_a_reflog(repository: Repository) -> None:
    with (repository.top / ".git/logs/HEAD").open("ab") as log:
        log.write(b"\0" * 100)


def damage_a_reflog_of_another_worktree(repository: Repository) -> None:
    linked(repository)
    (repository.top / ".git/worktrees/linked/logs/HEAD").write_bytes(b"nothing of the kind\n")


def begin_a_git_add(repository: Repository) -> None:
    (repository.top / ".git/index.lock").touch()


def begin_a_commit_in_another_worktree(repository: Repository) -> None:
    linked(repository)
    (repository.top / ".git/worktrees/linked/next-index-123.lock").touch()


def begin_a_stash(repository: Repository) -> None:
    (repository.top / ".git/index.stash.123").touch()


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (make_shallow, "shallow"),
        (make_partial, "partial clone"),
        (graft, "grafts"),
        (damage_a_branch, "refs/heads/main is damaged"),
        (damage_a_ref_of_another_worktree, "refs/bisect/bad is damaged"),
        (damage_a_reflog, "logs/HEAD is damaged"),
        (damage_a_reflog_of_another_worktree, "logs/HEAD is damaged"),
        (begin_a_git_add, "git is at work"),
        (begin_a_commit_in_another_worktree, "git is at work"),
        (begin_a_stash, "git is at work"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_hides_a_part_is_said(
    repository: Repository, paths: RepositoryPaths, do: Callable[[Repository], None], words: str
) -> None:
    do(repository)
    with pytest.raises(GitError, match=words):
        require_all_in_sight(paths)


def test_the_lock_of_a_killed_run_of_ours_is_in_nobodys_way(
    repository: Repository, paths: RepositoryPaths
) -> None:
    lock = repository.top / ".git/index.lock"
    (repository.top / ".git/index.revfs").write_bytes(b"half an index")
    lock.write_bytes(b"revfs\n")
    with lock.open("rb") as held:
        flock(held, LOCK_EX)
        with pytest.raises(GitError, match="git is at work"):
            require_all_in_sight(paths)
    require_all_in_sight(paths)
    assert not lock.exists()


def commit(repository: Repository) -> None:
    repository.commit()


def stage(repository: Repository) -> None:
    repository.write("new")
    repository.git("add", "new")


def stage_in_another(repository: Repository) -> None:
    stage(Repository(repository.top.with_name("linked")))


def forget_reflogs(repository: Repository) -> None:
    repository.git("reflog", "expire", "--expire=now", "--all")


def pack_refs(repository: Repository) -> None:
    repository.git("pack-refs", "--all")


def fetch_nothing(repository: Repository) -> None:
    repository.git("fetch", "--quiet", ".", "HEAD")


def bisect(repository: Repository) -> None:
    Repository(repository.top.with_name("linked")).git("bisect", "start", "HEAD")


@pytest.mark.parametrize(
    "change",
    [commit, stage, stage_in_another, forget_reflogs, pack_refs, fetch_nothing, bisect],
    ids=lambda change: change.__name__,
)
def test_a_change_of_any_place_changes_the_stamp(
    repository: Repository, paths: RepositoryPaths, change: Callable[[Repository], None]
) -> None:
    linked(repository)
    before = load_full_stamp(paths)
    assert load_full_stamp(paths) == before
    change(repository)
    assert load_full_stamp(paths) != before


def test_a_place_that_cannot_be_read_is_said(repository: Repository, tmp_path: Path) -> None:
    (repository.top / ".git/refs/heads/odd").symlink_to(tmp_path)
    with pytest.raises(GitError, match="odd cannot be read: Is a directory"):
        require_all_in_sight(find_repository(repository.top))
