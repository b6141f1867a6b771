"""The kernel's number of a mount that is gone goes to the next one, whoever made that."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mounted.conftest import Published
from tests.mounted.repositories import Clone, Mounted, is_in_tree

MOST_PID = 1 << 22


@pytest.fixture
def other(clone: Clone, tmp_path: Path) -> Iterator[tuple[Clone, Mounted]]:
    """Another person's mount of another clone."""
    person = clone.clone(tmp_path / "other-clone", tmp_path / "other-home")
    with person.mounted("v1") as mount:
        yield person, mount


def test_what_a_dead_mount_has_left_is_not_the_living_one_with_its_number(
    clone: Clone, other: tuple[Clone, Mounted], published: Published
) -> None:
    _, living = other
    place = clone.fresh_mountpoint()
    # As a killed process leaves it, when its mount was cleared away by hand after that.
    dead = replace(living.record, pid=MOST_PID, mountpoint=str(place), first_mountpoint=str(place))
    clone.records.write(dead)
    assert "no revision is mounted" in clone.fails("unmount", place)
    assert is_in_tree(living.path)
    assert clone.mounts() == []
    assert clone.records.load(place) is None
    assert (living.path / "data/run.sh").read_text() == "#!/bin/sh\necho ran\n"
