"""`add SRC --to PATH` in clones of every kind, and what git's own verbs make of it afterwards."""

from pathlib import Path

import pytest

from store.errors import PathRefused, StoreError
from store.local_store import LocalStore
from store.pointer import parse_pointer
from store.remove import plan_remove
from store.walk import resolve_arguments
from tests.fakes.data_elsewhere import (
    add_elsewhere,
    below,
    changes_of_head,
    everything,
    make_origin,
    make_source,
    skipped,
)
from tests.fakes.repositories import (
    Repository,
    add,
    open_local,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder outside of any repository."""
    return make_source(tmp_path / "source")


@pytest.fixture
def origin(repository: Repository, local: LocalStore) -> Repository:
    """A repository with a commit of data, code and attributes."""
    return make_origin(repository, local)


def clone_without_files(origin: Repository, top: Path) -> None:
    origin.git("clone", "--quiet", "--no-checkout", str(origin.top), str(top))


def partial_clone(origin: Repository, top: Path) -> None:
    origin.git("config", "uploadpack.allowFilter", "true")
    words = ["clone", "--quiet", "--no-checkout", "--filter=blob:none"]
    origin.git(*words, f"file://{origin.top}", str(top))


def sparse_clone(origin: Repository, top: Path) -> None:
    clone_without_files(origin, top)
    clone = Repository(top)
    clone.git("sparse-checkout", "set", "--no-cone", "/code", "/.*")
    clone.git("checkout", "--quiet", "main")
    assert not (top / "data").exists()


def full_clone(origin: Repository, top: Path) -> None:
    origin.clone(top)
    assert parse_pointer((top / "data/1").read_bytes()) is not None


@pytest.mark.parametrize(
    "make", [clone_without_files, partial_clone, sparse_clone, full_clone], ids=lambda f: f.__name__
)
def test_in_a_clone_of_any_kind_the_commit_has_all_else_as_it_was(
    origin: Repository, tmp_path: Path, source: Path, make: object
) -> None:
    make(origin, tmp_path / "clone")  # type: ignore[operator]
    clone = Repository(tmp_path / "clone")
    # Git looks for renames in contents, which it would fetch.
    clone.git("config", "status.renames", "false")
    if make is partial_clone:
        # What would have to be fetched is not to be had, but for the attributes.
        clone.git("cat-file", "blob", "HEAD:.gitattributes")
        clone.git("cat-file", "blob", "HEAD:.revfsconfig")
        clone.git("remote", "set-url", "origin", f"file://{tmp_path}/gone")
    with open_local(clone, tmp_path / "other-cache") as local:
        add_elsewhere(clone, local, source)
        assert not (clone.top / "data").exists()
        staged = {b"A  " + path for path in below("data")}
        assert set(clone.status()) == staged | {b"D  data/%d" % number for number in range(5)}
        clone.commit()
        assert clone.status() == []
        before = everything(clone)
        assert add_elsewhere(clone, local, source).unchanged == 3
        assert everything(clone) == before
    removed = {b"data/%d" % number: b"D" for number in range(5)}
    assert changes_of_head(clone) == removed | dict.fromkeys(below("data"), b"A")
    attributes = clone.git("cat-file", "blob", "HEAD:.gitattributes")
    assert attributes.startswith(b"*.txt text\n")
    assert b"/other/** filter=revfs" in attributes


def test_attributes_are_extended_from_the_committed_ones_where_they_are_not_checked_out(
    origin: Repository, tmp_path: Path, source: Path
) -> None:
    clone_without_files(origin, tmp_path / "clone")
    clone = Repository(tmp_path / "clone")
    with open_local(clone, tmp_path / "other-cache") as local:
        add_elsewhere(clone, local, source, "new")
    clone.commit()
    before = origin.git("cat-file", "blob", "main:.gitattributes")
    after = clone.git("cat-file", "blob", "HEAD:.gitattributes")
    assert after == before + b"/new/** filter=revfs -merge -text\n"
    assert sorted(place.name for place in clone.top.iterdir()) == [".git"]
    assert clone.status() == []


def test_a_clone_without_an_index_keeps_sight_of_what_stands_there(
    origin: Repository, tmp_path: Path, source: Path
) -> None:
    clone_without_files(origin, tmp_path / "clone")
    clone = Repository(tmp_path / "clone")
    clone.write("notes.txt", b"changed")
    with open_local(clone, tmp_path / "other-cache") as local:
        add_elsewhere(clone, local, source, "new")
    assert b" M notes.txt" in clone.status()
    assert b"code/main.py" in skipped(clone)


def test_a_clone_without_an_index_is_whole_after_each_verb(
    origin: Repository, tmp_path: Path, source: Path
) -> None:
    clone_without_files(origin, tmp_path / "clone")
    clone = Repository(tmp_path / "clone")
    with open_local(clone, tmp_path / "other-cache") as local:
        clone.write("new/one", b"in place")
        add(clone, local, "new")
        clone.commit()
        assert changes_of_head(clone) == {b".gitattributes": b"M", b"new/one": b"A"}
        (clone.top / ".git/index").unlink()
        arguments = resolve_arguments(clone.top, clone.top, [Path("data")])
        with pytest.raises(PathRefused, match="no git index yet; run git reset"):
            plan_remove(local.repository, clone.top, arguments)
        # Pointers that stand there, too, in a clone that has lost its index.
        clone.git("checkout", "--quiet", "HEAD", "--", ".")
        (clone.top / ".git/index").unlink()
        add_elsewhere(clone, local, source, "other")
    clone.commit()
    removed = {b"other/%d" % number: b"D" for number in range(5)}
    assert changes_of_head(clone) == removed | dict.fromkeys(below("other"), b"A")


def test_gits_own_verbs_lose_none_of_it(
    repository: Repository, local: LocalStore, source: Path
) -> None:
    repository.write("code", b"one")
    repository.git("add", "code")
    repository.commit("before the data")
    repository.git("branch", "other")
    add_elsewhere(repository, local, source)
    repository.commit("the data")
    wanted = repository.git("ls-tree", "-r", "HEAD", "data")
    repository.write("code", b"two")
    repository.git("commit", "--quiet", "-a", "-m", "a change of code")
    assert repository.git("ls-tree", "-r", "HEAD", "data") == wanted
    repository.write("code", b"three")
    (source / "one").write_bytes(b"newer")
    add_elsewhere(repository, local, source)
    staged = repository.git("ls-files", "--stage", "data")
    repository.git("stash", "--quiet")
    assert repository.status() == []
    repository.git("stash", "pop", "--quiet", "--index")
    assert repository.git("ls-files", "--stage", "data") == staged
    repository.git("commit", "--quiet", "-a", "-m", "the second version")
    wanted = repository.git("ls-tree", "-r", "HEAD", "data")
    repository.git("checkout", "--quiet", "other")
    assert not (repository.top / "data").exists()
    repository.git("checkout", "--quiet", "-")
    assert repository.status() == []
    repository.git("commit", "--quiet", "-a", "--allow-empty", "-m", "nothing")
    assert repository.git("ls-tree", "-r", "HEAD", "data") == wanted
    # What git wrote there by then is the pointers, which the next version takes away.
    assert add_elsewhere(repository, local, source).unchanged == 3
    assert not (repository.top / "data").exists()
    assert repository.status() == []


def test_a_conflict_below_the_path_ends(
    repository: Repository, local: LocalStore, source: Path
) -> None:
    add_elsewhere(repository, local, source)
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "theirs")
    (source / "one").write_bytes(b"theirs")
    (source / "deep/two").write_bytes(b"theirs")
    add_elsewhere(repository, local, source)
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    (source / "one").write_bytes(b"ours")
    (source / "deep/two").write_bytes(b"ours")
    add_elsewhere(repository, local, source)
    repository.commit()
    with pytest.raises(StoreError, match=r"git ended|CONFLICT"):
        repository.git("merge", "--quiet", "theirs")
    assert len(repository.git("ls-files", "--unmerged", "-z").split(b"\0")) == 7
    for name in ("one", "deep/two"):
        (repository.top / "data" / name).unlink()
    (source / "deep/two").unlink()
    add_elsewhere(repository, local, source)
    assert repository.git("ls-files", "--unmerged") == b""
    repository.commit()
    assert b"data/deep/two" not in repository.staged()
    assert repository.status() == []
