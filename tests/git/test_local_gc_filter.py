"""`revfs gc` and git's own verbs over real files: whatever git gives back afterwards is whole."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.mounted.repositories import Clone, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Clone:
    """A repository with a tracked file, and no remote: what is staged is the only copy."""
    made = make_repository(tmp_path, None)
    write(made, b"first")
    made.revfs("add", "data")
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "first")
    return made


def write(repository: Clone, word: bytes) -> None:
    (repository.top / "data").mkdir(exist_ok=True)
    (repository.top / "data/file").write_bytes(word * 100_000)


def read(repository: Clone) -> bytes:
    """The word of which the file is made."""
    content = (repository.top / "data/file").read_bytes()
    word = content[: len(content) // 100_000]
    assert content == word * 100_000
    return word


def collect(repository: Clone) -> int:
    """Drop what nothing needs, however new it is; how many packs those were."""
    return dropped(repository.revfs("gc", "--grace", "0", "--json"))


def dropped(shown: str) -> int:
    found: int = json.loads(shown)["staged"]["dropped"]["packs"]
    return found


def test_a_stash_an_amended_commit_and_an_aborted_merge_come_back_whole(repository: Clone) -> None:
    git = repository.git
    write(repository, b"stashed")
    git("stash")
    git("checkout", "--quiet", "-b", "side")
    write(repository, b"side")
    git("commit", "--quiet", "--all", "-m", "side")
    git("checkout", "--quiet", "main")
    write(repository, b"worse")
    git("commit", "--quiet", "--all", "-m", "worse")
    write(repository, b"better")
    git("commit", "--quiet", "--all", "--amend", "-m", "better")
    repository.run("git", "merge", "side", ok=False)
    assert collect(repository) == 0
    git("merge", "--abort")
    assert collect(repository) == 0
    for commit, word in (("main", b"better"), ("side", b"side"), ("main@{1}", b"worse")):
        git("checkout", "--quiet", commit)
        assert read(repository) == word
    git("checkout", "--quiet", "main~1")
    git("stash", "pop")
    assert read(repository) == b"stashed"
    git("reset", "--quiet", "--hard")
    # The merge, the amended commit and the stash are out of reach now, one by one.
    git("update-ref", "-d", "ORIG_HEAD")
    git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    assert collect(repository) == 2
    for commit, word in (("main", b"better"), ("side", b"side"), ("main~1", b"first")):
        git("checkout", "--quiet", commit)
        assert read(repository) == word


def test_data_that_git_adds_again_while_its_old_copy_is_idle_is_not_dropped(
    repository: Clone,
) -> None:
    write(repository, b"idle")
    repository.git("add", "data")
    repository.git("reset", "--quiet", "--hard")
    staged = repository.top / ".git/revfs/staged"
    for pack in staged.iterdir():
        os.utime(pack, (10**9, 10**9))
    assert dropped(repository.revfs("gc", "--dry-run", "--json")) == 1
    # As a stash does: into objects, with nothing that leads to it yet.
    write(repository, b"idle")
    command = ["git", "hash-object", "-w", "--path", "data/file", "data/file"]
    subprocess.run(command, cwd=repository.top, env=repository.environment, check=True)
    assert dropped(repository.revfs("gc", "--json")) == 0
    repository.git("add", "data")
    (repository.top / "data/file").unlink()
    repository.git("checkout", "--", "data")
    assert read(repository) == b"idle"
