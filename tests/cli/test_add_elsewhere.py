"""`revfs add SRC --to PATH` as a person meets it, and a kill at any moment of it."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.data_elsewhere import below, changes_of_head, make_origin, make_source, skipped
from tests.fakes.processes import environment_with, python_command, revfs_command
from tests.fakes.repositories import Repository, open_local, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder outside of any repository."""
    return make_source(tmp_path / "source")


@pytest.fixture
def clone(repository: Repository, tmp_path: Path) -> Repository:
    """A clone full of pointers, of a repository with data, code and attributes."""
    with open_local(repository, tmp_path / "cache") as local:
        return make_origin(repository, local).clone(tmp_path / "clone")


def test_paths_are_from_where_one_stands_and_what_was_done_is_said(
    repository: Repository, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("below/file")
    below_it = Repository(repository.top / "below")
    assert below_it.revfs("add", str(source), "--to", "data", "--jobs", "1") == ExitCode.DONE
    assert capsys.readouterr().out.startswith("added 6 files (13 B read, ")
    assert skipped(repository) == below("below/data")
    assert below_it.revfs("add", "../../source", "--to", "data", "--json") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {
        "dry_run": False,
        "added": 3,
        "unchanged": 3,
        "removed": 0,
        "read_bytes": 0,
        "staged_bytes": 0,
        "kept_by_git": 0,
    }


def test_one_source_is_wanted_and_outside_paths_are_told_of_it(
    repository: Repository, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("add", str(source), str(source), "--to", "data") == ExitCode.USAGE
    assert repository.revfs("add", str(source), "--jobs", "0") == ExitCode.USAGE
    capsys.readouterr()
    assert repository.revfs("add", str(source)) == ExitCode.FAILED
    assert "--to" in capsys.readouterr().err


def test_a_dry_run_says_it_all_and_changes_nothing(
    clone: Repository, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone.write("data/one", b"in the way")
    os.mkfifo(source / "pipe")
    (source / ".revfsignore").write_bytes(b"deep/two\n")
    before = (clone.top / ".git/index").read_bytes(), clone.status()
    assert clone.revfs("add", str(source), "--to", "data", "--dry-run") == ExitCode.FAILED
    out = capsys.readouterr().out
    for line in (
        "would add data/one",
        "would remove data/1",
        "would take away the pointer data/1",
        "would pass over data/deep/two",
        "would refuse: data/one stands in the work tree",
        "would refuse: data/pipe is a pipe",
        "would add 5 files (7 B to read), 5 removed",
    ):
        assert line in out
    assert clone.revfs("add", str(source), "--to", "data", "--dry-run", "--json") == ExitCode.FAILED
    facts = json.loads(capsys.readouterr().out)
    assert facts["pointers_to_take_away"] == facts["remove"] == [f"data/{n}" for n in range(5)]
    assert len(facts["refused"]) == 2
    assert ((clone.top / ".git/index").read_bytes(), clone.status()) == before


KILLS = {
    "the blobs are written": ("store.git.GitRepository", "write_blobs", 1),
    "the attributes are read": ("store.attributes_file.AttributesFile", "load", 1),
    "git misses no pointer": ("store.git_index.GitIndex", "write", 1),
    "some pointers are taken away": ("store.standing_files", "_remove_empty_folders", 2),
    "all pointers are taken away": ("store.standing_files", "_remove_empty_folders", 5),
    "the index is written": ("store.git_index.GitIndex", "write", 2),
}


@pytest.mark.parametrize("point", KILLS)
def test_a_kill_in_between_leaves_what_the_next_run_ends(
    clone: Repository, source: Path, point: str
) -> None:
    owner, name, count = KILLS[point]
    code = (
        "import importlib, os, pkgutil, sys, store.standing_files, store.add\n"
        f"owner = pkgutil.resolve_name({owner!r}); original = getattr(owner, {name!r})\n"
        f"left = [{count}]\n"
        "def dies(*a, **k):\n"
        "    result = original(*a, **k)\n"
        "    left[0] -= 1\n"
        "    left[0] or os.kill(os.getpid(), 9)\n"
        "    return result\n"
        f"setattr(owner, {name!r}, dies)\n"
        "from cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    command = python_command(code, "add", source, "--to", "data")
    done = subprocess.run(command, cwd=clone.top, env=environment_with(), capture_output=True)
    assert done.returncode == -signal.SIGKILL
    clone.git("fsck", "--strict", "--no-dangling")
    changed = [line for line in clone.status() if line[1:2] != b" "]
    assert changed == []
    assert clone.revfs("-q", "add", str(source), "--to", "data") == ExitCode.DONE
    _require_done(clone)


def _require_done(clone: Repository) -> None:
    assert not (clone.top / "data").exists()
    clone.commit()
    removed = {b"data/%d" % number: b"D" for number in range(5)}
    assert changes_of_head(clone) == removed | dict.fromkeys(below("data"), b"A")
    assert clone.status() == []


def test_a_kill_at_any_moment_leaves_nothing_that_the_next_run_minds(
    clone: Repository, source: Path
) -> None:
    chance = random.Random(11)
    (source / "large").write_bytes(random_bytes(20 << 20))
    command = revfs_command("add", source, "--to", "data")
    killed = 0
    for _ in range(4):
        process = subprocess.Popen(
            command, cwd=clone.top, env=environment_with(), stdout=subprocess.DEVNULL
        )
        try:
            # It takes longer than this to start, and to read 20 MiB.
            time.sleep(chance.uniform(0.03, 0.2))
        finally:
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        clone.git("fsck", "--strict", "--no-dangling")
        assert [line for line in clone.status() if line[1:2] != b" "] == []
    assert killed
    (source / "large").unlink()
    assert clone.revfs("-q", "add", str(source), "--to", "data") == ExitCode.DONE
    _require_done(clone)
    assert not list((clone.top / ".git").glob("index.*"))
