"""`add` of what was added before: what is read again, and what is staged once."""

import os
from pathlib import Path

import pytest

from store import read_files as read_files_module
from store.add import AddSummary, plan_add
from store.local_store import LocalStore
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    add,
    add_context,
    open_local,
    random_bytes,
    staged_packs,
    staged_pointer,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def counted(repository: Repository, local: LocalStore, *paths: str) -> tuple[int, AddSummary]:
    """How many files an add reads, and its summary."""
    context = add_context(local, repository.top)
    plan = plan_add(context, repository.top, [Path(path) for path in paths or (".",)])
    return len(plan.files.to_read), plan.execute(NoProgress(), jobs=1)


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
