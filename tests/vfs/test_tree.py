"""RevisionTree over a real repository: numbers that lead to entries, and numbers that do not."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.cache_index import CacheIndex
from store.directories import MAX_DEPTH, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from store.git import GitRepository
from store.git_command import find_repository
from vfs.attributes import FOR_EVER_SECONDS, MOVING_SECONDS
from vfs.errors import NotADirectory, StaleInode
from vfs.inodes import ROOT_DIRECTORY, ROOT_INODE, inode_of
from vfs.tree import RevisionTree

MakeTree = Callable[[], RevisionTree]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with folders in folders, to be committed."""
    top = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", top], check=True)
    for name in ("a/one", "a/b/two", "a/b/three", "c/four", "five", "d/e/f/six"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return top


@pytest.fixture
def make_tree(top: Path, tmp_path: Path) -> Iterator[MakeTree]:
    """Commits what there is and opens it, as often as asked."""
    (tmp_path / "index").mkdir()
    index = CacheIndex(tmp_path / "index")
    repositories = []

    def make() -> RevisionTree:
        subprocess.run(["git", "-C", top, "add", "-A"], check=True)
        subprocess.run(["git", "-C", top, "commit", "-qm", "x", "--allow-empty"], check=True)
        repository = GitRepository(find_repository(top))
        repositories.append(repository)
        return RevisionTree(DirectoryLoader(repository, index), repository.resolve("HEAD").tree, 0)

    yield make
    for repository in repositories:
        repository.close()
    index.close()


async def walk(tree: RevisionTree, number: int = ROOT_DIRECTORY) -> dict[bytes, int]:
    """path → inode of everything, in the order of a listing in depth."""
    found: dict[bytes, int] = {}
    directory = await tree.load_directory(number)
    for entry_number, entry in enumerate(directory):
        inode = inode_of(number, entry_number)
        found[await tree.load_path(inode)] = inode
        if entry.kind == Kind.FOLDER:
            found |= await walk(tree, (await tree.load_folder(inode)).number)
    return found


async def test_every_path_has_an_inode_that_leads_back_to_it(
    make_tree: MakeTree, top: Path
) -> None:
    tree = make_tree()
    found = await walk(tree)
    expected = {bytes(path.relative_to(top)) for path in top.rglob("*") if ".git" not in path.parts}
    assert found.keys() == expected
    assert len(set(found.values())) == len(found)
    assert await walk(tree) == found
    for path, inode in found.items():
        assert (await tree.load_entry(inode)).name == path.rpartition(b"/")[2]


async def test_two_trees_listed_in_the_same_order_agree_on_every_number(
    make_tree: MakeTree,
) -> None:
    assert await walk(make_tree()) == await walk(make_tree())


async def test_the_parent_of_a_directory_is_the_folder_that_it_is_in(make_tree: MakeTree) -> None:
    tree = make_tree()
    found = await walk(tree)
    for path, inode in found.items():
        if (await tree.load_entry(inode)).kind == Kind.FOLDER:
            number = (await tree.load_folder(inode)).number
            parent = found[path.rpartition(b"/")[0]] if b"/" in path else ROOT_INODE
            assert tree.get_parent_inode(number) == parent
    assert tree.get_parent_inode(ROOT_DIRECTORY) == ROOT_INODE
    assert await tree.load_path(ROOT_INODE) == b""


async def test_numbers_that_were_never_given_out_are_stale(make_tree: MakeTree) -> None:
    tree = make_tree()
    await walk(tree)
    for inode in (0, 2, 1 << 32, inode_of(1, 99), inode_of(99, 0), (1 << 64) - 1):
        with pytest.raises(StaleInode):
            await tree.load_entry(inode)
    # (1 << 32 is the handle of the root.)
    for inode in (0, 2, inode_of(1, 99), inode_of(99, 0), 99 << 32, (1 << 64) - 1):
        with pytest.raises(StaleInode):
            await tree.load_folder(inode)


async def test_a_file_is_no_directory(make_tree: MakeTree) -> None:
    tree = make_tree()
    found = await walk(tree)
    with pytest.raises(NotADirectory):
        await tree.load_folder(found[b"five"])


async def test_a_submodule_is_an_empty_folder(make_tree: MakeTree, top: Path) -> None:
    commit = "1" * 40
    subprocess.run(
        ["git", "-C", top, "update-index", "--add", "--cacheinfo", f"160000,{commit},b-module"],
        check=True,
    )
    (top / "b-module").mkdir()
    tree = make_tree()
    directory = await tree.load_directory(ROOT_DIRECTORY)
    number = directory.number_of(b"b-module")
    assert number is not None
    empty = await tree.load_folder(inode_of(ROOT_DIRECTORY, number))
    assert len(empty.listed) == 0
    assert tree.get_parent_inode(empty.number) == ROOT_INODE
    # The folders around it keep their own.
    assert (await walk(tree)).keys() >= {b"a/b/two", b"c/four", b"d/e/f/six"}


async def test_folders_nested_too_deeply_are_refused_and_those_above_served(
    make_tree: MakeTree, top: Path
) -> None:
    blob = subprocess.run(
        ["git", "-C", top, "hash-object", "-w", top / "five"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    path = "/".join(["n"] * (MAX_DEPTH + 2)) + "/leaf"
    subprocess.run(
        ["git", "-C", top, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}"],
        check=True,
    )
    tree = subprocess.run(
        ["git", "-C", top, "write-tree"], check=True, capture_output=True, text=True
    ).stdout.strip()
    made = make_tree()
    deep = RevisionTree(made._loader, bytes.fromhex(tree), 0)
    inode = ROOT_INODE
    for _ in range(MAX_DEPTH):
        folder = await deep.load_folder(inode)
        entry = folder.number_of(b"n")
        assert entry is not None
        inode = inode_of(folder.number, entry)
    with pytest.raises(GitError, match="too deeply"):
        await deep.load_folder(inode)


async def test_a_root_that_moves_keeps_the_numbers_of_what_it_was(make_tree: MakeTree) -> None:
    made = make_tree()
    place = made._numbers.place(ROOT_DIRECTORY)
    assert place is not None
    below = (await made.load_directory(ROOT_DIRECTORY)).entry(0)
    tree = RevisionTree(made._loader, place.tree, 100, moves=True)
    before = await walk(tree)
    handle = await tree.load_handle(ROOT_INODE)
    tree.move_to(below.tree, 200)
    moved = await tree.load_folder(ROOT_INODE)
    assert [moved.item(number)[0] for number in moved.listed] == [b"b", b"one"]
    assert {moved.item(number)[1].inode for number in moved.listed}.isdisjoint(before.values())
    # A listing that was begun goes on in what it was begun in.
    begun = await tree.load_folder(handle)
    assert [begun.item(number)[0] for number in begun.listed] == [b"a", b"c", b"d", b"five"]
    assert [begun.item(number)[1].time_seconds for number in begun.listed] == [100] * 4
    assert (await tree.load_attributes(ROOT_INODE)).time_seconds == 200
    assert (await tree.load_attributes(before[b"a/one"])).time_seconds == 100
    tree.move_to(place.tree, 100)
    assert await walk(tree) == before


async def test_only_the_names_in_a_root_that_moves_hold_for_a_moment(make_tree: MakeTree) -> None:
    made = make_tree()
    place = made._numbers.place(ROOT_DIRECTORY)
    assert place is not None
    for moves, expected in ((False, FOR_EVER_SECONDS), (True, MOVING_SECONDS)):
        tree = RevisionTree(made._loader, place.tree, 0, moves=moves)
        root = await tree.load_folder(ROOT_INODE)
        assert root.item(0)[1].valid_seconds == expected
        assert (await tree.load_attributes(ROOT_INODE)).valid_seconds == expected
        below = await tree.load_folder(root.item(0)[1].inode)
        assert below.item(0)[1].valid_seconds == FOR_EVER_SECONDS
