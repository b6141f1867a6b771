"""From what a user types to an entry of a revision."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.cache_index import CacheIndex
from store.directories import Kind
from store.directory_loader import DirectoryLoader
from store.errors import PathNotFound
from store.git import GitRepository
from store.git_command import find_repository
from store.paths import list_path, load_path
from tests.fakes.repositories import make_repository

Tree = tuple[DirectoryLoader, bytes]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    repository = make_repository(tmp_path / "repository")
    for path in (b"a/b/deep", b"a/caf\xe9", b"top"):
        repository.write(path)
    (repository.top / "link").symlink_to("a")
    repository.git("add", ".")
    repository.commit()
    (tmp_path / "index").mkdir(mode=0o700)
    index = CacheIndex(tmp_path / "index")
    opened = GitRepository(find_repository(repository.top))
    yield DirectoryLoader(opened, index), opened.resolve("HEAD").tree
    opened.close()
    index.close()


@pytest.mark.parametrize("path", [b"a/b/deep", b"/a/b/deep/", b"a//b/./deep", b"./a/b/deep"])
def test_a_file_is_found_however_its_path_is_spelled(tree: Tree, path: bytes) -> None:
    found = load_path(*tree, path)
    assert found.path == b"a/b/deep"
    assert (found.entry.name, found.entry.kind) == (b"deep", Kind.PLAIN)
    assert [item.path for item in list_path(tree[0], found)] == [b"a/b/deep"]


@pytest.mark.parametrize("path", [b"", b"/", b".", b"./"])
def test_the_root_lists_with_whole_paths(tree: Tree, path: bytes) -> None:
    listed = list_path(tree[0], load_path(*tree, path))
    assert [item.path for item in listed] == [b".revfsconfig", b"a", b"link", b"top"]


def test_a_folder_lists_with_whole_paths_as_bytes(tree: Tree) -> None:
    listed = list_path(tree[0], load_path(*tree, b"a/"))
    assert [item.path for item in listed] == [b"a/b", b"a/caf\xe9"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (b"none", "none"),
        (b"a/none/deep", "a/none"),
        (b"top/below", "top/below"),
        (b"link/b", "link/b"),
        (b"a/../top", "a/.."),
        (b"a/\xff", r"a/\\xff"),
    ],
)
def test_the_first_part_that_is_not_there_is_named(tree: Tree, path: bytes, named: str) -> None:
    with pytest.raises(PathNotFound, match=f"^{named} is not in that revision$"):
        load_path(*tree, path)
