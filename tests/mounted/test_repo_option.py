"""Mounts of a repository that is named by url: no clone made by hand, and none that is lost."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.git_servers import serve_git
from tests.fakes.tcp_proxy import TcpProxy
from tests.mounted.conftest import Published
from tests.mounted.repositories import REVFS, Clone, fall_silent, wait_until

REFRESH_SECONDS = 0.3
# revfs itself, but for how long it waits before it asks an original again.
IMPATIENT = f"""
import sys
import store.kept_clones, vfs.keeping
store.kept_clones.FRESH_SECONDS = 0.0
vfs.keeping._REFRESH_SECONDS = {REFRESH_SECONDS}
from cli.main import main
sys.exit(main())
"""


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


@contextlib.contextmanager
def following(person: Clone, url: str, name: str) -> Iterator[tuple[Path, Path]]:
    """Mountpoint and log of a mount that follows a branch of a url, and asks for it impatiently."""
    place = person.fresh_mountpoint()
    command = ("--repo", url, "mount", "--follow", name, str(place))
    try:
        person.run(sys.executable, "-c", IMPATIENT, *command)
        record = person.records.load(place)
        assert record is not None
        yield place, Path(record.log)
    finally:
        person.end_mount(place)


def test_a_mount_that_follows_a_branch_of_a_url_sees_a_push_and_says_once_that_it_cannot_ask(
    hosted: tuple[Clone, str], person: Clone
) -> None:
    owner, _ = hosted
    owner.git("branch", "moving", "v1")
    with following(person, f"file://{owner.top}", "moving") as (place, log):
        assert (place / "data/empty").read_text() == ""
        owner.git("branch", "--force", "moving", "v2")
        wait_until(lambda: (place / "data/empty").read_text() == "no longer")
        away = owner.top.rename(owner.top.with_name("away"))
        wait_until(lambda: "WARNING" in log.read_text())
        # Long enough for several more tries, of which nothing new is to be said.
        time.sleep(5 * REFRESH_SECONDS)
        away.rename(owner.top)
        owner.git("branch", "--force", "moving", "v1")
        wait_until(lambda: (place / "data/empty").read_text() == "")
        assert log.read_text().count("WARNING") == 1
        assert "can be asked for what is new again" in log.read_text()


def gits_that_ask(url: str) -> list[str]:
    """The processes of a git that was told this url."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if {b"ls-remote", url.encode()} <= set(place.read_bytes().split(b"\0")):
                found.append(place.parent.name)
    return found


def test_an_unmount_leaves_no_git_behind_that_waits_for_a_silent_server(
    hosted: tuple[Clone, str], person: Clone
) -> None:
    _, url = hosted
    host, _, rest = url.removeprefix("git://").partition(":")
    port, _, path = rest.partition("/")
    with TcpProxy((host, int(port))) as proxy:
        slow = f"git://127.0.0.1:{proxy.port}/{path}"
        with following(person, slow, "main") as (place, _log):
            fall_silent(proxy)
            wait_until(lambda: bool(gits_that_ask(slow)))
            person.revfs("unmount", place)
            assert gits_that_ask(slow) == []
