"""`add SRC --to PATH`: what git's index and the work tree get, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest

from store.add_elsewhere import plan_add_elsewhere
from store.errors import PathNotFound, PathRefused, StoreError
from store.local_store import LocalStore
from tests.fakes.data_elsewhere import (
    NAMES,
    add_elsewhere,
    below,
    changes_of_head,
    everything,
    make_origin,
    make_source,
    reads,
    skipped,
)
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    add_context,
    make_repository,
    open_local,
    random_bytes,
    staged_pointer,
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


def test_data_from_elsewhere_is_a_version_and_nothing_stands_in_the_work_tree(
    repository: Repository, local: LocalStore, source: Path
) -> None:
    summary = add_elsewhere(repository, local, source)
    assert (summary.added, summary.read_bytes) == (6, 13)
    assert skipped(repository) == below("data")
    assert not (repository.top / "data").exists()
    wanted = [b"A  " + path for path in sorted({b".gitattributes", *below("data")})]
    assert sorted(repository.status()) == wanted
    repository.commit()
    assert repository.status() == []
    staged = repository.staged()
    assert staged[b"data/deep/tool"].startswith(b"100755 ")
    assert repository.git("cat-file", "blob", ":data/link") == b"/etc/passwd"
    assert repository.git("cat-file", "blob", ":data/folder") == b"deep"
    assert staged_pointer(repository, b"data/one").size == 5
    assert b"/data/** filter=revfs" in (repository.top / ".gitattributes").read_bytes()
    repository.git("fsck", "--strict")


def test_again_only_what_changed_is_read_and_what_went_is_removed(
    repository: Repository, local: LocalStore, source: Path
) -> None:
    repository.write("data/.gitignore", b"*.tmp")
    repository.git("add", "data/.gitignore")
    add_elsewhere(repository, local, source)
    repository.commit()
    before = everything(repository)
    assert reads(repository, local, source) == [b"data/empty"]
    assert add_elsewhere(repository, local, source).unchanged == 3
    assert everything(repository) == before
    (source / "one").write_bytes(b"changed")
    (source / "deep/two").unlink()
    shutil.rmtree(source / "deep")
    (source / "deep").write_bytes(b"a file now")
    assert reads(repository, local, source) == [b"data/deep", b"data/empty", b"data/one"]
    assert add_elsewhere(repository, local, source).removed == 2
    repository.commit()
    assert changes_of_head(repository) == {
        b"data/deep": b"A",
        b"data/deep/tool": b"D",
        b"data/deep/two": b"D",
        b"data/one": b"M",
    }
    assert repository.status() == []


def test_a_file_is_added_as_a_file(
    repository: Repository, local: LocalStore, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "way").symlink_to(source / "one")
    add_elsewhere(repository, local, tmp_path / "way", "in/a/folder")
    assert staged_pointer(repository, b"in/a/folder").size == 5
    assert b"/in/a/folder filter=" in (repository.top / ".gitattributes").read_bytes()
    with pytest.raises(PathRefused, match=r"^in is a folder in git's index"):
        add_elsewhere(repository, local, source / "one", "in")
    with pytest.raises(PathRefused, match=r"^in/a/folder is a file in git's index"):
        add_elsewhere(repository, local, source / "one", "in/a/folder/below")


def test_pointers_that_stood_there_are_taken_away_and_anything_else_is_refused(
    origin: Repository, tmp_path: Path, source: Path
) -> None:
    clone = origin.clone(tmp_path / "clone")
    stranger = clone.write("data/stranger", b"nobody's")
    text = clone.write("other-text", (clone.top / "data/1").read_bytes()).read_bytes()
    with open_local(clone, tmp_path / "other-cache") as local:
        # Data where the index has a pointer; a pointer of another file; a file that is not tracked.
        for path, content in (("data/1", b"old 1"), ("data/2", text), ("data/one", b"first")):
            before_file = (clone.top / path).read_bytes() if path != "data/one" else None
            (clone.top / path).write_bytes(content)
            before = everything(clone)
            with pytest.raises(PathRefused, match=rf"^{path} stands in the work tree"):
                add_elsewhere(clone, local, source)
            assert everything(clone) == before
            if before_file is None:
                (clone.top / path).unlink()
            else:
                (clone.top / path).write_bytes(before_file)
        add_elsewhere(clone, local, source)
    assert [place.name for place in (clone.top / "data").iterdir()] == ["stranger"]
    assert stranger.read_bytes() == b"nobody's"
    assert (clone.top / "other/1").exists()


def test_a_link_in_the_work_tree_is_never_followed(
    origin: Repository, tmp_path: Path, source: Path
) -> None:
    clone = origin.clone(tmp_path / "clone")
    (clone.top / "data").rename(tmp_path / "moved")
    (clone.top / "data").symlink_to(tmp_path / "moved")
    with open_local(clone, tmp_path / "other-cache") as local:
        with pytest.raises(PathRefused, match=r"^data stands in the work tree"):
            add_elsewhere(clone, local, source)
        (clone.top / "data").unlink()
        (clone.top / "data").mkdir()
        (tmp_path / "moved" / "tool").write_bytes(b"elsewhere")
        (clone.top / "data/deep").symlink_to(tmp_path / "moved")
        add_elsewhere(clone, local, source)
    names = [*map(str, range(5)), "tool"]
    assert sorted(place.name for place in (tmp_path / "moved").iterdir()) == names


def test_the_git_directory_of_a_source_is_passed_over_and_one_within_refused(
    repository: Repository, local: LocalStore, tmp_path: Path
) -> None:
    inner = make_repository(tmp_path / "source", initialised=False)
    inner.write("one")
    add_elsewhere(repository, local, inner.top)
    assert below("data", ["one"]) == skipped(repository)
    make_repository(inner.top / "nested", initialised=False).write("two")
    with pytest.raises(PathRefused, match="data/nested is a git repository of its own"):
        add_elsewhere(repository, local, inner.top)
    inner.write(".revfsignore", b"nested")
    add_elsewhere(repository, local, inner.top)
    assert below("data", ["one"]) == skipped(repository)


def test_a_source_must_be_there_outside_and_hold_something(
    repository: Repository, local: LocalStore, tmp_path: Path, source: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    repository.write("inside/one")
    os.mkfifo(tmp_path / "pipe")
    for place, words in (
        (tmp_path / "none", "none is not there"),
        (tmp_path / "nothing", "holds no file to add"),
        (repository.top / "inside", "not outside the work tree"),
        (repository.top / ".git", "not outside the work tree"),
        (repository.top.parent, "holds this repository"),
        (Path("/"), "holds this repository"),
        (tmp_path / "pipe", "data is a pipe"),
    ):
        with pytest.raises(StoreError, match=words):
            add_elsewhere(repository, local, place)
    for target, words in (
        (".", "top of the work tree"),
        ("..", "outside the work tree"),
        (".gitattributes", "git's own"),
        (".git/x", "inside a git directory"),
    ):
        with pytest.raises(PathRefused, match=words):
            add_elsewhere(repository, local, source, target)
    assert repository.staged().keys() == {b".revfsconfig"}


def test_a_source_that_fails_leaves_everything_as_it_was(
    origin: Repository, tmp_path: Path, source: Path
) -> None:
    clone = origin.clone(tmp_path / "clone")
    (source / "z").write_bytes(random_bytes(100))
    with open_local(clone, tmp_path / "other-cache") as local:
        context = add_context(local, clone.top)
        plan = plan_add_elsewhere(context, clone.top, source, Path("data"))
        (source / "z").unlink()
        before = everything(clone)
        with pytest.raises(PathNotFound, match=r"^data/z cannot be read"):
            plan.execute(NoProgress(), jobs=2)
        assert everything(clone) == before


def test_names_are_bytes(repository: Repository, local: LocalStore, source: Path) -> None:
    name = os.fsencode(source) + b"/n\xff\n"
    os.mkdir(name)
    Path(os.fsdecode(name + b"/x\x1b")).write_bytes(b"odd")
    add_elsewhere(repository, local, source, "d\udcfe")
    assert b"d\xfe/n\xff\n/x\x1b" in skipped(repository)


def test_what_a_source_ignores_is_passed_over_unless_the_index_has_it(
    repository: Repository, local: LocalStore, source: Path
) -> None:
    for name in ("cache/big", "cache/tracked", "cache/deep/tracked", "deep/x.tmp"):
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    names = [*NAMES, "deep/x.tmp"]
    (source / "cache").rename(source / "kept")
    add_elsewhere(repository, local, source)
    tracked = ["kept/tracked", "kept/deep/tracked"]
    (source / "kept/new").write_bytes(b"new")
    (source / "kept/deep/new").write_bytes(b"new")
    (source / "kept/big").unlink()
    (source / ".revfsignore").write_bytes(b"kept/\n")
    (source / "deep/.revfsignore").write_bytes(b"*.tmp\n")
    add_elsewhere(repository, local, source)
    assert skipped(repository) == below("data", [*names, *tracked])
    repository.git("rm", "-r", "--quiet", "--sparse", "--cached", "data")
    add_elsewhere(repository, local, source)
    assert skipped(repository) == below("data", NAMES)
