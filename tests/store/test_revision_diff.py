"""Comparing revisions, against what git says of a twin that tracks the files themselves."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.directories import Kind
from store.errors import GitError
from store.ids import chunk_id
from store.local_store import LocalStore
from store.pointer import Pointer
from store.revision_diff import Change, ChangeKind, ChangeTotal, compare_trees, total_of
from tests.fakes.repositories import Repository, make_repository, open_local, random_bytes

FOLDERS = ("", "a/", "b/", "a/b/", "a/b/c/")
NAMES = ("file", "other", b"caf\xe9\n".decode("utf-8", "surrogateescape"), "b", "x y")
# Few contents, so that many files have the same; plain ones are git's own on both sides.
CONTENTS = [random_bytes(50 + seed, seed) for seed in range(6)]
PLAIN = [b"", b"plain\n"]
COMMITS = 6


class Twins:
    """One history twice: of pointers, and of the files themselves."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.pointers = make_repository(folder / "pointers", initialised=False)
        self.files = make_repository(folder / "files", initialised=False)
        self.there: set[str] = set()

    def step(self) -> None:
        for _ in range(self.chance.randint(1, 6)):
            self.chance.choice((self.write, self.write, self.move, self.spread, self.remove))()
            self.chance.choice((self.turn, self.write))()
        for repository in (self.pointers, self.files):
            repository.git("add", "--all")
            repository.commit()

    def write(self) -> None:
        path = self.chance.choice(FOLDERS) + self.chance.choice(NAMES)
        content = self.chance.choice([*CONTENTS, *CONTENTS, *PLAIN])
        is_link = self.chance.random() < 0.1
        mode = self.chance.choice((0o644, 0o644, 0o755))
        self.remove(path)
        for repository in (self.pointers, self.files):
            text = content
            if content not in PLAIN and repository is self.pointers:
                text = Pointer(chunk_id(content), len(content)).to_bytes()
            self.clear(repository, path)
            if is_link:
                place = repository.write(path)
                place.unlink()
                place.symlink_to("target")
            else:
                repository.write(path, text).chmod(mode)
        self.there = {p for p in self.there if not p.startswith(path + "/")} | {path}

    def clear(self, repository: Repository, path: str) -> None:
        """Make room: no file where a folder is to be, no folder where the file is to be."""
        above = path.split("/")[:-1]
        for depth in range(1, len(above) + 1):
            folder = "/".join(above[:depth])
            if (repository.top / folder).is_symlink() or (repository.top / folder).is_file():
                (repository.top / folder).unlink()
            self.there.discard(folder)
        place = repository.top / path
        for below in sorted(place.rglob("*"), reverse=True) if place.is_dir() else []:
            below.rmdir() if below.is_dir() and not below.is_symlink() else below.unlink()
        if place.is_dir() and not place.is_symlink():
            place.rmdir()

    def pick(self) -> str | None:
        there = sorted(p for p in self.there if self.is_file(p))
        return self.chance.choice(there) if there else None

    def is_file(self, path: str) -> bool:
        place = self.files.top / path
        return place.is_symlink() or place.is_file()

    def remove(self, path: str | None = None) -> None:
        path = path or self.pick()
        if path is not None and self.is_file(path):
            for repository in (self.pointers, self.files):
                (repository.top / path).unlink()
            self.there.discard(path)

    def move(self, source: str | None = None) -> None:
        """Give a file another name, or another folder, or both."""
        source = source or self.pick()
        if source is None:
            return
        name = self.chance.choice((source.rpartition("/")[2], f"moved{self.chance.randint(0, 9)}"))
        target = self.chance.choice(FOLDERS) + name
        above = [target[:place] for place, letter in enumerate(target) if letter == "/"]
        taken = os.path.lexists(self.files.top / target) or any(map(self.is_file, above))
        if taken or not self.is_file(source):
            return
        for repository in (self.pointers, self.files):
            (repository.top / target).parent.mkdir(parents=True, exist_ok=True)
            (repository.top / source).rename(repository.top / target)
        self.there = (self.there - {source}) | {target}

    def spread(self) -> None:
        """Move all files of one content, so that each could have been any other."""
        sample = self.pick()
        if sample is not None:
            content = (self.files.top / sample).lstat().st_size
            for path in sorted(self.there):
                if self.is_file(path) and (self.files.top / path).lstat().st_size == content:
                    self.move(path)

    def turn(self) -> None:
        path = self.pick()
        if path is not None and not (self.files.top / path).is_symlink():
            mode = 0o644 if (self.files.top / path).stat().st_mode & 0o100 else 0o755
            for repository in (self.pointers, self.files):
                (repository.top / path).chmod(mode)


def as_git_says(changes: list[Change]) -> list[tuple[str, ...]]:
    return sorted(letters_of(change) for change in changes)


