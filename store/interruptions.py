"""Interruptions: Ctrl-C, SIGTERM and SIGHUP while work is under way that has to be undone, or while
another program is the one to hear of them. For the main thread."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from store.errors import StoreError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_exceptions() -> Iterator[None]:
    """Have each of the signals raise, so that what is open is closed: KeyboardInterrupt for Ctrl-C,
    SystemExit with the code that a shell expects for the others."""
    with _handled(_interrupt):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """Have a signal wait until the context ends; it then raises as in `ended_by_exceptions`."""
    received: list[int] = []
    with _handled(received.append):
        yield
    if received:
        _interrupt(received[0])


def run_command(words: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> int:
    """Run a program with our own standard streams and wait for its end; its exit code, or 128 and
    the number of the signal that ended it, as a shell has it.

    A signal to us is for the program: it is passed on, and once the program has ended raises as in
    `ended_by_exceptions`. Raises StoreError for a program that cannot be started.
    """
    received: list[int] = []
    with _handled(received.append):
        child = _start(words, cwd, environment)
        with _handled(lambda number: _pass_on(child, number, received)):
            for number in received[:]:
                _pass_on(child, number, [])
            code = child.wait()
    if received:
        _interrupt(received[0])
    return 128 - code if code < 0 else code


def _start(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(words, cwd=cwd, env=dict(environment))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(f"the command {words[0]} cannot be run: {reason}") from error


def _pass_on(child: "subprocess.Popen[bytes]", number: int, received: list[int]) -> None:
    received.append(number)
    # A terminal has told the program already; a second Ctrl-C would stop it from cleaning up.
    if number != signal.SIGINT or not _is_in_foreground():
        child.send_signal(number)


def _is_in_foreground() -> bool:
    """Whether our process group is the one that a terminal sends its Ctrl-C to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _interrupt(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextmanager
def _handled(handler: Callable[[int], object]) -> Iterator[None]:
    """Call `handler` with the number of each signal, but for those that whoever started us wanted
    to be ignored (nohup, a shell's background job)."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number in _SIGNALS if before[number] != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, lambda number, frame: handler(number))
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
