"""Whatever git can come back to is found: each case leaves one way to a file, and no other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from store.errors import GitError
from store.git_blobs import blob_id
from store.git_command import find_repository
from store.git_reachable import stream_small_blobs
from tests.fakes.repositories import Repository

WANTED = b"what is to be found\n"
MOST_BYTES = 200


def found(repository: Repository, *roots: str) -> set[bytes]:
    paths = find_repository(repository.top)
    return {raw for batch in stream_small_blobs(paths, MOST_BYTES, roots) for raw in batch}


def is_found(repository: Repository, content: bytes = WANTED) -> bool:
    return blob_id(content) in found(repository)


def forget_reflogs(repository: Repository) -> None:
    repository.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")


def commit_wanted(repository: Repository, path: str = "file", content: bytes = WANTED) -> str:
    repository.write(path, content)
    repository.git("add", path)
    return repository.commit("with the wanted file")


def branch_with(repository: Repository, branch: str, path: str, content: bytes) -> str:
    """A branch with one more file, which is not checked out after that."""
    repository.git("checkout", "--quiet", "-b", branch)
    commit = commit_wanted(repository, path, content)
    repository.git("checkout", "--quiet", "main")
    return commit


def on_a_branch(repository: Repository) -> None:
    branch_with(repository, "side", "file", WANTED)
    forget_reflogs(repository)


def under_a_tag_of_a_tag(repository: Repository) -> None:
    commit = branch_with(repository, "side", "file", WANTED)
    repository.git("tag", "-a", "-m", "one", "one", commit)
    repository.git("tag", "-a", "-m", "two", "two", "one")
    repository.git("tag", "-d", "one")
    repository.git("branch", "-D", "side")
    forget_reflogs(repository)


def under_a_tag_of_a_file(repository: Repository) -> None:
    repository.git("tag", "alone", repository.write_blob(WANTED))


def in_a_note(repository: Repository) -> None:
    repository.git("notes", "add", "-C", repository.write_blob(WANTED))


def under_any_other_ref(repository: Repository) -> None:
    commit = branch_with(repository, "side", "file", WANTED)
    repository.git("update-ref", "refs/keep/around", commit)
    repository.git("branch", "-D", "side")
    forget_reflogs(repository)
    repository.git("pack-refs", "--all", "--prune")


def behind_a_replaced_commit(repository: Repository) -> None:
    commit = commit_wanted(repository)
    repository.git("rm", "--quiet", "file")
    after = repository.commit("without it")
    other = repository.git("commit-tree", f"{after}^{{tree}}", "-m", "in its place").decode()
    repository.git("replace", commit, other.strip())
    forget_reflogs(repository)


def in_the_index(repository: Repository) -> None:
    repository.write("file", WANTED)
    repository.git("add", "file")


def in_a_conflict(repository: Repository) -> None:
    commit_wanted(repository, "file", b"before\n")
    branch_with(repository, "theirs", "file", WANTED)
    commit_wanted(repository, "file", b"ours\n")
    with pytest.raises(GitError):
        repository.git("merge", "theirs")
    (repository.top / ".git/MERGE_HEAD").unlink()
    repository.git("branch", "-D", "theirs")
    forget_reflogs(repository)


def in_the_stash(repository: Repository) -> None:
    commit_wanted(repository, "file", b"before\n")
    repository.write("file", WANTED)
    repository.git("stash")


def in_an_older_stash(repository: Repository) -> None:
    in_the_stash(repository)
    repository.write("file", b"another change\n")
    repository.git("stash")


def among_the_untracked_of_a_stash(repository: Repository) -> None:
    repository.write("file", WANTED)
    repository.git("stash", "--include-untracked")


def in_a_reflog_after_amend(repository: Repository) -> None:
    commit_wanted(repository)
    repository.write("file", b"better\n")
    repository.git("add", "file")
    repository.git("commit", "--quiet", "--amend", "--message", "amended")


def in_a_reflog_after_reset(repository: Repository) -> None:
    commit_wanted(repository)
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    (repository.top / ".git/ORIG_HEAD").unlink()


def in_a_reflog_of_a_branch_that_is_gone(repository: Repository) -> None:
    branch_with(repository, "side", "file", WANTED)
    repository.git("branch", "-D", "side")


def at_a_detached_head(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--detach")
    commit_wanted(repository)
    forget_reflogs(repository)


def at_orig_head(repository: Repository) -> None:
    commit_wanted(repository)
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    forget_reflogs(repository)


def at_merge_head(repository: Repository) -> None:
    branch_with(repository, "side", "file", WANTED)
    repository.git("merge", "--no-commit", "--no-ff", "side")
    repository.git("rm", "--cached", "--quiet", "file")
    repository.git("branch", "-D", "side")
    forget_reflogs(repository)


def at_cherry_pick_head(repository: Repository) -> None:
    commit_wanted(repository, "file", b"before\n")
    branch_with(repository, "side", "file", WANTED)
    commit_wanted(repository, "file", b"ours\n")
    with pytest.raises(GitError):
        repository.git("cherry-pick", "side")
    # Without what the index remembers of conflicts that were settled.
    repository.git("read-tree", "HEAD")
    repository.git("branch", "-D", "side")
    forget_reflogs(repository)


def in_a_rebase(repository: Repository) -> None:
    """The rest of a branch that is being rebased: under no ref while that goes on."""
    commit_wanted(repository, "other", b"before\n")
    repository.git("checkout", "--quiet", "-b", "topic")
    commit_wanted(repository, "other", b"topic\n")
    commit_wanted(repository)
    repository.git("checkout", "--quiet", "main")
    commit_wanted(repository, "other", b"main\n")
    repository.git("checkout", "--quiet", "topic")
    with pytest.raises(GitError):
        repository.git("rebase", "main")
    repository.git("update-ref", "refs/heads/topic", "main")
    (repository.top / ".git/ORIG_HEAD").unlink()
    forget_reflogs(repository)


def in_the_autostash_of_a_rebase(repository: Repository) -> None:
    commit_wanted(repository, "other", b"before\n")
    commit_wanted(repository, "file", b"before\n")
    branch_with(repository, "side", "other", b"side\n")
    commit_wanted(repository, "other", b"ours\n")
    repository.write("file", WANTED)
    with pytest.raises(GitError):
        repository.git("rebase", "--autostash", "side")
    forget_reflogs(repository)


def second_worktree(repository: Repository, *arguments: str) -> Repository:
    other = Repository(repository.top.with_name("linked"))
    repository.git("worktree", "add", "--quiet", *arguments, str(other.top))
    return other


def at_the_head_of_another_worktree(repository: Repository) -> None:
    other = second_worktree(repository, "--detach")
    commit_wanted(other)
    forget_reflogs(repository)


def in_the_index_of_another_worktree(repository: Repository) -> None:
    in_the_index(second_worktree(repository))


def in_a_reflog_of_another_worktree(repository: Repository) -> None:
    in_a_reflog_after_reset_of(second_worktree(repository, "--detach"))
    (repository.top / ".git/worktrees/linked/ORIG_HEAD").unlink()


def in_a_reflog_after_reset_of(other: Repository) -> None:
    commit_wanted(other)
    other.git("reset", "--quiet", "--hard", "HEAD~1")


def at_orig_head_of_another_worktree(repository: Repository) -> None:
    other = second_worktree(repository, "--detach")
    in_a_reflog_after_reset_of(other)
    other.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    forget_reflogs(repository)


def under_a_bisect_ref_of_another_worktree(repository: Repository) -> None:
    other = second_worktree(repository, "--detach")
    commit = commit_wanted(other)
    other.git("checkout", "--quiet", "--detach", "HEAD~1")
    other.git("update-ref", "refs/bisect/bad", commit)
    other.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    forget_reflogs(repository)


def in_a_worktree_whose_folder_is_gone(repository: Repository) -> None:
    other = second_worktree(repository)
    in_the_index(other)
    other.top.rename(other.top.with_name("moved away"))


WAYS = [
    on_a_branch,
    under_a_tag_of_a_tag,
    under_a_tag_of_a_file,
    in_a_note,
    under_any_other_ref,
    behind_a_replaced_commit,
    in_the_index,
    in_a_conflict,
    in_the_stash,
    in_an_older_stash,
    among_the_untracked_of_a_stash,
    in_a_reflog_after_amend,
    in_a_reflog_after_reset,
    in_a_reflog_of_a_branch_that_is_gone,
    at_a_detached_head,
    at_orig_head,
    at_merge_head,
    at_cherry_pick_head,
    in_a_rebase,
    in_the_autostash_of_a_rebase,
    at_the_head_of_another_worktree,
    in_the_index_of_another_worktree,
    in_a_reflog_of_another_worktree,
    at_orig_head_of_another_worktree,
    under_a_bisect_ref_of_another_worktree,
    in_a_worktree_whose_folder_is_gone,
]


@pytest.mark.parametrize("lead_to_it", WAYS, ids=lambda way: way.__name__)
def test_a_file_is_found(repository: Repository, lead_to_it: Callable[[Repository], None]) -> None:
    lead_to_it(repository)
    assert is_found(repository)


def test_what_is_found_from_one_worktree_is_found_from_each(repository: Repository) -> None:
    other = second_worktree(repository)
    in_the_index(repository)
    commit_wanted(other, "elsewhere", b"elsewhere\n")
    assert found(other) == found(repository) >= {blob_id(WANTED), blob_id(b"elsewhere\n")}


def test_a_bare_repository_is_looked_at_as_well(repository: Repository, tmp_path: Path) -> None:
    commit_wanted(repository)
    repository.git("clone", "--quiet", "--bare", str(repository.top), str(tmp_path / "bare"))
    assert is_found(Repository(tmp_path / "bare"))


def test_what_a_repository_borrows_is_found(repository: Repository, tmp_path: Path) -> None:
    commit_wanted(repository)
    repository.git("clone", "--quiet", "--shared", str(repository.top), str(tmp_path / "borrower"))
    borrower = Repository(tmp_path / "borrower")
    assert is_found(borrower)
    (repository.top / ".git/objects").rename(tmp_path / "away")
    with pytest.raises(GitError):
        found(borrower)


def test_what_nothing_leads_to_is_not_found(repository: Repository) -> None:
    repository.write_blob(WANTED)
    commit_wanted(repository, "file", b"gone\n")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    (repository.top / ".git/ORIG_HEAD").unlink()
    forget_reflogs(repository)
    commit_wanted(repository, "large", b"x" * (MOST_BYTES + 1))
    commit_wanted(repository, "just", b"x" * MOST_BYTES)
    assert not is_found(repository)
    assert blob_id(b"gone\n") not in found(repository)
    sizes = {len(repository.git("cat-file", "blob", raw.hex())) for raw in found(repository)}
    assert max(sizes) == MOST_BYTES


def test_what_more_roots_lead_to_is_found_and_those_that_are_gone_are_no_error(
    repository: Repository,
) -> None:
    commit = commit_wanted(repository)
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    (repository.top / ".git/ORIG_HEAD").unlink()
    forget_reflogs(repository)
    assert blob_id(WANTED) in found(repository, commit, "1" * 40)


def test_the_index_that_a_hook_was_given_does_not_hide_the_real_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_the_index(repository)
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "another-index"))
    assert is_found(repository)


@pytest.mark.parametrize("kind", ["blob", "tree", "commit"])
def test_an_object_that_is_missing_on_the_way_is_an_error(
    repository: Repository, kind: str
) -> None:
    commit_wanted(repository, "folder/file")
    commit_wanted(repository, "other", b"other\n")
    name = {"blob": "HEAD~1:folder/file", "tree": "HEAD~1:folder", "commit": "HEAD~1"}[kind]
    missing = repository.git("rev-parse", name).decode().strip()
    (repository.top / ".git/objects" / missing[:2] / missing[2:]).unlink()
    with pytest.raises(GitError, match=missing):
        found(repository)


def test_a_reflog_that_names_a_commit_that_is_gone_is_an_error(repository: Repository) -> None:
    commit = commit_wanted(repository)
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    (repository.top / ".git/ORIG_HEAD").unlink()
    (repository.top / ".git/objects" / commit[:2] / commit[2:]).unlink()
    with pytest.raises(GitError, match="references pruned commits"):
        found(repository)


def test_who_listens_no_more_leaves_no_git_behind(repository: Repository) -> None:
    for number in range(3):
        commit_wanted(repository, f"file-{number}", b"%d" % number)
    batches = stream_small_blobs(find_repository(repository.top), MOST_BYTES)
    assert next(batches)
    batches.close()
