"""Git's objects, revisions and history, against what git itself says of them."""

import os
from pathlib import Path

import pytest

from store.errors import GitError, RevisionNotFound
from store.git import GitRepository, blob_id
from store.git_command import find_repository
from store.git_index import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK, mode_of
from tests.fakes.repositories import Repository, make_repository


def test_many_blobs_go_into_one_pack_and_few_are_whole(
    repository: Repository, opened: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a hook, where git says where it is in terms of another folder.
    monkeypatch.setenv("GIT_DIR", ".git")
    contents = [b"", b"\n", b"data 3\nabc", bytes(range(256)), *(b"%d" % n for n in range(300))]
    ids = opened.write_blobs(contents)
    monkeypatch.delenv("GIT_DIR")
    assert ids == [blob_id(content) for content in contents]
    for raw_id, content in zip(ids, contents, strict=True):
        assert opened.load_blob_size(raw_id) == len(content)
        assert opened.load_blob(raw_id) == content
    assert len(list((repository.top / ".git/objects/pack").glob("*.pack"))) == 1
    repository.git("fsck", "--strict")


def test_revisions_go_by_every_name_that_git_knows(
    repository: Repository, opened: GitRepository
) -> None:
    first = repository.git("rev-parse", "HEAD").decode().strip()
    second = repository.commit()
    repository.git("branch", "topic/with/slashes", first)
    repository.git("tag", "--annotate", "--message", "one", "v1.0", first)
    for text in (first, first[:9], "HEAD~1", "main^", "topic/with/slashes", "v1.0", "tags/v1.0"):
        assert opened.resolve(text).commit == first
    assert opened.resolve("HEAD").commit == second
    facts = repository.git("log", "-1", "--format=%T %ct", "HEAD").split()
    found = opened.resolve("main")
    assert [found.tree.hex().encode(), b"%d" % found.time_seconds] == facts


def test_what_is_no_commit_is_not_found(repository: Repository, opened: GitRepository) -> None:
    blob = repository.write_blob(b"content")
    for text in ("", "none", "HEAD:", blob, "HEAD..HEAD", "HEAD~9", "-1", "a\0b", "\udcff"):
        with pytest.raises(RevisionNotFound, match="no commit goes by the name"):
            opened.resolve(text)


def test_history_has_every_commit_once_and_parents_first(
    repository: Repository, opened: GitRepository
) -> None:
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.commit("side")
    repository.git("checkout", "--quiet", "main")
    main = repository.commit("main")
    repository.git("merge", "--quiet", "--message", "merge", "side")
    tips = [opened.resolve(text).commit for text in ("main", "side")]
    history = opened.history(tips)
    wanted = repository.git("rev-list", "main").decode().split()
    assert sorted(entry.commit for entry in history) == sorted(wanted)
    places = {entry.commit: number for number, entry in enumerate(history)}
    lines = repository.git("rev-list", "--parents", "main").decode().splitlines()
    for child, *parents in map(str.split, lines):
        assert all(places[parent] < places[child] for parent in parents)
    assert {side, main} < set(places)


def test_all_refs_are_branches_and_tags_of_commits(
    repository: Repository, opened: GitRepository
) -> None:
    commit = repository.git("rev-parse", "HEAD").decode().strip()
    repository.git("tag", "--annotate", "--message", "x", "v1")
    repository.git("tag", "of-a-file", repository.write_blob(b"x"))
    repository.git("update-ref", "refs/remotes/origin/main", commit)
    assert opened.branch_and_tag_commits() == [commit, commit]
    (repository.top / ".git/refs/heads/broken").write_text("0" * 39 + "1\n")
    with pytest.raises(RevisionNotFound):
        opened.branch_and_tag_commits()


def test_objects_of_another_kind_or_missing_are_named(
    repository: Repository, opened: GitRepository
) -> None:
    tree = bytes.fromhex(repository.git("rev-parse", "HEAD^{tree}").decode().strip())
    blob = bytes.fromhex(repository.write_blob(b"content"))
    absent = bytes(19) + b"\1"
    for call, raw_id in (
        (opened.load_blob, tree),
        (opened.load_blob_size, tree),
        (opened.load_tree, blob),
        (opened.load_blob, absent),
        (opened.load_blob_size, absent),
        (opened.load_tree, absent),
    ):
        with pytest.raises(GitError, match=raw_id.hex()):
            call(raw_id)


def test_a_repository_that_is_none_cannot_be_opened(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    paths = find_repository(repository.top)
    (repository.top / ".git" / "HEAD").unlink()
    with pytest.raises(GitError, match="cannot be opened"):
        GitRepository(paths)


def test_modes_are_those_of_git(repository: Repository) -> None:
    plain, executable = repository.write("plain"), repository.write("executable")
    executable.chmod(0o744)
    plain.chmod(0o655)
    (repository.top / "link").symlink_to("executable")
    repository.git("add", ".")
    staged = repository.staged()
    for name, mode in (
        (b"plain", MODE_FILE),
        (b"executable", MODE_EXECUTABLE),
        (b"link", MODE_SYMLINK),
    ):
        assert mode_of((repository.top / os.fsdecode(name)).lstat()) == mode
        assert staged[name].startswith(b"%o " % mode)
