"""The three standard streams of a real process: readers that go away, streams that are closed."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.processes import ROOT, environment_with, python_command, revfs_command
from tests.fakes.repositories import Repository, random_bytes

PIPE_BYTES = 1 << 20
BUFFERED, UNBUFFERED = {"PYTHONUNBUFFERED": ""}, {"PYTHONUNBUFFERED": "1"}

WRITING_VERB = """
import os, sys, types, click
from cli.main import VERBS, Verb, main
@click.command()
def command():
    {body}
sys.modules["written"] = types.SimpleNamespace(command=command)
VERBS["write"] = Verb("written:command", "")
main()
"""


@pytest.mark.parametrize(
    "body",
    [
        "click.echo('by click, which flushes')",
        "print('left in the buffer')",
        "print('in a nursery'); raise ExceptionGroup('nursery', [BrokenPipeError()])",
    ],
)
def test_a_reader_that_goes_away_is_no_fuss(body: str) -> None:
    command = python_command(WRITING_VERB.format(body=body), "write")
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        completed = subprocess.run(
            command, cwd=ROOT, env=buffered, stdout=stdout, stderr=subprocess.PIPE
        )
    assert completed.stderr == b""
    assert completed.returncode == ExitCode.FAILED


@pytest.fixture
def wide(repository: Repository) -> Repository:
    """A revision with a folder and a file that are too much for any pipe, shown or listed."""
    repository.write("file", random_bytes(2 * PIPE_BYTES))
    repository.git("add", "file")
    blob = repository.git("rev-parse", ":file").decode().strip()
    names = [b"%05d" % number + b"n" * 245 for number in range(PIPE_BYTES // 200)]
    folder = repository.write_tree([("100644", name, blob) for name in names])
    repository.commit_tree(
        repository.write_tree([("100644", b"file", blob), ("40000", b"wide", folder)]), "wide"
    )
    return repository


@pytest.mark.parametrize("variables", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "wide", "wide"),
        ("ls", "-l", "wide", "wide"),
        ("ls", "--json", "wide", "wide"),
        ("cat", "wide:file"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_reader_that_takes_only_the_beginning_ends_it_without_a_word(
    wide: Repository, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    process = subprocess.Popen(
        revfs_command(*arguments),
        cwd=wide.top,
        env=environment_with(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            assert process.stdout.read(1) != b""
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=30) == ExitCode.FAILED
        finally:
            process.kill()
            process.wait()


def redirected(command: list[str], redirection: str, cwd: Path) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a command that a shell started with some streams closed."""
    finished = subprocess.run(
        ["sh", "-c", f"exec {shlex.join(command)} {redirection}"],
        cwd=cwd,
        env=environment_with(),
        capture_output=True,
    )
    return finished.returncode, finished.stdout, finished.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_verb_does_its_work_with_streams_closed(repository: Repository, redirection: str) -> None:
    repository.write("file", b"content")
    commands = (["add", "file"], ["status"], ["cat", "HEAD:.revfsconfig"], ["--help"])
    for arguments in commands:
        code, out, err = redirected(revfs_command(*arguments), redirection, repository.top)
        assert (code, err) == (ExitCode.DONE, b""), arguments
        assert (out == b"") == (" >&-" in f" {redirection}"), arguments
    assert b"file" in repository.staged()


def test_a_verb_that_fails_says_so_by_its_code_where_stderr_is_closed(
    repository: Repository,
) -> None:
    command = revfs_command("ls", "none")
    assert redirected(command, "2>&-", repository.top) == (ExitCode.FAILED, b"", b"")
    assert redirected(command, ">&- 2>&-", repository.top) == (ExitCode.FAILED, b"", b"")
    code, _, err = redirected(command, ">&-", repository.top)
    assert code == ExitCode.FAILED
    assert err.startswith(b"revfs: no commit goes by the name 'none'")


def test_no_file_is_opened_in_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    body = "assert os.open('/dev/null', os.O_RDONLY) > 2"
    command = python_command(WRITING_VERB.format(body=body), "write")
    assert redirected(command, "<&- >&- 2>&-", tmp_path) == (ExitCode.DONE, b"", b"")
