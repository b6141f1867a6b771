"""What is staged and modified among tracked files, against what git itself says."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.directories import Entry, Kind
from store.local_store import LocalStore
from store.status import Count, Status, read_status
from store.work_tree_changes import Difference, FileChange, is_pointer_text, parse_git_status
from tests.fakes.repositories import (
    Repository,
    add,
    open_local,
    random_bytes,
    staged_pointer,
)

ODD = b"data/caf\xe9\n \x1b[31m"
NAMES = ("kept", "changed", "deleted", "staged", "renamed", "gone", "executable")
# As long as its own pointer text.
TEXT_SIZED = random_bytes(88)


@pytest.fixture
def repository(repository: Repository) -> Repository:
    """One commit of tracked files, which git knows to be clean, and of one that is git's own."""
    for name in NAMES:
        repository.write(f"data/{name}", name.encode() * 100)
    repository.write(ODD, b"odd")
    assert repository.revfs("-q", "add", "data") == 0
    repository.write("plain", b"plain")
    repository.git("add", "plain")
    repository.commit()
    return repository


@pytest.fixture
def local(repository: Repository, tmp_path: Path) -> Iterator[LocalStore]:
    with open_local(repository, tmp_path / "cache") as local:
        yield local


def status(local: LocalStore) -> Status:
    return read_status(local, lambda commit: False)


def change_everything(repository: Repository, local: LocalStore) -> None:
    """A change of every kind, to tracked files and others."""
    repository.write("data/staged", b"staged anew")
    repository.write("data/new", b"new")
    repository.git("mv", "data/renamed", "data/moved")
    repository.git("rm", "-q", "data/gone")
    add(repository, local, "data/staged", "data/new")
    repository.write("data/changed", b"changed")
    repository.write(ODD, b"odder")
    (repository.top / "data/deleted").unlink()
    (repository.top / "data/executable").chmod(0o755)
    repository.write("plain", b"changed")
    repository.write("untracked", b"untracked")


def letters(changes: tuple[FileChange, ...]) -> list[tuple[bytes, ...]]:
    names = {Difference.RENAMED: b"R100"}
    return sorted(
        (
            names.get(change.difference, change.difference.value[:1].upper().encode()),
            *([] if change.old_path is None else [change.old_path]),
            change.path,
        )
        for change in changes
    )


def git_says(repository: Repository, *command: str) -> list[tuple[bytes, ...]]:
    fields = iter(repository.git(*command, "--name-status", "-z").split(b"\0")[:-1])
    found = []
    for letter in fields:
        found.append((letter, *(next(fields) for _ in range(2 if letter[:1] == b"R" else 1))))
    return sorted(names for names in found if names[1].startswith(b"data/"))


def test_what_differs_is_what_git_says_of_tracked_files(
    repository: Repository, local: LocalStore
) -> None:
    change_everything(repository, local)
    changes = status(local).changes
    assert letters(changes.staged) == git_says(repository, "diff", "--cached", "-M100%")
    assert letters(changes.modified) == git_says(repository, "diff-files")
    assert {change.difference for change in changes.staged} == set(Difference)
    wanted = {Difference.MODIFIED, Difference.DELETED}
    assert {change.difference for change in changes.modified} == wanted


def test_changes_have_the_true_sizes_of_both_sides(
    repository: Repository, local: LocalStore
) -> None:
    change_everything(repository, local)
    changes = status(local).changes
    sizes = {c.path: (c.old_size, c.size) for c in (*changes.staged, *changes.modified)}
    assert sizes == {
        b"data/staged": (600, 11),
        b"data/new": (None, 3),
        b"data/moved": (700, 700),
        b"data/gone": (400, None),
        b"data/changed": (700, 7),
        b"data/deleted": (700, None),
        b"data/executable": (1000, 1000),
        ODD: (3, 5),
    }


def test_without_a_change_there_is_none(repository: Repository, local: LocalStore) -> None:
    found = status(local)
    assert (found.changes.staged, found.changes.modified) == ((), ())
    assert found.unwritten == Count(0, 0)


