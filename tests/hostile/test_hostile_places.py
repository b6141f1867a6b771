"""A cache folder that is not the user's alone: nothing is mounted, fetched or read over it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.test_lying_servers import Lying
from tests.hostile.test_lying_servers import lying as lying
from tests.hostile.test_lying_servers import served as served
from tests.mounted.repositories import REVFS, Clone


def open_to_all(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)


def lead_elsewhere(cache: Path) -> None:
    elsewhere = cache.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    cache.symlink_to(elsewhere)


def give_to_another(cache: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    cache.mkdir(mode=0o700)
    os.chown(cache, 65534, 65534)


def be_a_file(cache: Path) -> None:
    cache.write_text("no folder")


def assert_one_clear_line(clone: Clone, *words: str | Path) -> None:
    completed = clone.run(REVFS, *words, ok=False)
    assert completed.returncode == 1
    assert completed.stdout == ""
    (line,) = completed.stderr.splitlines()
    assert str(clone.cache) in line


@pytest.mark.parametrize("spoil", [open_to_all, lead_elsewhere, give_to_another, be_a_file])
def test_a_cache_folder_of_others_is_refused_in_one_clear_line(
    lying: Lying, spoil: Callable[[Path], None]
) -> None:
    clone = lying.clone
    clone.cache.parent.mkdir(exist_ok=True)
    spoil(clone.cache)
    assert_one_clear_line(clone, "mount", "HEAD", clone.fresh_mountpoint())
    assert_one_clear_line(clone, "cat", "HEAD", "small")
    assert_one_clear_line(clone, "fetch", "HEAD")
    if clone.cache.is_dir():
        assert list(clone.cache.iterdir()) == []
