"""Refs, recent commits, and commits by the beginning of their ids, as git itself sees them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import RepositoryGone, RevisionNotFound
from store.git import GitRepository
from store.git_command import find_repository, run_git
from store.git_refs import GitRefs, load_ref_stamp, load_stamp
from tests.fakes.repositories import Repository

COMMITS = 700


@pytest.fixture
def opened(repository: Repository) -> Iterator[GitRepository]:
    opened = GitRepository(find_repository(repository.top))
    yield opened
    opened.close()


@pytest.fixture
def refs(opened: GitRepository) -> GitRefs:
    return opened.refs


@pytest.fixture
def long_history(repository: Repository) -> list[str]:
    """The ids of many commits in a line, newest first, of which some begin alike."""
    script = b"".join(
        b"commit refs/heads/long\ncommitter T <t@example.org> %d +0000\ndata 1\nx\n" % (1000 + n)
        for n in range(COMMITS)
    )
    repository.git("fast-import", "--quiet", stdin=script)
    return repository.git("rev-list", "long").decode().split()


def head_of(repository: Repository) -> str:
    return repository.git("rev-parse", "HEAD").decode().strip()


def test_branches_remote_branches_and_tags_that_lead_to_a_commit_are_listed(
    repository: Repository, refs: GitRefs
) -> None:
    head = head_of(repository)
    repository.git("branch", "feature/x")
    repository.git("branch", b"odd\xff")
    repository.git("tag", "--annotate", "-m", "x", "annotated")
    repository.git("tag", "a-tree", "HEAD^{tree}")
    repository.git("update-ref", "refs/remotes/origin/main", "HEAD")
    repository.git("update-ref", "refs/notes/x", "HEAD")
    repository.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    repository.git("symbolic-ref", "refs/heads/dangling", "refs/heads/none")
    expected = {
        b"refs/heads/alias",
        b"refs/heads/feature/x",
        b"refs/heads/main",
        b"refs/heads/odd\xff",
        b"refs/remotes/origin/main",
        b"refs/tags/annotated",
    }
    for _ in range(2):
        found = refs.load_all()
        assert {ref.name for ref in found} == expected
        assert {ref.tip.commit for ref in found} == {head}
        repository.git("pack-refs", "--all")
    (tip,) = {ref.tip for ref in found}
    assert tip.tree.hex() == repository.git("rev-parse", "HEAD^{tree}").decode().strip()
    assert tip.time_seconds == int(repository.git("log", "-1", "--format=%ct"))


def test_a_stamp_changes_with_every_change_of_a_ref_and_with_nothing_else(
    repository: Repository,
) -> None:
    paths = find_repository(repository.top)
    head = head_of(repository)
    repository.git("commit", "--quiet", "--allow-empty", "-m", "x")
    seen = [load_stamp(paths)]
    for change in (
        ("branch", "a/b"),
        ("branch", "--force", "a/b", head),
        ("tag", "v1"),
        ("pack-refs", "--all"),
        ("branch", "--delete", "--force", "a/b"),
        ("update-ref", "refs/remotes/origin/main", head),
    ):
        repository.git(*change)
        stamp = load_stamp(paths)
        assert stamp not in seen, change
        assert load_stamp(paths) == stamp
        seen.append(stamp)
    repository.write("file")
    repository.git("add", "file")
    assert load_stamp(paths) == seen[-1]


def test_the_stamp_of_one_ref_changes_with_it_and_with_what_it_points_to(
    repository: Repository, refs: GitRefs
) -> None:
    paths = find_repository(repository.top)
    chain = refs.resolve_name("HEAD")
    assert chain == ["HEAD", "refs/heads/main"]
    before = load_ref_stamp(paths, chain)
    repository.git("branch", "other")
    assert load_ref_stamp(paths, chain) == before
    repository.git("commit", "--quiet", "--allow-empty", "-m", "x")
    committed = load_ref_stamp(paths, chain)
    assert committed != before
    repository.git("symbolic-ref", "HEAD", "refs/heads/other")
    switched = load_ref_stamp(paths, chain)
    assert switched != committed
    # Another chain is another stamp, also where both end at the same commit.
    repository.git("branch", "--force", "--no-track", "third", "main")
    repository.git("symbolic-ref", "HEAD", "refs/heads/third")
    third = load_ref_stamp(paths, refs.resolve_name("HEAD"))
    assert third != load_ref_stamp(paths, chain)


def test_a_name_means_a_branch_before_it_means_a_tag(repository: Repository, refs: GitRefs) -> None:
    repository.git("tag", "both")
    assert refs.resolve_name("both") == ["refs/tags/both"]
    repository.git("branch", "both")
    assert refs.resolve_name("both") == ["refs/heads/both"]
    assert refs.resolve_name("refs/tags/both") == ["refs/tags/both"]
    repository.git("update-ref", "refs/remotes/origin/far", "HEAD")
    assert refs.resolve_name("origin/far") == ["refs/remotes/origin/far"]
    for name in ("nonsense", head_of(repository), "main~1", "", "a b", os.fsdecode(b"\xff")):
        with pytest.raises(RevisionNotFound, match="leave --follow out"):
            refs.resolve_name(name)


def test_the_commit_of_a_ref_is_that_of_now(repository: Repository, refs: GitRefs) -> None:
    for _ in range(2):
        tip = refs.load_ref("refs/heads/main")
        assert tip is not None
        assert tip.commit == head_of(repository)
        repository.git("commit", "--quiet", "--allow-empty", "-m", "x")
    assert refs.load_ref("refs/heads/none") is None


def test_refs_that_point_to_each_other_lead_nowhere(repository: Repository, refs: GitRefs) -> None:
    repository.git("symbolic-ref", "refs/heads/a", "refs/heads/b")
    repository.git("symbolic-ref", "refs/heads/b", "refs/heads/a")
    assert refs.load_ref("refs/heads/a") is None
    assert len(refs.load_chain("refs/heads/a")) < 10
    assert {ref.name for ref in refs.load_all()} == {b"refs/heads/main"}


def test_recent_commits_are_the_newest_of_all_tips(
    repository: Repository, refs: GitRefs, long_history: list[str]
) -> None:
    tips = [ref.tip for ref in refs.load_all()]
    recent = [tip.commit for tip in refs.load_recent(tips, 20)]
    assert recent == [head_of(repository), *long_history[:19]]
    assert len(refs.load_recent(tips, 10_000)) == COMMITS + 1
    assert refs.load_recent([], 20) == []


def test_a_commit_is_found_by_every_beginning_that_is_its_own(
    repository: Repository, refs: GitRefs, long_history: list[str]
) -> None:
    listed = repository.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    objects = listed.decode().split()
    beginnings = [name[:4] for name in objects]
    alike = [name for name in long_history if beginnings.count(name[:4]) > 1]
    alone = [name for name in long_history if beginnings.count(name[:4]) == 1]
    assert alike
    assert alone
    assert all(refs.find_commit(name[:4]) is None for name in alike)
    for name in alone[:20]:
        for length in (4, 7, 12, 39, 40):
            found = refs.find_commit(name[:length])
            assert found is not None
            assert found.commit == name
        assert refs.find_commit(name[:3]) is None
        assert refs.find_commit(name.upper()) is None or name.isdigit()


def test_what_is_no_commit_is_not_found(repository: Repository, refs: GitRefs) -> None:
    repository.git("tag", "--annotate", "-m", "x", "annotated")
    for name in ("HEAD^{tree}", "annotated", "HEAD:"):
        found = repository.git("rev-parse", name).decode().strip()
        assert refs.find_commit(found) is None
    for text in ("0" * 40, "HEAD", "main", "", "a b", head_of(repository) + "0"):
        assert refs.find_commit(text) is None


def test_a_repository_that_was_moved_is_called_gone(
    repository: Repository, opened: GitRepository, tmp_path: Path
) -> None:
    paths = opened.paths
    for number in range(300):
        repository.write(f"folder-{number}/file", b"%d" % number)
    repository.git("add", ".")
    tree = bytes.fromhex(run_git(["write-tree"], cwd=repository.top).decode().strip())
    repository.top.rename(tmp_path / "elsewhere")
    for look in (
        lambda: opened.load_tree(tree),
        lambda: opened.load_blob(tree),
        lambda: opened.load_blob_size(tree),
        opened.refs.load_all,
        lambda: opened.refs.load_ref("refs/heads/main"),
        lambda: opened.refs.find_commit("abcd"),
        lambda: load_stamp(paths),
        lambda: load_ref_stamp(paths, ["HEAD"]),
    ):
        with pytest.raises(RepositoryGone, match=r"that was at .*\.git is not there any more"):
            look()
