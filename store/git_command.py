"""Running git: the one place that starts it, and what it says of where a repository lies.

Here belong the subprocess call, its errors, and the folders of a repository. What is read through
libgit2 is in `store.git`.
"""

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from store.errors import GitError

_ERROR_PREFIXES = ("fatal: ", "error: ", "warning: ")
_REV_PARSE = ("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir")
# What git rev-parse --local-env-vars names, but for settings that were given with git -c.
_REPOSITORY_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
_BLOCK_BYTES = 64 << 10
_END_SECONDS = 2.0
_CHECK_SECONDS = 0.2

CheckWanted = Callable[[], None]
"""Raises where nobody waits any more for what is being done."""


@dataclass(frozen=True, slots=True)
class RepositoryPaths:
    """Where a repository lies; every path is absolute.

    `git_dir` belongs to one worktree, `common_dir` to all of them; they are the same where there is
    only one. `work_tree` is None in a bare repository and inside a git directory.
    """

    git_dir: Path
    common_dir: Path
    work_tree: Path | None

    @property
    def state_dir(self) -> Path:
        """Where revfs keeps what belongs to this repository; it may not exist yet."""
        return self.common_dir / "revfs"

    @property
    def top(self) -> Path:
        """The folder that git commands run in: the work tree, or the git directory without one."""
        return self.work_tree or self.git_dir


def run_git(
    arguments: Sequence[str | bytes],
    *,
    cwd: Path,
    stdin: bytes | None = None,
    stdout: int | None = None,
    ok_codes: Sequence[int] = (0,),
) -> bytes:
    """What git prints when it is run with `arguments` in `cwd`, without a shell; nothing where
    `stdout` is a descriptor for it to print to.

    Raises GitError with git's own words when it ends with a code that is not in `ok_codes`, and
    when git or the folder is not there.
    """
    completed = _run(arguments, cwd, stdin, stdout)
    if completed.returncode not in ok_codes:
        raise GitError(_complaint(completed))
    return completed.stdout or b""


def stream_git(
    arguments: Sequence[str | bytes],
    *,
    cwd: Path,
    stdin: bytes = b"",
    environment: Mapping[str, str | None] | None = None,
) -> Iterator[bytes]:
    """What git prints, some at a time. `environment` is what it sees besides ours; None stands for
    a variable that it is not to see. When it is listened to no more, it is ended.

    Raises GitError as `run_git` does, and, behind the last bytes, where git complained of anything.
    """
    wanted = {**os.environ, "LC_ALL": "C", **(environment or {})}
    seen = {name: value for name, value in wanted.items() if value is not None}
    # In files: git reads and writes as it likes, and none of us waits for the other.
    with TemporaryFile() as source, TemporaryFile() as complaint:
        source.write(stdin)
        source.seek(0)
        command = ["git", *arguments]
        try:
            process = subprocess.Popen(
                command, cwd=cwd, env=seen, stdin=source, stdout=subprocess.PIPE, stderr=complaint
            )
        except OSError as error:
            raise _cannot_run(error, cwd) from error
        with process:
            assert process.stdout is not None
            try:
                while block := process.stdout.read(_BLOCK_BYTES):
                    yield block
            except BaseException:
                process.kill()
                raise
        complaint.seek(0)
        words = complaint.read()
    if process.returncode or words:
        raise GitError(
            _complaint(subprocess.CompletedProcess(command, process.returncode, b"", words))
        )


def run_network_git(
    arguments: Sequence[str | bytes],
    *,
    cwd: Path,
    timeout_seconds: float = math.inf,
    check_wanted: CheckWanted | None = None,
) -> bytes:
    """What git prints that talks to another repository, maybe on another machine, with the user's
    own credential helpers and ssh. It asks a person only where this process has a terminal, and
    never with `check_wanted`, which is called while git works and raises to end it.

    Raises GitError as `run_git` does, and where git is not done in time: it is ended then, with
    all that it started.
    """
    alone = check_wanted is not None or not _has_terminal()
    process = _start_network_git(arguments, cwd, alone=alone)
    with process:
        try:
            printed, complaint = _wait(process, timeout_seconds, check_wanted)
        except BaseException as error:
            _end(process, whole_session=alone)
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitError(f"git: no answer within {timeout_seconds:g} s") from error
            raise
    if process.returncode:
        completed = subprocess.CompletedProcess(process.args, process.returncode, b"", complaint)
        raise GitError(_complaint(completed))
    return printed


