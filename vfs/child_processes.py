"""Child processes of a mount: forked from one that has no threads and no open libraries, heard
through a line of their own, and ended with their parent.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What tells a mount to end."""
TOLD_TO_END = 3
"""The exit code of a child that ended because it was told to."""
_PR_SET_PDEATHSIG = 1
# Where memory is short the kernel ends a child, which is replaced, before its parent.
_MORE_LIKELY_KILLED = 30
_LINE_BYTES = 1 << 20

Words = dict[str, Any]


class Line:
    """One end of the line between a child and its parent: small facts, one JSON object each."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._received = b""

    def fileno(self) -> int:
        """The descriptor, to wait on."""
        return self._end.fileno()

    def tell(self, words: Words) -> None:
        """Say something; nobody may listen any more."""
        with suppress(OSError):
            self._end.sendall(json.dumps(words).encode() + b"\n")

    def hear(self) -> list[Words]:
        """What has been said since, at once where it is the parent's end. Empty when the other end
        is gone."""
        try:
            received = self._end.recv(_LINE_BYTES)
        except OSError:
            # Nothing is there now, or the other end was killed before it had heard all.
            return []
        *lines, self._received = (self._received + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def wait(self) -> Words:
        """The next thing that is said. Raises EOFError when the other end is gone."""
        while True:
            for words in self.hear():
                return words
            raise EOFError("the other end of the line is gone")

    def close(self) -> None:
        """Hang up."""
        self._end.close()


@dataclass(slots=True, eq=False)
class Child:
    """A running child. `line` is the parent's end."""

    name: str
    pid: int
    line: Line
    started: float = field(default_factory=time.monotonic)
    _code: int | None = None

    def tell_to_end(self) -> None:
        """Ask it to finish what it does and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def reap(self) -> int | None:
        """Its exit code if it has ended (minus the number of a signal), else None."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait_until_ended(self, deadline: float) -> bool:
        """Wait for its end, until that time of the steady clock; whether it has ended."""
        while self.reap() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def start_child(name: str, work: Callable[[Line], int]) -> Child:
    """Fork a child that does `work`, whose result is its exit code. It is killed when this process
    ends, and hears of no signal but SIGTERM."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _run_child(name, work, Line(theirs), parent)
    theirs.close()
    ours.setblocking(False)
    return Child(name, pid, Line(ours))


def _run_child(name: str, work: Callable[[Line], int], line: Line, parent: int) -> None:
    """The child's half: never returns."""
    code = 1
    try:
        _end_with(parent)
        _be_killed_first()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGHUP):
            # From a terminal they come to all processes of a mount; the parent decides.
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = work(line)
    except BaseException:
        log.exception("the %s process of the mount ends as it should not", name)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with(parent: int) -> None:
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _be_killed_first() -> None:
    # By as much as the parent is; nobody may be made less likely.
    knob = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):
        knob.write_text(str(min(1000, int(knob.read_text()) + _MORE_LIKELY_KILLED)))


@contextmanager
def awaited_signals() -> Iterator[tuple[int, list[int]]]:
    """A descriptor that can be read whenever a signal to end or one of a child's end has come, and
    the list that then has the numbers of the former."""
    told: list[int] = []
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    previous = {
        number: signal.signal(number, lambda n, _: told.append(n)) for number in END_SIGNALS
    }
    previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader, told
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
