"""Processes of the benchmark: running a command to its end, starting one that serves, ending it by
its id, and the processor seconds that each has used."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_GRACE_SECONDS = 10.0


class NotMeasured(Exception):
    """A figure could not be had; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended well; `processor_seconds` counts its children too."""

    seconds: float
    processor_seconds: float
    output: str


def run(
    command: Sequence[object],
    *,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    timeout_seconds: float = 600.0,
) -> Finished:
    """Run a command to its end. Raises NotMeasured if it fails or takes longer."""
    words = [str(word) for word in command]
    before = os.times()
    started = time.perf_counter()
    # In a session of its own, so that what it started can be ended with it.
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, complaint = process.communicate(timeout=timeout_seconds)
    except BaseException as error:
        _kill_session(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise NotMeasured(f"{_short(words)} took over {timeout_seconds:.0f} s") from error
        raise
    seconds = time.perf_counter() - started
    after = os.times()
    if process.returncode:
        lines = complaint.strip().splitlines() or [f"exit code {process.returncode}"]
        raise NotMeasured(f"{_short(words)}: {lines[-1][:200]}")
    used = after.children_user + after.children_system
    return Finished(seconds, used - before.children_user - before.children_system, output)


def _short(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:2]])


def _kill_session(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextlib.contextmanager
def serving(
    command: Sequence[object], *, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves meanwhile; what it says goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and see that it does."""
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_gone(pid: int, timeout_seconds: float = _GRACE_SECONDS) -> None:
    """Wait until a process that is not a child of this one has ended; kill it after the time."""
    deadline = time.monotonic() + timeout_seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def get_family(pid: int) -> list[int]:
    """The process and its living descendants."""
    family = [pid]
    for member in family:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                family += [int(child) for child in (task / "children").read_text().split()]
    return family


def get_processor_seconds(pid: int) -> float:
    """What the process, its living descendants and the dead ones that were waited for have used."""
    ticks = 0
    for member in get_family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def get_memory_bytes(pid: int) -> int:
    """The memory of the process and its descendants, shared pages counted once (PSS)."""
    total = 0
    for member in get_family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def get_machine_seconds() -> float:
    """Processor seconds that the whole machine has used, with whatever else runs on it."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS
