"""The sizes in git's index, against a stat of each file."""

import os
from pathlib import Path

import pytest

from store.index_sizes import load_sizes_between
from tests.fakes.repositories import Repository

SIZES = {b"a": 99, b"b" * 7: 100, b"c" * 8: 101, b"deep/er/caf\xe9\n": 150, b"e": 0, b"f": 1 << 20}


@pytest.fixture
def index(repository: Repository) -> Path:
    """The index of a repository with files of these sizes, which git need not look at again."""
    for path, size in SIZES.items():
        place = repository.write(path, b"x" * size)
        os.utime(place, (1_000_000_000, 1_000_000_000))
    repository.git("add", "--all")
    return repository.top / ".git/index"


def test_files_of_a_size_are_found_whatever_the_length_of_their_names(index: Path) -> None:
    wanted = {path: size for path, size in SIZES.items() if size == 0 or 100 <= size <= 150}
    assert load_sizes_between(index, 100, 150) == wanted
    own = (index.parent.parent / ".revfsconfig").stat().st_size
    assert load_sizes_between(index, 0, 1 << 30) == SIZES | {b".revfsconfig": own}


def test_what_is_to_have_no_file_and_what_is_in_conflict_is_left_out(
    repository: Repository, index: Path
) -> None:
    repository.git("update-index", "--skip-worktree", "a")
    blob = repository.write_blob(b"x")
    stages = "".join(f"100644 {blob} {stage}\tboth\n" for stage in (1, 2, 3))
    repository.git("update-index", "--index-info", stdin=stages.encode())
    found = load_sizes_between(index, 0, 1 << 30)
    assert found is not None
    assert not {b"a", b"both"} & found.keys()
    # What follows an entry with more flags is still read right.
    assert found[b"f"] == 1 << 20


def test_a_name_too_long_for_its_length_field_is_read_to_its_end(
    repository: Repository, index: Path
) -> None:
    blob = repository.write_blob(b"x")
    names = [b"n" * length for length in (0xFFE, 0xFFF, 0x1000, 0x1005)]
    lines = b"".join(b"100644 %b\t%b\n" % (blob.encode(), name) for name in names)
    repository.git("update-index", "--index-info", stdin=lines)
    found = load_sizes_between(index, 100, 150)
    assert found is not None
    assert set(names) <= found.keys()


def test_an_index_of_another_form_is_not_read(repository: Repository, index: Path) -> None:
    raw = index.read_bytes()
    index.write_bytes(raw[: len(raw) // 2])
    assert load_sizes_between(index, 0, 200) is None
    index.write_bytes(b"")
    assert load_sizes_between(index, 0, 200) is None
    index.write_bytes(raw)
    repository.git("update-index", "--index-version", "4")
    assert load_sizes_between(index, 0, 200) is None
    assert load_sizes_between(index.with_name("none"), 0, 200) is None
