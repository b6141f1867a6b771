"""Signals, in processes of their own: who hears of them, and what is undone before the end."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.errors import StoreError
from store.interruptions import run_command
from tests.fakes.processes import environment_with, python_command

# A command that says that it runs, and counts the signals that it hears of for a moment.
COUNTING = """
import signal, sys, time
heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: heard.append(number))
print("running", flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.3)
print("heard", *map(int, heard), flush=True)
"""
RUNNING_IT = """
import os, sys
from pathlib import Path
from store.interruptions import ended_by_exceptions, run_command
with ended_by_exceptions():
    try:
        run_command([sys.executable, "-c", sys.argv[1]], cwd=Path.cwd(), environment=os.environ)
    finally:
        print("undone", flush=True)
"""
HOLDING = """
import time
from store.interruptions import ended_by_exceptions, held_back
with ended_by_exceptions():
    try:
        with held_back():
            print("running", flush=True)
            time.sleep(0.5)
            print("whole", flush=True)
        print("never", flush=True)
    finally:
        print("undone", flush=True)
"""


@contextmanager
def started(code: str, *arguments: str, **options: object) -> Iterator["subprocess.Popen[str]"]:
    """The process, once it says that it runs."""
    with subprocess.Popen(
        python_command(code, *arguments),
        env=environment_with(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_command_and_then_ends_us(number: signal.Signals) -> None:
    with started(RUNNING_IT, COUNTING, start_new_session=True) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert out == f"heard {int(number)}\nundone\n"
    if number == signal.SIGINT:
        assert err.endswith("KeyboardInterrupt\n")
    else:
        assert (process.returncode, err) == (128 + number, "")


def test_a_ctrl_c_of_the_terminal_is_not_passed_on_a_second_time() -> None:
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    options = {"stdin": theirs, "start_new_session": True, "preexec_fn": take_terminal}
    with started(RUNNING_IT, COUNTING, **options) as process:
        os.write(ours, b"\x03")
        out, err = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)
    assert out == f"heard {int(signal.SIGINT)}\nundone\n"
    assert err.endswith("KeyboardInterrupt\n")


def test_a_signal_waits_for_what_must_not_be_half() -> None:
    with started(HOLDING) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (out, err) == ("whole\nundone\n", "")
    assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_that_was_to_be_ignored_still_is() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(HOLDING, preexec_fn=ignore) as process:
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=20)
    assert out == "whole\nnever\nundone\n"
    assert process.returncode == 0


def code_of(program: str) -> int:
    command = [sys.executable, "-c", program]
    return run_command(command, cwd=Path("/"), environment=os.environ)


def test_the_code_is_that_of_the_command_as_a_shell_has_it() -> None:
    assert code_of("") == 0
    assert code_of("raise SystemExit(7)") == 7
    assert code_of("import os; os.kill(os.getpid(), 9)") == 137
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert handlers == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no-such-tool cannot be run: No such file"):
        run_command(["no-such-tool"], cwd=tmp_path, environment=os.environ)
    with pytest.raises(StoreError, match="cannot be run"):
        run_command(["echo", "a\0b"], cwd=tmp_path, environment=os.environ)
