"""The process that reads directories ahead: when it is started, and what it leaves behind."""

import os
import subprocess
import sys
from collections.abc import Iterable
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from store import directory_ahead
from store.cache_index import CacheIndex
from store.directories import Directory, Entry, Kind
from store.directory_ahead import DirectoriesAhead, start_reading
from store.directory_loader import DirectoryLoader
from store.git import GitRepository
from store.git_command import find_repository
from tests.fakes.repositories import Repository


def tree_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def folder_of(trees: Iterable[bytes]) -> Directory:
    rows = (
        Entry(b"%06d" % number, Kind.FOLDER, 0, 0, tree + bytes(12))
        for number, tree in enumerate(trees)
    )
    return Directory.from_entries(list(rows))


def files(count: int) -> Directory:
    return Directory.from_entries(
        [Entry(b"%06d" % number, Kind.PLAIN, 1, 0, bytes(32)) for number in range(count)]
    )


MISSING = b"?" * 20
FOLDERS = [tree_id(number) for number in range(1, 101)]


def started_after(read: Iterable[tuple[bytes, Directory]]) -> list[list[bytes]]:
    started: list[list[bytes]] = []
    ahead = DirectoriesAhead(started.append)
    ahead.note(tree_id(0), folder_of(FOLDERS))
    for tree, directory in read:
        ahead.note(tree, directory)
    return started


def test_folders_that_are_read_one_by_one_start_one_process_for_the_rest_last_first() -> None:
    large = files(1000)
    assert started_after((tree, large) for tree in FOLDERS[:3]) == []
    assert started_after((tree, large) for tree in FOLDERS) == [FOLDERS[:3:-1]]


def test_small_or_few_or_unrelated_folders_start_none() -> None:
    small, large = files(10), files(1000)
    assert started_after((tree, small) for tree in FOLDERS) == []
    assert started_after((tree_id(1000 + n), large) for n in range(50)) == []
    ahead = DirectoriesAhead(lambda trees: pytest.fail("there was nothing more to read"))
    ahead.note(tree_id(0), folder_of(FOLDERS[:40]))
    for tree in FOLDERS[:40]:
        ahead.note(tree, large)


@pytest.fixture
def wide(repository: Repository) -> Repository:
    """A repository with folders, a folder in one of them, one like another, and a hostile one."""
    for path in ("a/one", "b/below/two", "c/one", "d/four"):
        repository.write(path, path.encode()[-3:])
    repository.git("add", ".")
    tree = repository.git("write-tree").decode().strip()
    listed = repository.git("ls-tree", tree).decode().splitlines()
    rows = [(mode, name.encode(), object_id) for mode, _, object_id, name in map(str.split, listed)]
    blob = repository.write_blob(b"x")
    hostile = repository.write_tree([("100644", b"..", blob), ("100644", b"x", blob)])
    top = repository.write_tree([*rows, ("40000", b"e", hostile), ("40000", b"f", MISSING.hex())])
    repository.commit_tree(top, "wide")
    return repository


def index_folder(repository: Repository) -> Path:
    folder = repository.top.parent / "index"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def folders_of(repository: Repository) -> dict[str, bytes]:
    names = ("a", "b", "b/below", "c", "d", "e")
    trees = {name: repository.git("rev-parse", f"wide:{name}").strip() for name in names}
    return {name: bytes.fromhex(tree.decode()) for name, tree in trees.items()} | {"f": MISSING}


def kept_in(folder: Path, trees: dict[str, bytes]) -> set[str]:
    index = CacheIndex(folder)
    kept = {name for name, tree in trees.items() if index.load_directory(tree) is not None}
    index.close()
    return kept


def test_another_process_keeps_what_it_reads_and_all_below(wide: Repository) -> None:
    folder, trees = index_folder(wide), folders_of(wide)
    tops = [trees[name] for name in "fedcba"]
    start_reading(find_repository(wide.top), folder, tops).join(20)
    # Of one with a hostile name whoever shows it tells, and so reads it himself.
    assert kept_in(folder, trees) == {"a", "b", "b/below", "c", "d"}


def test_what_it_kept_is_what_the_loader_would_have_read(wide: Repository) -> None:
    folder, trees = index_folder(wide), folders_of(wide)
    start_reading(find_repository(wide.top), folder, [trees["b"]]).join(20)
    index = CacheIndex(folder)
    with_help = index.load_directory(trees["b"])
    opened = GitRepository(find_repository(wide.top))
    alone = DirectoryLoader(opened, index)._read(trees["b"])
    assert with_help == alone.pack()
    opened.close()
    index.close()


def test_it_ends_when_whoever_started_it_has_ended(wide: Repository) -> None:
    folder, trees = index_folder(wide), folders_of(wide)
    git_dir = str(wide.top / ".git")
    command = [sys.executable, "-P", "-c", directory_ahead._PROGRAM]
    for parent, kept in ((os.getppid(), set()), (os.getpid(), {"d"})):
        subprocess.run(
            [*command, str(parent), git_dir, git_dir, str(folder)],
            input=trees["d"],
            check=True,
            timeout=20,
        )
        assert kept_in(folder, trees) == kept


def test_of_two_at_once_only_one_reads(wide: Repository) -> None:
    folder, trees = index_folder(wide), folders_of(wide)
    descriptor = os.open(folder, os.O_RDONLY)
    flock(descriptor, LOCK_EX)
    start_reading(find_repository(wide.top), folder, [trees["a"]]).join(20)
    assert kept_in(folder, trees) == set()
    os.close(descriptor)
    start_reading(find_repository(wide.top), folder, [trees["b"]]).join(20)
    assert kept_in(folder, trees) == {"b", "b/below"}


def test_a_process_that_cannot_start_is_no_error(
    wide: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    folder, trees = index_folder(wide), folders_of(wide)
    start_reading(find_repository(wide.top), folder, [trees["a"]]).join(20)
    assert kept_in(folder, trees) == set()


def test_a_walk_through_many_files_starts_it(
    wide: Repository, opened: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_ahead, "_LEAST_READ", 1)
    monkeypatch.setattr(directory_ahead, "_LEAST_ENTRIES_LEFT", 1)
    started: list[list[bytes]] = []
    monkeypatch.setattr(
        "store.directory_loader.start_reading", lambda paths, index, trees: started.append(trees)
    )
    index = CacheIndex(index_folder(wide))
    loader = DirectoryLoader(opened, index)
    trees = folders_of(wide)
    loader.load(opened.resolve("wide").tree)
    loader.load(trees["a"])
    # `c` is the very tree of `a`.
    assert started == [[trees[name] for name in "fedb"]]
    index.close()
