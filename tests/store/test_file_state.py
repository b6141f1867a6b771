"""FileState: the fields of a stat that are kept, and what tells one state from another."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from store.file_state import FileState

FIELDS = ("dev", "ino", "size", "mtime_ns", "ctime_ns", "mode", "uid", "gid")
WHOLE = {name: number for number, name in enumerate(FIELDS, 1)}


def status(**changed: int) -> SimpleNamespace:
    return SimpleNamespace(**{f"st_{name}": value for name, value in (WHOLE | changed).items()})


def test_every_field_reads_as_in_the_stat_that_it_was_made_of(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(10**9 * -5 + 7, 10**9 * -5 + 7))
    for found in (tmp_path.stat(), Path("/dev/null").stat(), status()):
        state = FileState.of(found)
        for name in FIELDS:
            assert getattr(state, f"st_{name}") == getattr(found, f"st_{name}"), name
        assert FileState.of(state) is state


@pytest.mark.parametrize("name", ["dev", "ino", "size", "mtime_ns", "ctime_ns"])
def test_a_change_of_file_or_content_is_another_identity(name: str) -> None:
    before, after = FileState.of(status()), FileState.of(status(**{name: 99}))
    assert before.identity != after.identity


@pytest.mark.parametrize("name", ["mode", "uid", "gid"])
def test_a_change_of_rights_is_another_state_of_the_same_content(name: str) -> None:
    before, after = FileState.of(status()), FileState.of(status(**{name: 99}))
    assert before != after
    assert before.identity == after.identity


@pytest.mark.parametrize("far", [lambda: 2**63, lambda: -(2**63) - 1, lambda: 2**70])
def test_times_far_from_now_are_told_apart_all_the_same(far: Callable[[], int]) -> None:
    one = FileState.of(status(mtime_ns=far()))
    assert one == FileState.of(status(mtime_ns=far()))
    assert one.identity != FileState.of(status(mtime_ns=far() + 1)).identity
