"""Going to the background: the parent learns how the start went, and nobody else gets its word."""

import os
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from tests.fakes.processes import environment_with, python_command
from vfs.mount_records import process_start

START = """
import os, signal, sys, time
from pathlib import Path
from store.errors import StoreError
from vfs.daemon import run_in_background

folder = Path(sys.argv[1])

def work(ready):
    (folder / "pid").write_text(str(os.getpid()))
    {work}

try:
    run_in_background(work, folder / "log")
except StoreError as error:
    print("refused:", error)
else:
    print("ready")
"""


def start(folder: Path, work: str) -> str:
    """What the parent says of a daemon that does this."""
    code = START.format(work=textwrap.dedent(work).strip().replace("\n", "\n    "))
    completed = subprocess.run(
        python_command(code, folder),
        env=environment_with(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    return completed.stdout.strip()


def wait_for_end(folder: Path) -> None:
    pid = int((folder / "pid").read_text())
    deadline = time.monotonic() + 10
    while process_start(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_parent_goes_on_when_the_work_is_ready_and_the_work_goes_on_too(tmp_path: Path) -> None:
    said = start(tmp_path, "ready()\nsignal.pause()")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert said == "ready"
        assert process_start(pid) is not None
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        targets = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
        assert targets == [os.devnull, str(tmp_path / "log"), str(tmp_path / "log")]
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_for_end(tmp_path)


@pytest.mark.parametrize(
    "work",
    [
        'raise StoreError("no such commit")',
        'raise ExceptionGroup("from trio", [StoreError("no such commit")])',
        'raise ExceptionGroup("a", [ExceptionGroup("b", [StoreError("no such commit")])])',
    ],
)
def test_a_store_error_before_the_work_is_ready_reaches_the_parent_in_its_words(
    tmp_path: Path, work: str
) -> None:
    assert start(tmp_path, work) == "refused: no such commit"
    log = (tmp_path / "log").read_text()
    assert log == "revfs: no such commit\n"


@pytest.mark.parametrize("work", ['raise RuntimeError("a bug")', "sys.exit(3)", "1 / 0"])
def test_any_other_error_reaches_the_parent_too_and_the_log_has_the_traceback(
    tmp_path: Path, work: str
) -> None:
    said = start(tmp_path, work)
    assert said.startswith("refused: the mount failed: ")
    assert str(tmp_path / "log") in said
    assert "Traceback" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("work", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_work_that_ends_without_a_word_is_a_failure(tmp_path: Path, work: str) -> None:
    assert "ended before it was ready" in start(tmp_path, work)


def test_an_error_after_the_work_was_ready_is_logged_and_written_to_no_other_file(
    tmp_path: Path,
) -> None:
    # All descriptors that are free are taken, the one of the pipe to the parent among them.
    said = start(
        tmp_path,
        """
        ready()
        files = [open(folder / f"file-{number}", "wb", buffering=0) for number in range(20)]
        raise StoreError("too late")
        """,
    )
    assert said == "ready"
    wait_for_end(tmp_path)
    files = list(tmp_path.glob("file-*"))
    assert len(files) == 20
    assert [file for file in files if file.stat().st_size] == []
    assert (tmp_path / "log").read_text() == "revfs: too late\n"


def test_being_ready_twice_is_being_ready(tmp_path: Path) -> None:
    assert start(tmp_path, "ready()\nready()") == "ready"
    wait_for_end(tmp_path)
    assert (tmp_path / "log").read_text() == ""


def test_what_the_work_prints_goes_to_a_log_that_is_the_user_s_alone(tmp_path: Path) -> None:
    assert start(tmp_path, 'print("hello", flush=True)\nready()') == "ready"
    wait_for_end(tmp_path)
    assert (tmp_path / "log").read_text() == "hello\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
