"""What `revfs status` shows a person, and a script in JSON; colours, which only terminals get."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.processes import environment_with, revfs_command
from tests.fakes.repositories import Repository

HOSTILE = b"data/\x1b[31mred\n"
no_hurry = pytest.mark.usefixtures("in_no_hurry_for_git")
GREEN, RED, YELLOW, END = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@pytest.fixture
def repository(repository: Repository) -> Repository:
    """A tracked file changed, one deleted, and some new ones staged, one with a hostile name."""
    for name in ("changed", "deleted", "kept"):
        repository.write(f"data/{name}", name.encode())
    assert repository.revfs("-q", "add", "data") == 0
    repository.commit()
    repository.write("data/new", b"12345")
    repository.write(HOSTILE, b"123")
    assert repository.revfs("-q", "add", "data") == 0
    repository.write("data/changed", b"changed again")
    (repository.top / "data/deleted").unlink()
    return repository


def test_status_has_a_section_for_each_kind_of_change(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("status") == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[:9] == [
        f"On branch main at {repository.head()[:12]}",
        "",
        "Staged for the next commit:",
        "  added     data/\\x1b[31mred\\n  3 B",
        "  added     data/new            5 B",
        "",
        "Modified in the work tree:",
        "  modified  data/changed  7 B -> 13 B",
        "  deleted   data/deleted  7 B",
    ]


@no_hurry
def test_a_long_section_is_cut_and_the_json_is_not(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        repository.write(f"data/many/{number:02d}", b"%d" % number)
    assert repository.revfs("-q", "add", "data/many") == 0
    assert repository.revfs("status") == ExitCode.DONE
    shown = capsys.readouterr().out.splitlines()
    assert "  and 12 more (--json has all)" in shown
    assert sum(line.startswith("  added") for line in shown) == 20
    assert repository.revfs("status", "--json") == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert len(found["staged"]) == 32
    assert found["staged"][-1] == {
        "status": "added",
        "path": "data/new",
        "old_path": None,
        "size": 5,
        "old_size": None,
    }
    assert HOSTILE in [os.fsencode(change["path"]) for change in found["staged"]]


@no_hurry
def test_pointer_texts_of_a_clone_are_counted(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = repository.clone(tmp_path / "clone")
    assert clone.revfs("status") == ExitCode.DONE
    assert "Not checked out: 3 files, 18 B" in capsys.readouterr().out
    assert clone.revfs("status", "--json") == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["unwritten"] == {"items": 3, "size_bytes": 18}
    assert found["here_files"] == {"items": 0, "size_bytes": 0}


def on_terminal(repository: Repository, *arguments: str, **variables: str) -> str:
    """What revfs prints where both its outputs are a terminal."""
    reading, terminal = pty.openpty()
    environment = environment_with(**{"TERM": "xterm", "NO_COLOR": "", **variables})
    with os.fdopen(reading, "rb", buffering=0) as output:
        process = subprocess.Popen(
            revfs_command(*arguments),
            cwd=repository.top,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        parts = []
        try:
            while part := output.read(1 << 16):
                parts.append(part)
        except OSError:
            # How Linux says that nobody has the terminal open any more.
            pass
        process.wait()
    return b"".join(parts).decode().replace("\r\n", "\n")


@no_hurry
def test_a_terminal_gets_colours_and_names_get_none_of_their_own(repository: Repository) -> None:
    shown = on_terminal(repository, "status").splitlines()
    assert f"{GREEN}  added     data/\\x1b[31mred\\n  3 B{END}" in shown
    assert any(line.startswith(f"{YELLOW}  modified  data/changed ") for line in shown)
    assert any(line.startswith(f"{RED}  deleted   data/deleted ") for line in shown)
    repository.commit()
    assert f"{GREEN}added    data/new" in on_terminal(repository, "diff", "HEAD~1", "HEAD")
    assert f"{RED}removed  data/new" in on_terminal(repository, "diff", "HEAD", "HEAD~1")
    assert on_terminal(repository, "ls", "none").startswith(f"{RED}revfs:{END} no commit goes by")


@no_hurry
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_whoever_wants_no_colours_gets_none(
    repository: Repository, variables: dict[str, str]
) -> None:
    assert "\x1b" not in on_terminal(repository, "status", **variables)


@no_hurry
def test_no_colour_reaches_a_pipe(repository: Repository) -> None:
    for arguments in (("status",), ("ls", "none")):
        finished = subprocess.run(
            revfs_command(*arguments),
            cwd=repository.top,
            env=environment_with(TERM="xterm", CLICOLOR_FORCE="1"),
            capture_output=True,
        )
        assert b"\x1b" not in finished.stdout + finished.stderr
