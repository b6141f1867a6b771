"""Mounts of a repository that is named by url: no clone made by hand, and none that is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.git_servers import serve_git
from tests.mounted.conftest import Published
from tests.mounted.repositories import REVFS, Clone


@pytest.fixture
def person(tmp_path: Path) -> Clone:
    """Somebody with a home, in a folder that is no repository."""
    top = tmp_path / "folder"
    top.mkdir()
    return Clone(top, tmp_path / "home")


@pytest.fixture
def hosted(published: Published, tmp_path: Path) -> Iterator[tuple[Clone, str]]:
    """A clone that may be changed, and the url under which git's own daemon serves it."""
    made = published.repository.clone(tmp_path / "hosted" / "data", tmp_path / "owner")
    with serve_git(tmp_path / "hosted") as (host, port):
        yield made, f"git://{host}:{port}/data/.git"


def contents(folder: Path) -> dict[bytes, bytes]:
    """path → bytes of every file below a folder; links are not followed."""
    found = {}
    for place, _, names in os.walk(os.fsencode(folder)):
        for path in (os.path.join(place, name) for name in names):
            if not os.path.islink(path):
                found[os.path.relpath(path, os.fsencode(folder))] = Path(
                    os.fsdecode(path)
                ).read_bytes()
    return found


def test_a_revision_of_a_url_is_mounted_and_outlives_a_fetch_that_drops_its_branch(
    published: Published, hosted: tuple[Clone, str], person: Clone
) -> None:
    owner, url = hosted
    owner.git("switch", "--quiet", "-c", "doomed", "v1")
    owner.git("commit", "--quiet", "--allow-empty", "-m", "same files")
    place = person.fresh_mountpoint()
    try:
        person.revfs("--repo", url, "mount", "doomed", place)
        owner.git("switch", "--quiet", "--detach", "v2")
        owner.git("branch", "-D", "doomed")
        for lock in (person.cache / "repositories").glob("*.lock"):
            os.utime(lock, (0, 0))
        failed = person.run(REVFS, "--repo", url, "ls", "doomed", ok=False)
        assert failed.returncode == 1
        (clone,) = (person.cache / "repositories").glob("*.git")
        person.git("-C", clone, "gc", "--quiet")
        assert contents(place) == contents(published.checkouts / "v1")
    finally:
        person.end_mount(place)


def test_a_mount_of_a_path_is_that_of_the_repository_there(
    published: Published, hosted: tuple[Clone, str], person: Clone
) -> None:
    owner, _ = hosted
    place = person.fresh_mountpoint()
    try:
        person.revfs("--repo", owner.top / "data", "mount", "v2", place)
        assert contents(place / "data") == contents(published.checkouts / "v2" / "data")
        assert not (person.cache / "repositories").exists()
    finally:
        person.end_mount(place)
