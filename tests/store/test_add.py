"""`add` on real work trees: what git's index, its objects and `.gitattributes` get."""

import shutil
from pathlib import Path

import pytest

from store.chunking import DEFAULT_CHUNKING
from store.errors import PathNotFound
from store.local_store import LocalStore
from tests.fakes.data_elsewhere import add_elsewhere, make_source, skipped
from tests.fakes.repositories import (
    Repository,
    add,
    open_local,
    random_bytes,
    staged_packs,
    staged_pointer,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

LEAST = DEFAULT_CHUNKING.least_bytes
EMPTY_BLOB = b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_sizes_at_the_edges_become_the_right_number_of_chunks(
    repository: Repository, local: LocalStore
) -> None:
    sizes = {"one": 1, "least": LEAST, "above": LEAST + 1, "several": 9 << 20}
    for seed, (name, size) in enumerate(sizes.items()):
        repository.write(name, random_bytes(size, seed))
    summary = add(repository, local)
    assert summary.read_bytes == sum(sizes.values())
    pointers = {name: staged_pointer(repository, name.encode()) for name in sizes}
    assert {name: pointer.size for name, pointer in pointers.items()} == sizes
    assert pointers["one"].chunks == pointers["least"].chunks == 1
    assert pointers["several"].chunks > 2
    assert all(local.is_known(pointer.content) for pointer in pointers.values())


def test_git_keeps_empty_files_links_and_modes_itself(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("empty", b"")
    repository.write("tool").chmod(0o755)
    repository.write("a/file")
    targets = {"dangling": "nowhere", "folder": "a", "outside": "/etc", "self": "self"}
    for name, target in targets.items():
        (repository.top / name).symlink_to(target)
    add(repository, local)
    staged = repository.staged()
    assert staged[b"empty"] == b"100644 " + EMPTY_BLOB + b" 0"
    assert staged[b"tool"].startswith(b"100755 ")
    for name, target in targets.items():
        mode, blob, _ = staged[name.encode()].split()
        assert mode == b"120000"
        assert repository.git("cat-file", "blob", blob) == target.encode()
    assert b"folder/file" not in staged


def test_removed_files_leave_the_index_where_they_were_named(
    repository: Repository, local: LocalStore
) -> None:
    for name in ("a/one", "a/two", "b/three", "four"):
        repository.write(name)
    add(repository, local)
    for name in ("a/one", "b/three", "four"):
        (repository.top / name).unlink()
    assert add(repository, local, "a").removed == 1
    assert {b"a/two", b"b/three", b"four"} < repository.staged().keys()
    assert b"a/one" not in repository.staged()
    assert add(repository, local, "four").removed == 1
    shutil.rmtree(repository.top / "b")
    assert add(repository, local, "b").removed == 1
    assert add(repository, local).removed == 0
    assert repository.staged().keys() == {b".gitattributes", b".revfsconfig", b"a/two"}
    with pytest.raises(PathNotFound, match="b is not there"):
        add(repository, local, "b")


@pytest.mark.parametrize("insert_up_to", [1000, 0])
def test_files_folders_and_links_take_each_others_places(
    repository: Repository,
    local: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    insert_up_to: int,
) -> None:
    monkeypatch.setattr("store.git_index._REBUILD_FROM_ENTRIES", insert_up_to)
    for name in ("file", "folder/one", "folder.txt", "linked/one", "elsewhere/one"):
        repository.write(name)
    add(repository, local)
    (repository.top / "file").unlink()
    repository.write("file/below")
    for name in ("folder", "linked"):
        shutil.rmtree(repository.top / name)
    repository.write("folder")
    # What was below it still seems to be there, by way of the link.
    (repository.top / "linked").symlink_to("elsewhere")
    add(repository, local)
    own = {b".gitattributes", b".revfsconfig"}
    wanted = {b"file/below", b"folder", b"folder.txt", b"linked", b"elsewhere/one"}
    assert repository.staged().keys() == own | wanted
    repository.git("fsck", "--strict")
    repository.commit()
    assert repository.git("ls-tree", "-r", "--name-only", "HEAD").split() == sorted(own | wanted)


def test_what_a_sparse_checkout_leaves_out_stays_in_the_index(
    repository: Repository, local: LocalStore
) -> None:
    for name in ("in/file", "out/file", "out/gone"):
        repository.write(name)
    add(repository, local)
    repository.commit()
    repository.git("sparse-checkout", "set", "--no-cone", "/in", "/.*")
    if (repository.top / "out").exists():
        shutil.rmtree(repository.top / "out")
        repository.git("update-index", "--skip-worktree", "out/file", "out/gone")
    assert add(repository, local).removed == 0
    assert {b"out/file", b"out/gone"} < repository.staged().keys()


def test_gitattributes_has_a_line_for_each_that_was_named(
    repository: Repository, local: LocalStore
) -> None:
    repository.write(".gitattributes", b"*.txt text")
    for name in ("a/one", "b/c/two", "three"):
        repository.write(name)
    (repository.top / "link").symlink_to("three")
    add(repository, local, "b/c/two", "three", "link")
    add(repository, local, "a")
    lines = [
        b"*.txt text",
        b"/b/c/two filter=revfs -merge -text",
        b"/three filter=revfs -merge -text",
        b"/a/** filter=revfs -merge -text",
    ]
    attributes = repository.top / ".gitattributes"
    assert attributes.read_bytes() == b"\n".join(lines) + b"\n"
    assert repository.git("cat-file", "blob", ":.gitattributes") == attributes.read_bytes()
    before = attributes.stat()
    add(repository, local, "a", "three", "a/one")
    assert attributes.stat() == before


def test_many_files_are_one_pack_of_git_objects(repository: Repository, local: LocalStore) -> None:
    for number in range(1100):
        repository.write(f"many/{number}", b"%d" % number)
    repository.write("other")
    add(repository, local, "other")
    assert add(repository, local, "many").added == 1100
    loose = repository.git("count-objects").split()[0]
    assert int(loose) < 20
    assert len(repository.staged()) == 1103
    repository.git("fsck", "--strict")


def test_a_worktree_stages_into_its_own_index_and_the_shared_store(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("worktree", "add", "--quiet", str(tmp_path / "other"))
    other = Repository(tmp_path / "other")
    other.write("data", b"content")
    with open_local(other, tmp_path / "cache") as local:
        add(other, local)
    assert other.staged().keys() == {b".gitattributes", b".revfsconfig", b"data"}
    assert repository.staged().keys() == {b".revfsconfig"}
    assert len(staged_packs(repository)) == 1


def test_an_add_of_a_path_in_conflict_ends_the_conflict(
    repository: Repository, local: LocalStore
) -> None:
    for name in ("data/kept", "data/gone", "alone"):
        repository.write(name)
    add(repository, local)
    ours, theirs = (repository.write_blob(content) for content in (b"ours", b"theirs"))
    for name in ("data/kept", "data/gone", "alone"):
        stages = f"100644 {ours} 2\t{name}\n100644 {theirs} 3\t{name}\n"
        lines = f"0 {'0' * 40}\t{name}\n{stages}"
        repository.git("update-index", "--index-info", stdin=lines.encode())
    for name in ("data/gone", "alone"):
        (repository.top / name).unlink()
    assert add(repository, local, "data").removed == 1
    assert {line[-5:] for line in repository.git("ls-files", "-u").splitlines()} == {b"alone"}
    assert staged_pointer(repository, b"data/kept").size == len(b"content")
    assert add(repository, local, "alone").removed == 1
    own = {b".gitattributes", b".revfsconfig"}
    assert repository.staged().keys() == own | {b"data/kept"}


def test_what_was_added_from_elsewhere_is_an_ordinary_file_once_it_stands_here(
    repository: Repository, local: LocalStore, tmp_path: Path
) -> None:
    add_elsewhere(repository, local, make_source(tmp_path / "source"))
    repository.commit()
    repository.write("data/one", b"first")
    add(repository, local, "data")
    assert b"data/one" not in skipped(repository)
    assert len(skipped(repository)) == 5
    repository.write("data/one", b"changed")
    assert b" M data/one" in repository.status()
