"""What `status` counts, against what was done."""

from pathlib import Path

import pytest

from store.git import Commit
from store.opening import LocalStore
from store.status import Count, Status, read_status
from tests.fakes.repositories import Repository, add, make_repository

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository", initialised=False)


def status(local: LocalStore, *pushed: str) -> Status:
    def is_pushed(commit: Commit) -> bool:
        return commit.commit in pushed

    return read_status(local.repository, local.directories, local.index, local.staging, is_pushed)


NOTHING = Count(0, 0)


def test_before_the_first_commit_all_counts_are_zero(local: LocalStore) -> None:
    assert status(local) == Status(NOTHING, 0, NOTHING, NOTHING)


def test_what_is_staged_counts_as_unpushed_only_once_committed(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("a", b"12345")
    add(repository, local)
    assert local.staging is not None
    (pack,) = local.staging.packs()
    staged = Count(1, pack.size)
    assert status(local) == Status(staged, 0, NOTHING, NOTHING)
    first = repository.commit()
    assert status(local) == Status(staged, 1, Count(1, 5), NOTHING)
    repository.write("a", b"123")
    repository.write("twin", b"12345")
    add(repository, local)
    repository.commit()
    assert status(local).unpushed_commits == 2
    # Two contents in all: the twin is no third.
    assert status(local).unpushed_files == Count(2, 8)
    assert status(local, first).unpushed_commits == 1
    assert status(local, first, repository.git("rev-parse", "HEAD").decode().strip()) == Status(
        status(local).staged_packs, 0, NOTHING, NOTHING
    )


def test_files_that_are_not_staged_any_more_do_not_count(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("a", b"12345")
    add(repository, local)
    assert local.staging is not None
    (first,) = local.staging.packs()
    repository.write("b", b"123")
    add(repository, local)
    repository.commit()
    assert status(local).unpushed_files == Count(2, 8)
    local.staging.remove(first.name)
    assert status(local).unpushed_files == Count(1, 3)
    (second,) = local.staging.packs()
    local.staging.remove(second.name)
    assert status(local) == Status(NOTHING, 1, NOTHING, NOTHING)
