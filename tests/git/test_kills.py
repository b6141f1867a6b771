"""Killed at any moment, with git or alone: what git took into its index is never lost."""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mounted.repositories import Clone, make_repository

FILES = 120


@pytest.fixture
def repository(tmp_path: Path) -> Clone:
    """A repository with a tracked folder, and many new files in it."""
    made = make_repository(tmp_path, None)
    (made.top / "data").mkdir()
    (made.top / "data/first").write_bytes(b"first")
    made.revfs("add", "data")
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "first")
    return made


def write_files(repository: Clone, seed: int, written: set[bytes]) -> None:
    chance = random.Random(seed)
    for number in range(FILES):
        content = chance.randbytes(chance.choice((10, 5_000, 400_000)))
        (repository.top / f"data/{number:03}").write_bytes(content)
        written.add(content)


def require_nothing_lost(repository: Clone, written: set[bytes]) -> None:
    """Whatever git's index names is there, and is something that was written, with the work tree's
    own files out of the way."""
    repository.git("fsck", "--strict", "--no-dangling")
    for lock in repository.top.glob(".git/*.lock"):
        lock.unlink()
    names = repository.git("ls-files", "data").split()
    for name in names:
        (repository.top / name).unlink()
    repository.git("checkout", "--", "data")
    assert {(repository.top / name).read_bytes() for name in names} <= written


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    below = [int(word) for word in text.split()]
    return below + [child for each in below for child in children_of(each)]


@pytest.mark.parametrize("whole", [True, False], ids=["git and its filter", "the filter alone"])
def test_a_kill_during_git_add_loses_nothing_that_git_took(repository: Clone, whole: bool) -> None:
    chance = random.Random(whole)
    written = {b"first"}
    for round_number in range(3):
        write_files(repository, round_number, written)
        process = subprocess.Popen(
            ["git", "add", "data"],
            cwd=repository.top,
            env=repository.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(chance.uniform(0.2, 1.2))
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            for pid in children_of(process.pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        require_nothing_lost(repository, written)
    repository.git("add", "data")
    assert repository.git("status", "--porcelain", "--untracked-files=all").count("??") == 0
    require_nothing_lost(repository, written)
    assert not list(repository.top.glob(".git/revfs/staged/*.part"))
    assert not list(repository.top.glob(".git/revfs/staged/*.journal"))


def test_a_filter_killed_after_git_wrote_its_index_has_lost_nothing(repository: Clone) -> None:
    """The one moment that a random kill hardly meets: git has all its answers and its index, and
    the packs are not whole yet."""
    written = {b"first"}
    write_files(repository, 9, written)
    code = (
        "import os, signal, sys; from cli.main import main; from store.clean import Cleaner;"
        "Cleaner.settle = lambda self: None;"
        "Cleaner.close = lambda self: os.kill(os.getpid(), signal.SIGKILL);"
        "sys.argv = ['revfs', 'filter-process']; main()"
    )
    command = shlex.join([sys.executable, "-c", code])
    repository.run("git", "-c", f"filter.revfs.process={command}", "add", "data", ok=False)
    assert list(repository.top.glob(".git/revfs/staged/*.journal"))
    assert repository.git("ls-files", "data").count("\n") == FILES + 1
    require_nothing_lost(repository, written)
    assert not list(repository.top.glob(".git/revfs/staged/*.journal"))


def test_a_disk_that_is_full_once_git_has_its_answers_has_lost_nothing(repository: Clone) -> None:
    written = {b"first"}
    write_files(repository, 11, written)
    code = (
        "import errno, os, sys; from cli.main import main\n"
        "def full(descriptor): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "os.fsync = full; sys.argv = ['revfs', 'filter-process']; main()"
    )
    command = shlex.join([sys.executable, "-c", code])
    repository.run("git", "-c", f"filter.revfs.process={command}", "add", "data", ok=False)
    require_nothing_lost(repository, written)
    repository.git("add", "data")
    assert repository.git("ls-files", "data").count("\n") == FILES + 1
    require_nothing_lost(repository, written)
    assert not list(repository.top.glob(".git/revfs/staged/*.journal"))


def start_and_kill(repository: Clone, seconds: float, *command: str) -> None:
    """A command, killed with all that it started."""
    process = subprocess.Popen(
        command,
        cwd=repository.top,
        env=repository.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for lock in repository.top.glob(".git/**/*.lock"):
        # As git itself advises; its own files of ours are locked while their owner lives.
        if lock.name in ("index.lock", "HEAD.lock", "main.lock"):
            lock.unlink()
    repository.git("fsck", "--strict", "--no-dangling")


def data_of(repository: Clone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (repository.top / "data").iterdir()}


def test_a_kill_during_commit_checkout_and_push_leaves_what_the_next_run_ends(
    repository: Clone, tmp_path: Path
) -> None:
    chance = random.Random(5)
    (tmp_path / "store").mkdir()
    repository.revfs("remote", "add", "-d", "storage", tmp_path / "store")
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "origin.git"], check=True)
    repository.git("remote", "add", "origin", tmp_path / "origin.git")
    versions: dict[str, dict[str, bytes]] = {}
    for name in ("one", "two"):
        write_files(repository, len(versions), set())
        versions[name] = data_of(repository)
        repository.git("add", "data")
        for path in list((repository.top / "data").iterdir())[:50]:
            path.write_bytes(path.read_bytes() + b"more")
        versions[name] = data_of(repository)
        for _ in range(2):
            start_and_kill(repository, chance.uniform(0.1, 0.8), "git", "commit", "-a", "-m", name)
        repository.git("commit", "--quiet", "--allow-empty", "-a", "-m", name)
        repository.git("tag", name)
    for _ in range(2):
        for name in ("one", "two"):
            start_and_kill(repository, chance.uniform(0.1, 1.0), "git", "checkout", "--force", name)
            repository.git("checkout", "--quiet", "--force", name)
            assert data_of(repository) == versions[name]
            assert repository.git("status", "--porcelain") == ""
    for _ in range(3):
        start_and_kill(repository, chance.uniform(0.2, 1.0), "git", "push", "origin", "two")
    repository.git("push", "--quiet", "origin", "one", "two")
    clone = repository.clone(tmp_path / "clone", tmp_path / "clone-home")
    clone.git("checkout", "--quiet", "two")
    clone.revfs("pull")
    assert data_of(clone) == versions["two"]
