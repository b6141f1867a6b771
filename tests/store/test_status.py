"""What `status` counts, against what was done. Git's part is in test_work_tree_changes."""

from pathlib import Path

import pytest

from store.git import Commit
from store.local_store import LocalStore
from store.packs import PackKind
from store.status import Count, Status, read_status
from tests.fakes.buckets import FINE
from tests.fakes.repositories import (
    Repository,
    add,
    make_repository,
    random_bytes,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository", initialised=False)


def status(local: LocalStore, *pushed: str) -> Status:
    def is_pushed(commit: Commit) -> bool:
        return commit.commit in pushed

    return read_status(local, is_pushed)


NOTHING = Count(0, 0)


def counts(found: Status) -> tuple[Count, int, Count, Count]:
    """What is staged beside git, and not pushed yet."""
    unpushed = (found.unpushed_commits, found.unpushed_files)
    return found.staged_packs, *unpushed, found.cached_packs


def test_before_the_first_commit_all_counts_are_zero(local: LocalStore) -> None:
    assert status(local) == Status(branch="main")


def test_what_is_staged_counts_as_unpushed_only_once_committed(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("a", b"12345")
    add(repository, local)
    assert local.staging is not None
    (pack,) = local.staging.packs()
    staged = Count(1, pack.size)
    assert counts(status(local)) == (staged, 0, NOTHING, NOTHING)
    first = repository.commit()
    assert counts(status(local)) == (staged, 1, Count(1, 5), NOTHING)
    repository.write("a", b"123")
    repository.write("twin", b"12345")
    add(repository, local)
    repository.commit()
    assert status(local).unpushed_commits == 2
    # Two contents in all: the twin is no third.
    assert status(local).unpushed_files == Count(2, 8)
    assert status(local, first).unpushed_commits == 1
    pushed = status(local, first, repository.head())
    assert counts(pushed) == (pushed.staged_packs, 0, NOTHING, NOTHING)


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
    assert counts(status(local)) == (NOTHING, 1, NOTHING, NOTHING)


def test_an_old_commit_that_is_not_pushed_counts_though_head_is(
    repository: Repository, local: LocalStore
) -> None:
    repository.write("folder/a", b"12345")
    add(repository, local)
    repository.commit()
    repository.write("b", b"123")
    add(repository, local)
    head = repository.commit()
    # Of what HEAD has too, as well.
    assert status(local, head).unpushed_commits == 1
    assert status(local, head).unpushed_files == Count(1, 5)


def test_files_of_head_are_counted_by_path_and_those_here_apart(
    repository: Repository, local: LocalStore
) -> None:
    large = random_bytes(200_000)
    for path in ("one/a", "two/a", "large", "large-too"):
        repository.write(path, large if path.startswith("large") else b"12345")
    add(repository, local, chunking=FINE)
    repository.commit()
    # The folders `one` and `two` are the same tree, and count twice all the same.
    assert status(local).head_files == Count(4, 10 + 400_000)
    assert status(local).here_files == Count(4, 10 + 400_000)
    assert local.staging is not None
    lists = [p for p in local.staging.packs() if local.staging.load_table(p.name)[0] == 1]
    (found,) = lists
    local.staging.remove(found.name)
    # Without the list of its pieces a file is not here, though all its pieces are.
    assert status(local).here_files == Count(2, 10)


def test_a_file_with_a_missing_piece_is_not_here(repository: Repository, local: LocalStore) -> None:
    repository.write("large", random_bytes(200_000))
    add(repository, local, chunking=FINE)
    repository.write("small", b"123")
    add(repository, local)
    repository.commit()
    assert local.staging is not None
    for pack in local.staging.packs():
        kind, table = local.staging.load_table(pack.name)
        if kind == PackKind.DATA and len(table) > 1:
            local.staging.remove(pack.name)
    assert status(local).here_files == Count(1, 3)


def test_a_detached_head_has_no_branch(repository: Repository, local: LocalStore) -> None:
    commit = repository.commit()
    assert (status(local).branch, status(local).commit) == ("main", commit)
    repository.git("checkout", "--quiet", "--detach")
    assert (status(local).branch, status(local).commit) == (None, commit)
