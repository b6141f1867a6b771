"""Running git: the one place that starts it, and what it says of where a repository lies.

Here belong the subprocess call, its errors, and the folders of a repository. What is read through
libgit2 is in `store.git`.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.errors import GitError

_ERROR_PREFIXES = ("fatal: ", "error: ")
_REV_PARSE = ("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir")


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
        if not cwd.is_dir():
            raise GitError(f"{cwd} is not a folder") from error
        if isinstance(error, FileNotFoundError):
            raise GitError("git is not installed, or not on the PATH; install git first") from error
        raise GitError(f"git cannot be run in {cwd}: {error.strerror}") from error


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
