"""`revfs gc --remote` as a person meets it, with a folder for the remote whose files are made to
look old."""

import json
import os
import time
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.repositories import Repository, make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

DAY = 24 * 3600


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The folder that is the remote `disk`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def repository(tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]) -> Repository:
    """`a` in two versions and `b` in both, pushed three days ago."""
    repository = make_repository(tmp_path / "repository")
    assert repository.revfs("remote", "add", "-d", "disk", str(disk)) == 0
    for name, path, seed in (("small", "b", 1), ("first", "a", 2), ("second", "a", 3)):
        repository.write(path, random_bytes(300_000 if path == "b" else 20_000, seed))
        assert repository.revfs("add", path) == 0
        repository.commit(name)
        assert repository.revfs("push") == 0
    grow_older(disk, 3)
    capsys.readouterr()
    return repository


def grow_older(disk: Path, days: float) -> None:
    for path in disk.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - days * DAY
            os.utime(path, (then, then))


def count(disk: Path, kind: str) -> int:
    return sum(path.is_file() for path in (disk / kind).rglob("*"))


def gc(repository: Repository, *arguments: str) -> int:
    return repository.revfs("gc", "--remote", "disk", *arguments)


def test_the_plan_names_commits_and_says_when_packs_are_gone(
    repository: Repository, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime for path in disk.rglob("*")}
    assert gc(repository, "--keep-branches", "--dry-run") == ExitCode.DONE
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "3 commits no policy keeps:"
    subjects = {line.split(maxsplit=2)[2] for line in out[2:5]}
    assert subjects == {"set up", "small", "first"}
    due = time.strftime("%Y-%m-%d", time.localtime(time.time() + 7 * DAY))
    assert out[6].split() == ["condemned", "1", "19.6", "KiB", "from", due, "on"]
    assert out[7].split()[:2] == ["kept", "2"]
    assert {path: path.stat().st_mtime for path in disk.rglob("*")} == before


def test_what_is_forgotten_goes_with_a_later_gc(
    repository: Repository, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gc(repository, "--keep-branches") == ExitCode.DONE
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "condemned 1 pack, forgot 3 manifests"
    assert (count(disk, "manifests"), count(disk, "trash"), count(disk, "packs")) == (1, 3, 3)
    assert gc(repository) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to give back"
    grow_older(disk, 7.1)
    assert gc(repository, "--json") == ExitCode.DONE
    plan = json.loads(capsys.readouterr().out)
    assert list(plan["deleted"].values()) == [20_000 + 93]
    assert (count(disk, "trash"), count(disk, "packs"), count(disk, "tombs")) == (0, 2, 1)
    assert count(disk, "leases") == 0


def test_undo_brings_commits_back_all_or_by_name(
    repository: Repository, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gc(repository, "--keep-branches")
    grow_older(disk, 3)
    capsys.readouterr()
    assert repository.revfs("gc", "--undo", "HEAD~1") == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "brought back 1 commit"
    assert count(disk, "manifests") == 2
    assert repository.revfs("gc", "--undo", "--remote", "disk") == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "brought back 2 commits"
    assert repository.revfs("gc", "--undo") == ExitCode.DONE
    assert capsys.readouterr().out == "nothing of this repository was forgotten there\n"
    assert repository.revfs("gc", "--undo", "HEAD") == ExitCode.FAILED
    assert "nothing of commit" in capsys.readouterr().err


def test_too_much_at_once_is_refused_and_the_way_round_is_said(
    repository: Repository, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("checkout", "--quiet", "--orphan", "afresh")
    repository.commit("begun anew")
    repository.git("branch", "--delete", "--force", "main")
    before = sorted(disk.rglob("*"))
    assert gc(repository, "--keep-branches") == ExitCode.FAILED
    error = capsys.readouterr().err
    assert "100% of the bytes" in error
    assert error.rstrip().endswith("--max-delete 100%")
    assert sorted(disk.rglob("*")) == before
    assert gc(repository, "--keep-branches", "--max-delete", "100%") == ExitCode.DONE
    assert count(disk, "tombs") == 3


def test_packs_of_little_use_are_written_anew_unless_told_otherwise(
    repository: Repository, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("one", random_bytes(5_000, 7))
    repository.write("two", random_bytes(90_000, 8))
    repository.revfs("add", ".")
    repository.commit()
    repository.revfs("push")
    repository.revfs("remove", "two")
    repository.commit("without two")
    repository.revfs("push")
    grow_older(disk, 3)
    capsys.readouterr()
    assert gc(repository, "--keep-branches", "--no-repack", "-n") == ExitCode.DONE
    assert "written anew" not in capsys.readouterr().out
    assert gc(repository, "--keep-branches", "--max-delete", "50%") == ExitCode.DONE
    out = capsys.readouterr().out
    assert "written anew, smaller 1 92.9 KiB" in " ".join(out.split())
    assert out.rstrip().endswith("wrote 4.9 KiB of 1 pack anew")
    assert repository.revfs("gc", "--all") == ExitCode.DONE
    copy = repository.top.parent / "copy"
    assert repository.revfs("export", "HEAD", str(copy)) == ExitCode.DONE
    assert (copy / "one").read_bytes() == random_bytes(5_000, 7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--keep-branches",), "goes with --remote NAME"),
        (("--remote", "disk", "--all"), "not a remote"),
        (("--undo", "--keep-tags"), "--undo brings back"),
        (("HEAD",), "revisions go with --undo"),
        (("--remote", "disk", "--keep-since", "soon"), "neither a span (90d) nor a date"),
        (("--remote", "disk", "--max-delete", "120%"), "is no share"),
        (("--remote", "disk", "--grace", "a while"), "no span of time"),
    ],
)
def test_what_does_not_go_together_is_said(
    repository: Repository,
    arguments: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert repository.revfs("gc", *arguments) == ExitCode.USAGE
    assert words in capsys.readouterr().err


def test_a_grace_that_is_not_safe_and_a_remote_that_is_not_there_are_refused(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gc(repository, "--grace", "1m") == ExitCode.FAILED
    assert "600 s is the least" in capsys.readouterr().err
    assert repository.revfs("gc", "--remote", "elsewhere") == ExitCode.FAILED
    assert "elsewhere" in capsys.readouterr().err