def test_a_file_counts_that_has_no_pointer_but_the_attribute(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("data/empty", b"")
    add(repository, local, "data/empty")
    repository.write("plain-too")
    repository.git("add", "plain-too")
    assert letters(status(local).changes.staged) == [(b"A", b"data/empty")]


def test_a_conflict_over_a_tracked_file_is_one(repository: Repository, local: LocalStore) -> None:
    repository.git("checkout", "--quiet", "-b", "other")
    for branch, content in (("other", b"theirs"), ("main", b"ours")):
        repository.git("checkout", "--quiet", branch)
        repository.write("data/changed", content)
        add(repository, local, "data/changed")
        repository.commit()
    with pytest.raises(Exception, match="git ended with code 1"):
        repository.git("merge", "--quiet", "other")
    changes = status(local).changes
    assert changes.conflicted == (b"data/changed",)
    assert (changes.staged, changes.modified) == ((), ())


def test_files_of_a_clone_are_pointer_texts_until_their_data_is_there(
    repository: Repository, local: LocalStore, tmp_path: Path
) -> None:
    repository.write("data/text-sized", TEXT_SIZED)
    add(repository, local, "data/text-sized")
    assert len(staged_pointer(repository, b"data/text-sized").to_bytes()) == len(TEXT_SIZED)
    repository.commit()
    clone = repository.clone(tmp_path / "clone")
    with open_local(clone, tmp_path / "other") as other:
        everything = 100 * len("".join(NAMES)) + len(b"odd") + len(TEXT_SIZED)
        assert status(other).unwritten == Count(len(NAMES) + 2, everything)
        clone.write("data/text-sized", TEXT_SIZED)
        clone.write("data/changed", b"changed" * 100)
        add(clone, other, "data/text-sized", "data/changed")
        assert clone.status() == []
        assert status(other).unwritten == Count(len(NAMES), everything - 88 - 700)
        # Deleted, skipped and changed files are none either; one that is staged is.
        (clone.top / "data/deleted").unlink()
        clone.git("update-index", "--skip-worktree", "data/gone")
        (clone.top / "data/gone").unlink()
        clone.git("mv", "data/renamed", "data/moved")
        assert status(other).unwritten == Count(len(NAMES) - 2, everything - 88 - 700 - 700 - 400)


def test_a_bare_repository_has_no_work_tree_to_look_at(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    with open_local(Repository(tmp_path / "bare"), tmp_path / "other") as bare:
        found = status(bare)
    assert found.head_files.items == len(NAMES) + 1
    assert found.here_files == found.unwritten == Count(0, 0)
    assert found.branch == "main"


def test_records_of_every_kind_are_read_with_the_names_as_they_are() -> None:
    one, two = "1" * 40, "2" * 40
    raw = (
        f"# branch.oid {one}\0"
        f"1 .M N... 100644 100644 100644 {one} {two} a b\0"
        f"2 R. N... 100644 100644 100644 {one} {one} R100 new name\0old\nname\0"
        f"u UU N... 100644 100644 100644 100644 {one} {two} {'0' * 40} both \0"
        f"1 A. N... 000000 100644 100644 {'0' * 40} {two} c\0"
    ).encode()
    found = list(parse_git_status(raw))
    assert [(f.staged, f.modified, f.conflict, f.path, f.old_path) for f in found] == [
        (".", "M", False, b"a b", None),
        ("R", ".", False, b"new name", b"old\nname"),
        ("U", "U", True, b"both ", None),
        ("A", ".", False, b"c", None),
    ]
    assert found[0].blobs == (b"\x11" * 20, b"\x22" * 20)
    assert found[2].blobs == (b"\x22" * 20, None)
    assert found[3].blobs == (None, b"\x22" * 20)


@pytest.mark.parametrize(("size", "chunks"), [(1, 1), (10, 1), (999, 2), (10**9, 1234)])
def test_a_file_as_long_as_its_pointer_is_one_whatever_the_numbers_in_it(
    tmp_path: Path, size: int, chunks: int
) -> None:
    entry = Entry(b"file", Kind.TRACKED, size, chunks, bytes(32))
    text_bytes = len(entry.pointer.to_bytes())
    # Known sizes: the file itself is not looked at, nor there.
    place = os.fsencode(tmp_path / "file")
    known = range(text_bytes - 1, text_bytes + 2)
    assert [is_pointer_text(place, entry, found) for found in known] == [False, True, False]
