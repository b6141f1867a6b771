"""`add` of what cannot be added: it is named, and nothing has changed."""

import os
import stat
from pathlib import Path

import pytest

from store import read_files as read_files_module
from store.add import plan_add
from store.errors import GitError, PathNotFound, PathRefused, StoreError
from store.local_store import LocalStore
from store.pointer import Pointer
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    add,
    add_context,
    make_repository,
    open_local,
    staged_packs,
    staged_pointer,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def everything(repository: Repository) -> tuple[bytes, bytes | None, list[str]]:
    """What an add that fails must leave: index, `.gitattributes`, and no file of its own."""
    git = repository.top / ".git"
    attributes = repository.top / ".gitattributes"
    return (
        (git / "index").read_bytes(),
        attributes.read_bytes() if attributes.exists() else None,
        sorted(path.name for path in (*git.iterdir(), *repository.top.iterdir())),
    )


def test_a_pointer_text_that_is_not_gits_own_is_refused(
    repository: Repository, local: LocalStore, tmp_path: Path
) -> None:
    repository.write("a", b"data")
    add(repository, local)
    repository.commit()
    clone = repository.clone(tmp_path / "clone")
    (clone.top / "a").rename(clone.top / "b")
    before = everything(clone)
    with open_local(clone, tmp_path / "other-cache") as other:
        with pytest.raises(PathRefused, match=r"^b holds the text of a pointer"):
            add(clone, other, "b")
        (clone.top / "b").rename(clone.top / "a")
        (clone.top / "a").write_bytes(Pointer(staged_pointer(clone, b"a").content, 9).to_bytes())
        with pytest.raises(PathRefused, match=r"^a holds the text of a pointer"):
            add(clone, other)
    after = everything(clone)
    assert after[:2] == before[:2]


def _fifo(place: Path) -> None:
    os.mkfifo(place)


def _device(place: Path) -> None:
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def _repository(place: Path) -> None:
    make_repository(place)


def _misnamed(place: Path) -> None:
    place.mkdir()
    (place / "git~1").write_bytes(b"x")


@pytest.mark.parametrize("make", [_fifo, _device, _repository, _misnamed])
def test_one_bad_file_is_named_and_nothing_changes(
    repository: Repository, local: LocalStore, make: object
) -> None:
    repository.write("good/file")
    make(repository.top / "good" / "it")  # type: ignore[operator]
    before = everything(repository)
    with pytest.raises(StoreError, match=r"good/it"):
        add(repository, local)
    assert everything(repository) == before


@pytest.mark.parametrize("fault", ["vanishes", "changes", "becomes a folder"])
def test_one_file_that_does_not_rest_is_named_and_nothing_changes(
    repository: Repository, local: LocalStore, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("a", b"fine")
    place = repository.write("b", b"restless")
    before = everything(repository)
    plan = plan_add(add_context(local, repository.top), repository.top, [Path()])
    if fault == "changes":

        def change(status: os.stat_result) -> bool:
            with place.open("ab") as file:
                file.write(b"more")
            return False

        monkeypatch.setattr(read_files_module, "wait_until_settled", change)
    else:
        place.unlink()
        if fault == "becomes a folder":
            place.mkdir()
    with pytest.raises(StoreError, match=r"^b "):
        plan.execute(NoProgress(), jobs=2)
    assert everything(repository)[:2] == before[:2]
    assert not [name for name in staged_packs(repository) if name.endswith(".part")]


def test_a_link_that_vanishes_is_named_and_nothing_changes(
    repository: Repository, local: LocalStore
) -> None:
    (repository.top / "link").symlink_to("x")
    plan = plan_add(add_context(local, repository.top), repository.top, [Path()])
    (repository.top / "link").unlink()
    before = everything(repository)
    with pytest.raises(PathNotFound, match=r"^link "):
        plan.execute(NoProgress(), jobs=1)
    assert everything(repository) == before


def test_a_locked_index_leaves_gitattributes_as_it_was(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("a")
    (repository.top / ".git" / "index.lock").touch()
    before = everything(repository)
    with pytest.raises(GitError, match="another git command"):
        add(repository, local)
    assert everything(repository) == before
    (repository.top / ".git" / "index.lock").unlink()
    # What was staged by then is not staged twice.
    assert add(repository, local).staged_bytes == 0
    assert b"a" in repository.staged()


def test_a_gitattributes_that_is_a_link_is_refused(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("a")
    (repository.top / ".gitattributes").symlink_to("/dev/null")
    with pytest.raises(PathRefused, match="symbolic link"):
        add(repository, local)
    assert b"a" not in repository.staged()