def _start_network_git(
    arguments: Sequence[str | bytes], cwd: Path, *, alone: bool
) -> "subprocess.Popen[bytes]":
    """Start git; `alone` in a session of its own, where it can ask nobody."""
    environment = {**os.environ, "LC_ALL": "C"}
    if alone:
        environment.setdefault("GIT_TERMINAL_PROMPT", "0")
    try:
        return subprocess.Popen(
            ["git", *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A session of its own can be ended whole; but it could not ask at our terminal.
            start_new_session=alone,
        )
    except OSError as error:
        raise _cannot_run(error, cwd) from error


def _wait(
    process: "subprocess.Popen[bytes]", timeout_seconds: float, check_wanted: CheckWanted | None
) -> tuple[bytes, bytes]:
    """What a process printed on its two streams until it ended. Raises TimeoutExpired, and what
    `check_wanted` raises."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        seconds = deadline - time.monotonic()
        if check_wanted is not None:
            check_wanted()
            seconds = min(seconds, _CHECK_SECONDS)
        try:
            return process.communicate(timeout=None if math.isinf(seconds) else max(seconds, 0))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise


def forget_surrounding_repository() -> None:
    """Drop from the environment of this process what a hook or a script says there of its own
    repository: git would take it for the one that is meant."""
    for name in _REPOSITORY_VARIABLES:
        os.environ.pop(name, None)


def find_repository(start: Path) -> RepositoryPaths:
    """The repository around `start`, as git itself finds it: worktrees, bare ones and GIT_DIR.

    Raises GitError outside of any repository, and where git refuses the one it found.
    """
    # --show-toplevel comes last: it fails without a work tree, after the rest has been printed.
    completed = _run([*_REV_PARSE, "--show-toplevel"], start, None)
    lines = completed.stdout.split(b"\n")[:-1]
    if len(lines) not in (2, 3):
        raise GitError(_why_no_repository(completed, start))
    git_dir, common_dir, *work_tree = (Path(os.fsdecode(line)) for line in lines)
    return RepositoryPaths(git_dir, common_dir, work_tree[0] if work_tree else None)


def _run(
    arguments: Sequence[str | bytes], cwd: Path, stdin: bytes | None, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The finished process, whatever its exit code; git's messages are in English."""
    command = ["git", *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    # Always an input of its own: git must not eat, or wait for, that of the person.
    source = stdin or b""
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            input=source,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise _cannot_run(error, cwd) from error


def _cannot_run(error: OSError, cwd: Path) -> GitError:
    if not cwd.is_dir():
        return GitError(f"{cwd} is not a folder")
    if isinstance(error, FileNotFoundError):
        return GitError("git is not installed, or not on the PATH; install git first")
    return GitError(f"git cannot be run in {cwd}: {error.strerror}")


def _has_terminal() -> bool:
    """Whether this process has one that git could ask at, whatever its streams are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]", *, whole_session: bool) -> None:
    """End a git that is not waited for any more; gently first, so that it takes its locks away."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            if whole_session:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            if not whole_session:
                return


def _complaint(completed: subprocess.CompletedProcess[bytes]) -> str:
    """What git wrote to stderr, as one sentence."""
    lines = os.fsdecode(completed.stderr).splitlines()
    for prefix in _ERROR_PREFIXES:
        lines = [line.removeprefix(prefix) for line in lines]
    sentence = " ".join(" ".join(lines).split())
    return f"git: {sentence}" if sentence else f"git ended with code {completed.returncode}"


def _why_no_repository(completed: subprocess.CompletedProcess[bytes], start: Path) -> str:
    if completed.returncode == 0:
        return f"{start} lies in a repository whose path holds a line break, which is not supported"
    if b"not a git repository" in completed.stderr and "GIT_DIR" not in os.environ:
        return (
            f"{start} is not inside a git repository; go into one, name it with -C, or run git init"
        )
    return _complaint(completed)
