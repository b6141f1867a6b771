"""`revfs add` as a person meets it: words, exit codes, and a kill at any moment."""

import json
import os
import random
import signal
import subprocess
import time
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from cli.main import ExitCode
from store import read_files as read_files_module
from tests.fakes.processes import environment_with, revfs_command
from tests.fakes.repositories import Repository, make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def test_what_was_done_is_said(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.write("a/one", b"1" * 2048)
    repository.write("a/two", random_bytes(1024))
    assert repository.revfs("add", "a") == ExitCode.DONE
    first = capsys.readouterr()
    assert first.out.startswith("added 2 files (3 KiB read, ")
    assert first.err == ""
    (repository.top / "a/one").unlink()
    assert repository.revfs("add", "a") == ExitCode.DONE
    assert capsys.readouterr().out == (
        "added 0 files (0 B read, 0 B staged), 1 unchanged, 1 removed\n"
    )
    assert repository.revfs("-q", "add", "a") == ExitCode.DONE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none", "none is not there"),
        ("..", "outside the work tree"),
        (".git/config", "inside a git directory"),
        (".gitattributes", "use git add"),
        ("pipe", "pipe is a pipe, which cannot be added"),
    ],
)
def test_a_path_that_cannot_be_added_is_one_sentence_and_exit_code_1(
    repository: Repository, capsys: pytest.CaptureFixture[str], path: str, words: str
) -> None:
    os.mkfifo(repository.top / "pipe")
    repository.write(".gitattributes")
    repository.write("good")
    before = repository.staged()
    assert repository.revfs("add", "good", path) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err.startswith("revfs: ")
    assert words in err
    assert err.count("\n") == 1
    assert repository.staged() == before


