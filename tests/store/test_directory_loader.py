"""DirectoryLoader on real repositories: from git once, from the cache index after that."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.cache_index import CacheIndex
from store.directories import MAX_DEPTH, Directory, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError, LocalDiskFull
from store.git import GitRepository
from tests.fakes.repositories import Repository, make_repository, raw_entry


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path / "repository")
    for path in ("a/b/deep", "a/file", "same/b/deep", "top"):
        made.write(path, b"content of " + path.rpartition("/")[2].encode())
    made.git("add", ".")
    made.commit()
    return made


@pytest.fixture
def index(tmp_path: Path) -> Iterator[CacheIndex]:
    (tmp_path / "index").mkdir(mode=0o700)
    index = CacheIndex(tmp_path / "index")
    yield index
    index.close()


@pytest.fixture
def loader(opened: GitRepository, index: CacheIndex) -> DirectoryLoader:
    return DirectoryLoader(opened, index)


def names(directory: Directory) -> list[bytes]:
    return [entry.name for entry in directory]


def test_what_was_saved_needs_no_git(
    repository: Repository, opened: GitRepository, index: CacheIndex, loader: DirectoryLoader
) -> None:
    root = opened.resolve("HEAD").tree
    assert loader.get(root) is None
    first = loader.load(root)
    assert names(first) == [b".revfsconfig", b"a", b"same", b"top"]
    assert loader.get(root) is first
    loader.save()
    shutil.rmtree(repository.top / ".git" / "objects")
    other = DirectoryLoader(opened, index)
    assert list(other.load(root)) == list(first)
    with pytest.raises(GitError):
        other.load(first.entry(1).tree)


def test_a_damaged_row_is_read_from_git_again(
    opened: GitRepository, index: CacheIndex, loader: DirectoryLoader
) -> None:
    root = opened.resolve("HEAD").tree
    expected = list(loader.load(root))
    loader.save()
    packed = index._tables.get("directories", root)
    assert packed is not None
    for damaged in (packed[:-1] + bytes([packed[-1] ^ 1]), packed[:20], b""):
        index._tables.put_many("directories", [(root, damaged)])
        assert list(DirectoryLoader(opened, index).load(root)) == expected


def test_a_full_disk_is_no_error(
    opened: GitRepository, index: CacheIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(directories: object) -> None:
        raise LocalDiskFull("full")

    monkeypatch.setattr(index, "keep_directories", refuse)
    loader = DirectoryLoader(opened, index)
    root = opened.resolve("HEAD").tree
    loader.load(root)
    loader.save()
    assert index.load_directory(root) is None


def test_a_walk_passes_every_file_once_and_equal_folders_by(
    opened: GitRepository, loader: DirectoryLoader
) -> None:
    root = opened.resolve("HEAD").tree
    seen: set[bytes] = set()
    walked = [path for path, _ in loader.walk_new(root, seen)]
    # `same/b` is the very tree of `a/b`.
    assert walked == [b".revfsconfig", b"a/b/deep", b"a/file", b"top"]
    assert list(loader.walk_new(root, seen)) == []
    assert len(seen) == 4


def test_folders_nested_too_deeply_are_an_error_not_a_crash(
    repository: Repository, opened: GitRepository, loader: DirectoryLoader
) -> None:
    tree = repository.write_tree([("100644", b"file", repository.write_blob(b"x"))])
    for _ in range(MAX_DEPTH):
        tree = repository.write_tree([("40000", b"d", tree)])
    deepest = bytes.fromhex(tree)
    assert [path for path, _ in loader.walk_new(deepest, set())] == [b"d/" * MAX_DEPTH + b"file"]
    deeper = bytes.fromhex(repository.write_tree([("40000", b"d", tree)]))
    with pytest.raises(GitError, match="nested too deeply"):
        list(loader.walk_new(deeper, set()))


def test_a_malformed_tree_is_an_error_on_that_directory_alone(
    repository: Repository, opened: GitRepository, loader: DirectoryLoader
) -> None:
    bad = repository.write_raw_tree(raw_entry("100644", b"x", "11" * 20)[:-1])
    good = repository.write_tree([("100644", b"file", repository.write_blob(b"x"))])
    root = repository.write_tree([("40000", b"bad", bad), ("40000", b"good", good)])
    top = loader.load(bytes.fromhex(root))
    assert names(top) == [b"bad", b"good"]
    assert names(loader.load_entry(top.entry(1))) == [b"file"]
    for _ in range(2):
        with pytest.raises(GitError, match=f"{bad}.*cut short"):
            loader.load_entry(top.entry(0))


def test_a_submodule_is_an_empty_directory(repository: Repository, loader: DirectoryLoader) -> None:
    root = repository.write_tree([("160000", b"module", "12" * 20)])
    (entry,) = loader.load(bytes.fromhex(root))
    assert entry.kind == Kind.SUBMODULE
    assert names(loader.load_entry(entry)) == []


def test_a_kept_row_that_is_no_directory_is_read_from_git_again(
    opened: GitRepository, index: CacheIndex, loader: DirectoryLoader
) -> None:
    root = opened.resolve("HEAD").tree
    expected = names(loader.load(root))
    index.keep_directories([(root, b"\xff" * 40)])
    assert names(DirectoryLoader(opened, index).load(root)) == expected


def test_many_directories_are_saved_on_the_way(
    repository: Repository,
    opened: GitRepository,
    index: CacheIndex,
    loader: DirectoryLoader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("store.directory_loader._UNSAVED_BYTES", 200)
    root = opened.resolve("HEAD").tree
    list(loader.walk_new(root, set()))
    assert index.load_directory(root) is not None
