"""What goes by which name: the folders that refs make, and when git is asked again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from store.git import GitRepository
from store.git_command import find_repository
from store.git_refs import Ref, Tip
from store.ids import GitId
from vfs.ref_names import RefNames, Snapshot, plan_names

parts = st.sampled_from([b"a", b"b", b"main", b"\xff", b".git", b"n" * 256, b"x.lock"])
ref_names = st.lists(parts, min_size=1, max_size=3).map(b"/".join)
kinds = st.sampled_from([b"refs/heads/", b"refs/remotes/", b"refs/tags/"])
FOLDERS = {b"refs/heads/": b"branches", b"refs/remotes/": b"remotes", b"refs/tags/": b"tags"}


def tip(number: int) -> Tip:
    return Tip(GitId(f"{number:040x}"), bytes([number]) * 20, 1000 + number)


def refs_of(*names: bytes) -> list[Ref]:
    return [Ref(name, tip(number)) for number, name in enumerate(names)]


def test_refs_are_folders_of_names_and_slashes_part_them() -> None:
    names = (b"refs/heads/main", b"refs/heads/a/b/c", b"refs/remotes/origin/main", b"refs/tags/v1")
    snapshot = plan_names(refs_of(*names), [tip(9)])
    assert snapshot.names.keys() == {b"branches", b"remotes", b"tags", b"commits"}
    assert snapshot.folder((b"branches",)) == {b"main": tip(0), b"a": {b"b": {b"c": tip(1)}}}
    assert snapshot.folder((b"branches", b"a", b"b")) == {b"c": tip(1)}
    assert snapshot.folder((b"remotes", b"origin")) == {b"main": tip(2)}
    assert snapshot.folder((b"tags",)) == {b"v1": tip(3)}
    assert snapshot.folder((b"commits",)) == {tip(9).commit.encode(): tip(9)}
    assert snapshot.time_seconds == 1003


def test_a_folder_that_is_not_there_or_a_commit_holds_no_names() -> None:
    snapshot = plan_names(refs_of(b"refs/heads/main"), [])
    for path in ((b"none",), (b"branches", b"main"), (b"branches", b"main", b"x")):
        assert snapshot.folder(path) == {}
    assert Snapshot({}, 0).folder((b"branches", b"a")) == {}


def test_no_refs_are_four_empty_folders() -> None:
    snapshot = plan_names([], [])
    assert all(snapshot.folder((name,)) == {} for name in snapshot.names)
    assert len(snapshot.names) == 4


def test_names_that_no_folder_can_hold_are_left_out() -> None:
    names = (b"refs/heads/.git", b"refs/heads/a/.git/b", b"refs/heads/" + b"n" * 256)
    assert plan_names(refs_of(*names), []).folder((b"branches",)) == {}


@given(st.lists(st.tuples(kinds, ref_names), unique=True, max_size=12))
def test_every_name_leads_to_its_own_commit_or_is_left_out(
    found: list[tuple[bytes, bytes]],
) -> None:
    refs = refs_of(*(kind + name for kind, name in found))
    snapshot = plan_names(refs, [])
    for (kind, name), ref in zip(found, refs, strict=True):
        *folders, last = name.split(b"/")
        target = snapshot.folder((FOLDERS[kind], *folders)).get(last)
        assert target is None or isinstance(target, dict) or target == ref.tip


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with one commit and a branch with a name that is not UTF-8."""
    top = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", top], check=True)
    git(top, "commit", "--quiet", "--allow-empty", "-m", "1")
    git(top, "branch", b"odd\xff")
    return top


def git(top: Path, *arguments: str | bytes) -> None:
    subprocess.run(["git", "-C", top, *arguments], check=True)


@pytest.fixture
def repository(top: Path) -> Iterator[GitRepository]:
    opened = GitRepository(find_repository(top))
    yield opened
    opened.close()


@pytest.mark.virtual_clock
async def test_git_is_asked_again_only_where_a_ref_has_moved_and_half_a_second_is_over(
    top: Path, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    load_all = repository.refs.load_all
    monkeypatch.setattr(repository.refs, "load_all", lambda: asked.append(1) or load_all())
    names = RefNames(repository)
    first = await names.load()
    assert first.folder((b"branches",)).keys() == {b"main", b"odd\xff"}
    await trio.sleep(1)
    assert await names.load() is first
    assert len(asked) == 1
    git(top, "tag", "v1")
    assert await names.load() is first
    await trio.sleep(0.5)
    assert (await names.load()).folder((b"tags",)).keys() == {b"v1"}
    assert len(asked) == 2


@pytest.mark.virtual_clock
async def test_names_stay_while_git_cannot_say(
    top: Path, repository: GitRepository, caplog: pytest.LogCaptureFixture
) -> None:
    names = RefNames(repository)
    first = await names.load()
    top.rename(top.with_name("elsewhere"))
    await trio.sleep(1)
    assert await names.load() is first
    assert caplog.records == []