def test_a_name_in_an_error_cannot_fool_a_terminal(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(os.fsencode(repository.top) + b"/a\x1b[2J\xff")
    assert repository.revfs("add", ".") == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "x1b[2J" in err


def test_without_init_the_way_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_repository(tmp_path / "new", initialised=False)
    repository.write("a")
    assert repository.revfs("add", "a") == ExitCode.FAILED
    assert "run `revfs init`" in capsys.readouterr().err
    assert repository.staged() == {}


def test_a_bare_repository_has_nothing_to_add(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    assert Repository(tmp_path / "bare").revfs("add", "a") == ExitCode.FAILED
    assert "no work tree" in capsys.readouterr().err


def test_no_path_is_a_usage_error(repository: Repository) -> None:
    assert repository.revfs("add") == ExitCode.USAGE


def test_from_a_folder_below_paths_are_relative_to_it(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("below/a")
    repository.write("a")
    assert Repository(repository.top / "below").revfs("add", "a") == ExitCode.DONE
    assert b"below/a" in repository.staged()
    assert b"a" not in repository.staged()


def test_two_adds_at_once_are_one_and_a_clear_refusal(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("a")
    assert repository.revfs("add", "a") == ExitCode.DONE
    with (repository.top / ".git/revfs/add.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        assert repository.revfs("add", "a") == ExitCode.FAILED
        assert "another revfs add is at work" in capsys.readouterr().err
    assert repository.revfs("add", "a") == ExitCode.DONE


def test_a_dry_run_says_it_all_and_changes_nothing(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write(".gitignore", b"*.tmp\n/cache\n")
    for name in ("a/one", "a/two", "a/gone"):
        repository.write(name, name.encode())
    assert repository.revfs("-q", "add", "a") == ExitCode.DONE
    pointer = repository.git("cat-file", "blob", ":a/one")
    (repository.top / "a/gone").unlink()
    repository.write("a/new", b"new")
    repository.write("a/pointer", pointer)
    repository.write("a/x.tmp")
    repository.write("cache/x")
    os.mkfifo(repository.top / "a/pipe")
    attributes = (repository.top / ".gitattributes").read_bytes()
    before = repository.staged()
    assert repository.revfs("add", "--dry-run", "a", "cache", "none") == ExitCode.FAILED
    out = capsys.readouterr().out.splitlines()
    assert out[:4] == [
        "would add a/new",
        "would add a/pointer",
        "would remove a/gone",
        "would pass over a/x.tmp",
    ]
    refused = sorted(line.removeprefix("would refuse: ") for line in out if "refuse" in line)
    assert [words.split(" ")[0] for words in refused] == ["a/pipe", "a/pointer", "cache", "none"]
    assert out[-1].startswith("would add 2 files (")
    assert out[-1].endswith("to read), 2 unchanged, 1 removed")
    facts = {"add": ["a/new"], "refused": ["b\\xff is not there"], "bytes_to_read": 3}
    assert repository.revfs("add", "-n", "--json", "a/new", "b\udcff") == ExitCode.FAILED
    found = json.loads(capsys.readouterr().out)
    assert {name: value for name, value in found.items() if value} == {"dry_run": True, **facts}
    assert repository.revfs("add", "-n", "a/new") == ExitCode.DONE
    assert repository.staged() == before
    assert (repository.top / ".gitattributes").read_bytes() == attributes


def test_who_comes_from_dvc_hears_of_the_rule_that_dvc_wrote(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write(".gitignore", b"/data\n")
    repository.write("data/one", b"x")
    assert repository.revfs("add", "data") == ExitCode.FAILED
    assert capsys.readouterr().err == (
        "revfs: data is ignored by the rule /data in .gitignore, line 1: take that rule away "
        "(dvc add wrote one for each of its paths), or add it all the same with --force\n"
    )
    assert repository.revfs("add", "data", "--force", "--json") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["added"] == 1
    assert b"data/one" in repository.staged()


def test_as_many_threads_read_as_are_asked_for(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    pool = read_files_module.ThreadPoolExecutor
    monkeypatch.setattr(
        read_files_module,
        "ThreadPoolExecutor",
        lambda jobs, **words: (seen.append(jobs), pool(jobs, **words))[1],
    )
    repository.write("a")
    assert repository.revfs("add", "a", "--jobs", "3") == ExitCode.DONE
    repository.write("b")
    assert repository.revfs("add", "b") == ExitCode.DONE
    assert seen == [3, len(os.sched_getaffinity(0))]


def test_an_add_that_is_killed_anywhere_leaves_nothing_that_the_next_one_minds(
    repository: Repository,
) -> None:
    chance = random.Random(7)
    for number in range(150):
        repository.write(f"small/{number}", b"%d" % number)
    repository.write("large", random_bytes(20 << 20))
    environment = environment_with()
    command = revfs_command("add", ".")
    killed = 0
    for _ in range(5):
        process = subprocess.Popen(
            command, cwd=repository.top, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            # Less than an add of this takes, which has to import it all and then read it.
            time.sleep(chance.uniform(0.05, 0.4))
        finally:
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        repository.git("fsck", "--strict", "--no-dangling")
    assert killed
    done = subprocess.run(command, cwd=repository.top, env=environment, capture_output=True)
    assert done.stderr == b""
    assert done.returncode == ExitCode.DONE
    assert len(repository.staged()) == 150 + 3
    repository.git("fsck", "--strict", "--no-dangling")
    names = sorted(path.name for path in (repository.top / ".git/revfs/staged").iterdir())
    assert not [name for name in names if name.endswith(".part")]
    assert not list((repository.top / ".git").glob("index.*"))
    assert {path.name for path in repository.top.iterdir()} == {
        ".git",
        ".gitattributes",
        ".revfsconfig",
        "large",
        "small",
    }


def test_an_add_of_all_leaves_to_git_what_git_keeps_and_nobody_named(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("code.py", b"print()")
    repository.write("metrics.json", b"{}")
    repository.git("add", "code.py", "metrics.json")
    repository.write("data/one", b"one")
    assert repository.revfs("add", ".") == ExitCode.DONE
    said = capsys.readouterr().out
    assert said.startswith("added 1 file ")
    assert "passed over 2 files that git keeps itself: name them to track them" in said
    repository.git("mv", "data", "moved")
    assert repository.revfs("add", ".", "metrics.json") == ExitCode.DONE
    assert "passed over 1 file " in capsys.readouterr().out
    kept = {path: repository.git("show", f":{path}") for path in ("code.py", "metrics.json")}
    assert kept["code.py"] == b"print()"
    assert kept["metrics.json"].startswith(b"revfs 1")
    assert b"/moved/**" in (repository.top / ".gitattributes").read_bytes()
    assert repository.revfs("-q", "add", "--force", ".") == ExitCode.DONE
    assert repository.git("show", ":code.py").startswith(b"revfs 1")


def test_a_pointer_that_was_edited_is_not_taken_for_data(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("log.csv", b"revfs 1\nblake3 " + b"ab" * 32 + b"\nsize 12\nrow,1\n")
    assert repository.revfs("add", "log.csv") == ExitCode.FAILED
    assert "log.csv begins like a pointer but is none" in capsys.readouterr().err
