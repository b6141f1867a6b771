"""Present ids against git itself: what `git add --all` and `git write-tree` make of the same."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import present_ids
from store.errors import PathRefused
from store.git import blob_id
from store.ids import GitId
from store.local_store import LocalStore
from store.present_ids import (
    PresentContext,
    load_present_ids,
    load_revision_ids,
    require_no_data_by_git,
)
from store.walk import FoundFile
from tests.fakes.repositories import Repository, add, open_local, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def local(repository: Repository, tmp_path: Path) -> Iterator[LocalStore]:
    with open_local(repository, tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def context(repository: Repository, local: LocalStore) -> PresentContext:
    return PresentContext(
        local.repository, repository.top, local.open_stat_cache(), local.load_chunking(), 2
    )


def ids(context: PresentContext, *paths: str | bytes) -> list[str | None]:
    raw = [os.fsencode(path) for path in paths]
    found = load_present_ids(context, raw)
    return [found[path] for path in raw]


def committed_ids(repository: Repository, *paths: str | bytes) -> list[str]:
    """The ids in a commit of all that is staged."""
    repository.commit()
    return [
        repository.git("rev-parse", b"HEAD:" + os.fsencode(path)).decode().strip() for path in paths
    ]


def objects(repository: Repository) -> set[str]:
    """Every object file of git and every staged pack."""
    git_dir = repository.top / ".git"
    return {
        str(path)
        for folder in (git_dir / "objects", git_dir / "revfs/staged")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_plain_files_have_the_ids_that_git_add_would_give(
    repository: Repository, context: PresentContext
) -> None:
    repository.write("code/main.py", b"print()\n")
    repository.write("code/tool", b"#!/bin/sh\n").chmod(0o755)
    repository.write("code/a/deep", b"deep")
    repository.write("code/a.b", b"sorted before a/")
    repository.write(b'code/caf\xe9 "q"\n\\', b"odd")
    (repository.top / "code/link").symlink_to("main.py")
    repository.write("code/.gitignore", b"*.pyc\n")
    repository.write("code/main.pyc", b"ignored")
    before = objects(repository)
    paths = ("code", "code/a", "code/main.py", "code/link", b'code/caf\xe9 "q"\n\\')
    found = ids(context, *paths)
    assert objects(repository) == before
    repository.git("add", "--all", "code")
    assert found == committed_ids(repository, *paths)
    assert ids(context, *paths) == found


def test_changed_removed_and_replaced_files_count_as_they_are_now(
    repository: Repository, context: PresentContext
) -> None:
    for name in ("changed", "removed", "file", "folder/x", "mode"):
        repository.write(f"code/{name}", name.encode())
    repository.git("add", "code")
    repository.commit()
    repository.write("code/changed", b"otherwise")
    (repository.top / "code/removed").unlink()
    (repository.top / "code/file").unlink()
    repository.write("code/file/below", b"a folder now")
    (repository.top / "code/folder/x").unlink()
    (repository.top / "code/folder").rmdir()
    (repository.top / "code/folder").symlink_to("changed")
    (repository.top / "code/mode").chmod(0o755)
    found = ids(context, "code", "code/changed", "code/removed")
    assert found[2] is None
    repository.git("add", "--all", "code")
    assert found[:2] == committed_ids(repository, "code", "code/changed")


def test_the_conversions_of_the_user_are_gits_own(
    repository: Repository, context: PresentContext
) -> None:
    repository.write(".gitattributes", b"*.txt text eol=crlf\n")
    repository.write("a.txt", b"one\r\ntwo\r\n")
    assert ids(context, "a.txt") == [blob_id(b"one\ntwo\n").hex()]


def test_tracked_files_have_the_ids_of_their_pointers_before_they_are_added(
    repository: Repository, local: LocalStore, context: PresentContext
) -> None:
    repository.write("data/one", b"first")
    add(repository, local, "data")
    repository.commit()
    repository.write("data/one", b"changed")
    repository.write("data/large", random_bytes(3 << 20))
    repository.write("data/empty", b"")
    repository.write("data/.gitignore", b"*.tmp\n")
    before = objects(repository)
    found = ids(context, "data", "data/large", "data/one")
    assert objects(repository) == before
    add(repository, local, "data")
    repository.git("add", "data/.gitignore")
    assert found == committed_ids(repository, "data", "data/large", "data/one")


def test_what_did_not_change_is_not_read_again(
    repository: Repository,
    local: LocalStore,
    context: PresentContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.write("data/one", b"first")
    add(repository, local, "data")
    repository.write("data/one", b"changed")
    repository.write("data/two", b"new")
    read: list[bytes] = []
    real = present_ids._read_pointers

    def counting(context: PresentContext, files: list[FoundFile]) -> object:
        read.extend(file.path for file in files)
        return real(context, files)

    monkeypatch.setattr(present_ids, "_read_pointers", counting)
    first = ids(context, "data")
    assert read == [b"data/one", b"data/two"]
    assert ids(context, "data") == first
    assert read == [b"data/one", b"data/two"]


def test_a_pointer_in_place_of_its_file_counts_as_the_file(
    repository: Repository, local: LocalStore, context: PresentContext
) -> None:
    place = repository.write("data/one", b"first")
    add(repository, local, "data")
    found = ids(context, "data/one", "data")
    repository.commit()
    text = repository.git("cat-file", "blob", "HEAD:data/one")
    place.write_bytes(text)
    assert text.startswith(b"revfs 1\n")
    assert ids(context, "data/one", "data") == found


def test_a_file_that_is_missing_on_purpose_counts_as_git_has_it(
    repository: Repository, local: LocalStore, context: PresentContext
) -> None:
    place = repository.write("data/one", b"first")
    add(repository, local, "data")
    found = ids(context, "data/one", "data")
    repository.git("update-index", "--skip-worktree", "data/one")
    place.unlink()
    assert ids(context, "data/one", "data") == found
    repository.git("update-index", "--no-skip-worktree", "data/one")
    assert ids(context, "data/one", "data") == [None, None]


def test_nothing_is_where_git_would_take_nothing(
    repository: Repository, context: PresentContext
) -> None:
    (repository.top / "empty").mkdir()
    repository.write(".gitignore", b"/build\n")
    repository.write("build/ignored")
    assert ids(context, "empty", "build", "nowhere", "empty/x") == [None] * 4
    # Who names an ignored file means it.
    assert ids(context, "build/ignored") == [blob_id(b"content").hex()]


def test_what_revfs_passes_over_does_not_count(
    repository: Repository, local: LocalStore, context: PresentContext
) -> None:
    repository.write("data/one")
    repository.write("data/junk.tmp")
    repository.write("data/.gitignore", b"*.pyc\n")
    repository.write("data/x.pyc")
    repository.write(".revfsignore", b"*.tmp\n")
    found = ids(context, "data")
    (repository.top / "data/junk.tmp").unlink()
    (repository.top / "data/x.pyc").unlink()
    assert ids(context, "data") == found


def test_a_path_in_conflict_and_a_repository_of_its_own_are_refused(
    repository: Repository, context: PresentContext
) -> None:
    repository.git("init", "--quiet", "code/sub")
    repository.git("-C", "code/sub", "commit", "--quiet", "--allow-empty", "-m", "in it")
    with pytest.raises(PathRefused, match="code/sub/ is a git repository of its own"):
        ids(context, "code")
    blob = repository.write_blob(b"ours")
    for stage in (2, 3):
        line = f"100644 {blob} {stage}\tin/conflict\n".encode()
        repository.git("update-index", "--index-info", stdin=line)
    with pytest.raises(PathRefused, match="in/conflict is in conflict"):
        ids(context, "in")


def test_a_revision_has_the_ids_of_its_tree(
    repository: Repository, context: PresentContext
) -> None:
    repository.write(b"code/caf\xe9*", b"odd")
    repository.write("code/main", b"main")
    repository.git("add", "code")
    paths = ("code", b"code/caf\xe9*", "code/main")
    expected = committed_ids(repository, *paths)
    commit = context.repository.resolve("HEAD").commit
    wanted = [os.fsencode(path) for path in paths]
    found = load_revision_ids(context.repository, commit, [*wanted, b"", b"code/*", b"nowhere"])
    assert [found[path] for path in wanted] == expected
    assert found[b""] == repository.git("rev-parse", "HEAD^{tree}").decode().strip()
    assert found[b"nowhere"] is found[b"code/*"] is None
    nowhere = GitId("1" * 40)
    assert load_revision_ids(context.repository, nowhere, wanted) == dict.fromkeys(wanted)


def test_what_is_marked_as_data_is_not_for_git_to_add(
    repository: Repository, local: LocalStore, context: PresentContext
) -> None:
    repository.write("data/one")
    add(repository, local, "data")
    require_no_data_by_git(context, [b"metrics.json"])
    with pytest.raises(PathRefused, match="data/two is tracked by revfs"):
        require_no_data_by_git(context, [b"metrics.json", b"data/two"])