def letters_of(change: Change) -> tuple[str, ...]:
    path = change.path.decode("utf-8", "surrogateescape")
    if change.kind == ChangeKind.RENAMED:
        assert change.old is not None
        return "R100", change.old.path.decode("utf-8", "surrogateescape"), path
    letters = {ChangeKind.ADDED: "A", ChangeKind.REMOVED: "D"}
    if change.old is not None and change.new is not None:
        links = [side.entry.kind == Kind.SYMLINK for side in (change.old, change.new)]
        letters[change.kind] = "T" if links[0] != links[1] else "M"
    return letters[change.kind], path


def git_diff(repository: Repository, old: str, new: str, *paths: str) -> list[tuple[str, ...]]:
    command = ("diff", "--name-status", "-z", "-M100%", old, new, "--", *paths)
    fields = iter(repository.git(*command).decode("utf-8", "surrogateescape").split("\0")[:-1])
    found = []
    for letter in fields:
        count = 2 if letter.startswith("R") else 1
        found.append((letter, *(next(fields) for _ in range(count))))
    return sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_differ_as_git_says_of_the_files_themselves(
    tmp_path: Path, seed: int
) -> None:
    twins = Twins(tmp_path, seed)
    for _ in range(COMMITS):
        twins.step()
    with open_local(twins.pointers, tmp_path / "cache") as local:
        for back in range(1, COMMITS):
            for old, new in ((f"HEAD~{back}", "HEAD"), ("HEAD", f"HEAD~{back}")):
                changes = compared(local, old, new)
                assert as_git_says(changes) == git_diff(twins.files, old, new)
                assert [c.path for c in changes] == sorted(c.path for c in changes)


def compared(local: LocalStore, old: str, new: str, path: bytes = b"") -> list[Change]:
    trees = [local.repository.resolve(text).tree for text in (old, new)]
    return compare_trees(local.directories, *trees, path)


@pytest.fixture
def local(repository: Repository, tmp_path: Path) -> Iterator[LocalStore]:
    with open_local(repository, tmp_path / "cache") as local:
        yield local


def commit_pointers(repository: Repository, **contents: bytes) -> None:
    for path, content in contents.items():
        text = Pointer(chunk_id(content), len(content)).to_bytes()
        repository.write(path.replace("__", "/"), text)
    repository.git("add", "--all")
    repository.commit()


def test_only_what_is_below_a_path_is_compared(repository: Repository, local: LocalStore) -> None:
    commit_pointers(repository, one__a=b"1", two__a=b"22")
    commit_pointers(repository, one__a=b"333", two__a=b"4444", two__b=b"5")
    assert [c.path for c in compared(local, "HEAD~1", "HEAD", b"two")] == [b"two/a", b"two/b"]
    (change,) = compared(local, "HEAD~1", "HEAD", b"one/a")
    assert (change.kind, change.path) == (ChangeKind.CHANGED, b"one/a")
    (added,) = compared(local, "HEAD~1", "HEAD", b"two/b")
    assert (added.kind, added.old) == (ChangeKind.ADDED, None)


def test_totals_are_true_sizes_of_both_sides(repository: Repository, local: LocalStore) -> None:
    commit_pointers(repository, a=b"1", b=b"22", moved=b"333")
    repository.git("mv", "moved", "there")
    repository.git("rm", "--quiet", "b")
    commit_pointers(repository, a=b"55555", new=b"4444")
    (repository.top / "a").chmod(0o755)
    totals = total_of(compared(local, "HEAD~1", "HEAD"))
    assert totals == {
        ChangeKind.ADDED: ChangeTotal(1, 0, 4),
        ChangeKind.CHANGED: ChangeTotal(1, 1, 5),
        ChangeKind.RENAMED: ChangeTotal(1, 3, 3),
        ChangeKind.REMOVED: ChangeTotal(1, 2, 0),
        ChangeKind.MODE: ChangeTotal(0, 0, 0),
    }


def test_a_tree_that_both_have_is_not_read(repository: Repository, local: LocalStore) -> None:
    commit_pointers(repository, same__a=b"1", other=b"2")
    same = repository.git("rev-parse", "HEAD:same").decode().strip()
    commit_pointers(repository, other=b"3")
    (repository.top / f".git/objects/{same[:2]}/{same[2:]}").unlink()
    assert [c.path for c in compared(local, "HEAD~1", "HEAD")] == [b"other"]


def test_folders_that_hold_themselves_by_the_hundred_are_an_error(
    repository: Repository, local: LocalStore
) -> None:
    path = "d/" * 300 + "file"
    text = (
        f"commit refs/heads/deep\ncommitter a <a@b> 0 +0000\ndata 0\nM 644 inline {path}\ndata 0\n"
    )
    repository.git("fast-import", "--quiet", stdin=text.encode())
    with pytest.raises(GitError, match="nested too deeply"):
        compared(local, "HEAD", "deep")
