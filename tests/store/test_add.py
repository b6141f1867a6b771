"""`add` on real work trees: what git and the remote get to see, and what an error leaves."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import add as add_module
from store import read_files as read_files_module
from store.add import AddSummary, plan_add
from store.chunking import DEFAULT_CHUNKING
from store.errors import GitError, PathNotFound, PathRefused, StoreError
from store.opening import LocalStore
from store.pointer import Pointer, parse_pointer
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    add,
    add_context,
    make_repository,
    open_local,
    random_bytes,
)

LEAST = DEFAULT_CHUNKING.least_bytes
EMPTY_BLOB = b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.fixture(autouse=True)
def in_no_hurry_for_git(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests of git's own view wait until a second is over."""
    if "clean" not in request.node.name:
        monkeypatch.setattr(add_module, "wait_for_git", lambda top, changes: list(changes))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository")


@pytest.fixture
def local(repository: Repository, tmp_path: Path) -> Iterator[LocalStore]:
    with open_local(repository, tmp_path / "cache") as local:
        yield local


def staged_pointer(repository: Repository, path: bytes) -> Pointer:
    """The pointer that git's index has for a path."""
    blob = repository.staged()[path].split()[1]
    pointer = parse_pointer(repository.git("cat-file", "blob", blob))
    assert pointer is not None
    return pointer


def staged_packs(repository: Repository) -> list[str]:
    return sorted(path.name for path in (repository.top / ".git/revfs/staged").iterdir())


def everything(repository: Repository) -> tuple[bytes, bytes | None, list[str]]:
    """What an add that fails must leave: index, `.gitattributes`, and no file of its own."""
    git = repository.top / ".git"
    attributes = repository.top / ".gitattributes"
    return (
        (git / "index").read_bytes(),
        attributes.read_bytes() if attributes.exists() else None,
        sorted(path.name for path in (*git.iterdir(), *repository.top.iterdir())),
    )


def test_git_status_is_clean_after_add_and_commit(
    repository: Repository, local: LocalStore
) -> None:
    names = [b"a/plain", b"a/caf\xe9", b"a/two\nlines", b"a/with space", b"a/empty"]
    for name in names:
        repository.write(name, b"" if name == b"a/empty" else b"content of " + name)
    repository.write("a/tool").chmod(0o755)
    (repository.top / "a/link").symlink_to("nowhere")
    assert add(repository, local).added == 7
    wanted = sorted([*names, b"a/tool", b"a/link", b".gitattributes"])
    assert sorted(repository.status()) == [b"A  " + name for name in wanted]
    repository.commit()
    assert repository.status() == []
    for name in names[:4]:
        pointer = staged_pointer(repository, name)
        assert pointer.size == len(b"content of " + name)
    (repository.top / "a/plain").write_bytes(b"CONTENT of a/plain")
    assert repository.status() == [b" M a/plain"]


def test_a_file_from_the_future_does_not_make_its_clean_siblings_dirty(
    repository: Repository, local: LocalStore
) -> None:
    later = repository.write("future").stat().st_mtime + 10**6
    os.utime(repository.top / "future", (later, later))
    repository.write("present")
    add(repository, local)
    assert b"A  present" in repository.status()


def test_a_file_changed_while_git_is_waited_for_is_not_taken_for_clean(
    repository: Repository, local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, gone = repository.write("changed", b"one"), repository.write("gone", b"here")
    sleep = add_module.time.sleep

    def change_then_sleep(seconds: float) -> None:
        place.write_bytes(b"two")
        gone.unlink()
        sleep(seconds)

    context = add_context(local, repository.top)
    plan = plan_add(context, repository.top, [Path()])
    monkeypatch.setattr(add_module.time, "sleep", change_then_sleep)
    monkeypatch.setattr(read_files_module, "wait_until_settled", lambda status: False)
    plan.execute(NoProgress(), jobs=1)
    assert {b"AM changed", b"AD gone"} <= set(repository.status())


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


def counted(repository: Repository, local: LocalStore, *paths: str) -> tuple[int, AddSummary]:
    """How many files an add reads, and its summary."""
    context = add_context(local, repository.top)
    plan = plan_add(context, repository.top, [Path(path) for path in paths or (".",)])
    return len(plan.to_read), plan.execute(NoProgress(), jobs=1)


def test_unchanged_files_are_not_read_again(repository: Repository, local: LocalStore) -> None:
    for name in ("a", "b"):
        repository.write(name, name.encode())
    assert counted(repository, local)[0] == 2
    before = repository.staged()
    (repository.top / "a").rename(repository.top / "moved")
    (repository.top / "moved").rename(repository.top / "a")
    reads, summary = counted(repository, local)
    # Renames move the change time of `a`, and of nothing else.
    assert (reads, summary.unchanged) == (1, 1)
    assert counted(repository, local)[0] == 0
    assert repository.staged() == before


def test_unchanged_files_are_not_even_opened(repository: Repository, local: LocalStore) -> None:
    repository.write("a")
    add(repository, local)
    reader = read_files_module._opened

    class Refusing(reader):  # type: ignore[misc, valid-type]
        def __init__(self, *_: object) -> None:
            raise AssertionError("a file was opened")

    read_files_module._opened = Refusing
    try:
        assert add(repository, local).unchanged == 1
        repository.write("b")
        with pytest.raises(AssertionError, match="opened"):
            add(repository, local)
    finally:
        read_files_module._opened = reader


def test_the_same_size_and_mtime_do_not_hide_a_change(
    repository: Repository, local: LocalStore
) -> None:
    place = repository.write("a", b"before")
    add(repository, local)
    before = place.stat()
    place.write_bytes(b"after!")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    pointer = staged_pointer(repository, b"a")
    assert add(repository, local).unchanged == 0
    assert staged_pointer(repository, b"a") != pointer


def test_data_that_went_away_is_read_again(repository: Repository, local: LocalStore) -> None:
    repository.write("a")
    add(repository, local)
    assert local.staging is not None
    for pack in local.staging.packs():
        local.staging.remove(pack.name)
    summary = add(repository, local)
    assert (summary.unchanged, summary.added) == (0, 1)
    assert len(staged_packs(repository)) == 1


def test_the_same_content_is_staged_once(repository: Repository, local: LocalStore) -> None:
    content = random_bytes(2 << 20)
    for name in ("a", "b/c", "d"):
        repository.write(name, content)
    summary = add(repository, local)
    assert len(content) <= summary.staged_bytes < len(content) * 1.01
    repository.write("e", content)
    assert add(repository, local).staged_bytes == 0
    assert staged_pointer(repository, b"a") == staged_pointer(repository, b"e")


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
    monkeypatch.setattr("store.git._REBUILD_FROM_ENTRIES", insert_up_to)
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


def test_a_clone_of_pointers_stays_as_it_is(
    repository: Repository, local: LocalStore, tmp_path: Path
) -> None:
    repository.write("a/one", b"data")
    repository.write("a/large", random_bytes(1 << 20))
    add(repository, local)
    repository.commit()
    clone = repository.clone(tmp_path / "clone")
    before = clone.staged()
    with open_local(clone, tmp_path / "other-cache") as other:
        summary = add(clone, other)
    assert summary.staged_bytes == 0
    assert clone.staged() == before
    assert clone.status() == []
    assert staged_packs(clone) == []


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


def test_a_gitattributes_that_is_a_link_is_refused(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("a")
    (repository.top / ".gitattributes").symlink_to("/dev/null")
    with pytest.raises(PathRefused, match="symbolic link"):
        add(repository, local)
    assert b"a" not in repository.staged()


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
