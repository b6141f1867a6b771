"""Repositories in a state that nobody meant: broken references, names that are not UTF-8, folders
made with a loose umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import git_index
from store.cache_index import CacheIndex
from store.config_files import write_settings
from store.config_keys import Level
from store.errors import GitError
from store.git import GitRepository
from store.git_command import find_repository
from store.local_folders import make_private_folder
from tests.fakes.repositories import Repository


@pytest.fixture
def loose_umask() -> Iterator[None]:
    """The umask of a new user of many systems, where a group is one user."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def test_packed_references_that_are_damaged_are_an_error_of_git(
    repository: Repository, opened: GitRepository
) -> None:
    (repository.top / ".git/packed-refs").write_text("this is no id\n")
    with pytest.raises(GitError, match="branches and tags cannot be read"):
        opened.branch_and_tag_commits()


def test_a_remote_whose_path_is_not_utf8_is_remembered(tmp_path: Path) -> None:
    index = CacheIndex(make_private_folder(tmp_path / "index"))
    identity = "folder " + os.fsdecode(b"/data/caf\xe9")
    index.keep_format(identity, b"format")
    assert index.load_format(identity) == b"format"
    assert index.load_format("folder /data/caf\ufffd") is None
    index.close()


@pytest.mark.usefixtures("loose_umask")
def test_a_setting_of_this_clone_leaves_a_folder_that_staged_packs_can_lie_in(
    repository: Repository,
) -> None:
    paths = find_repository(repository.top)
    environment = {"HOME": str(repository.top.parent)}
    write_settings(paths, environment, Level.LOCAL, {"cache.size": "1GiB"})
    assert make_private_folder(paths.state_dir) == paths.state_dir


def test_many_removals_are_one_new_index_and_not_one_shift_each(
    repository: Repository, opened: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        repository.write(f"file-{number}")
    repository.git("add", ".")
    monkeypatch.setattr(git_index, "_REBUILD_FROM_ENTRIES", 4)
    monkeypatch.setattr(git_index, "_change_entries", lambda *_: pytest.fail("one by one"))
    opened.index.write([], [b"file-%d" % number for number in range(4)])
    assert set(repository.staged()) == {b".revfsconfig", b"file-4"}
