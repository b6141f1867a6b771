"""What makes git's own verbs work on tracked files: the filter in the repository's configuration,
and the pre-push hook.

Both name the command `revfs` as it is run here. Hooks that are there already are the user's: they
are changed only when asked, and only where that is safe.
"""

import os
import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from store.errors import GitError
from store.git_command import RepositoryPaths, run_git

FILTER_PROCESS_KEY = "filter.revfs.process"
FILTER_REQUIRED_KEY = "filter.revfs.required"
HOOK_NAME = "pre-push"
_HOOK_WORDS = "hook pre-push"
# A line that calls us by whatever words; one that only tells of it is a comment.
_OUR_CALL = re.compile(rb"^(?!\s*#).*(?:revfs|cli\.main).*\bhook pre-push\b", re.MULTILINE)
_SHELLS = ("sh", "bash", "dash", "ksh", "zsh")


class HookState(Enum):
    """How the pre-push hook stands."""

    OURS = "ours"
    """It sends data before refs."""
    MISSING = "missing"
    """There is none."""
    FOREIGN = "foreign"
    """There is one, a shell script, that does not call us; a line can be put into it."""
    UNKNOWN_LANGUAGE = "unknown language"
    """There is one that is no shell script."""


@dataclass(frozen=True, slots=True)
class Hook:
    """The place of the pre-push hook and its state; `shared` where core.hooksPath points to a
    folder that is not this repository's own."""

    path: Path
    state: HookState
    shared: bool


def command_line(words: Sequence[str], verb: str) -> str:
    """A shell's line that runs a verb of revfs, itself started by `words`."""
    return f"{shlex.join(words)} {verb}"


def filter_is_set_up(paths: RepositoryPaths) -> bool:
    """Whether git's configuration, at whatever level, says which filter tracked files have here;
    an empty word says that they are to have none."""
    return bool(run_git(["config", "--get", FILTER_PROCESS_KEY], cwd=paths.top, ok_codes=(0, 1)))


def set_filter_up(paths: RepositoryPaths, words: Sequence[str]) -> bool:
    """Write the filter to the repository's own configuration, for all its worktrees. False where
    it stands there already, word for word. Raises GitError."""
    wanted = {
        FILTER_PROCESS_KEY: command_line(words, "filter-process"),
        FILTER_REQUIRED_KEY: "true",
    }
    changed = False
    for key, value in wanted.items():
        get = ["config", "--local", "--get", key]
        # Code 1: not set; 2: there several times, which --replace-all mends.
        found = run_git(get, cwd=paths.top, ok_codes=(0, 1, 2))
        if os.fsdecode(found).rstrip("\n") != value:
            run_git(["config", "--local", "--replace-all", key, value], cwd=paths.top)
            changed = True
    return changed


def look_at_hook(paths: RepositoryPaths) -> Hook:
    """Where the pre-push hook belongs, and how it stands. Raises GitError."""
    found = run_git(["rev-parse", "--git-path", "hooks"], cwd=paths.top)
    folder = paths.top / os.fsdecode(found).removesuffix("\n")
    own = os.path.realpath(folder) == os.path.realpath(paths.common_dir / "hooks")
    path = folder / HOOK_NAME
    return Hook(path, _state_of(path), shared=not own)


def write_hook(hook: Hook, words: Sequence[str]) -> None:
    """Make the hook ours: a new file, or lines at the head of a shell script that is there. Raises
    GitError where that cannot be done."""
    if hook.state is HookState.OURS:
        return
    if hook.state is HookState.UNKNOWN_LANGUAGE:
        raise GitError(f"{hook.path} is no shell script: {advice(words)}")
    if hook.state is HookState.FOREIGN and not os.access(hook.path, os.X_OK):
        # Whoever wrote it may not want it to run.
        raise GitError(
            f"git passes over {hook.path}, which is not executable: chmod +x it, or take it away, "
            "and run revfs init --hooks again"
        )
    try:
        hook.path.parent.mkdir(parents=True, exist_ok=True)
        if hook.state is HookState.MISSING:
            _replace(hook.path, _own_script(words), 0o755)
        else:
            mode = stat.S_IMODE(hook.path.stat().st_mode)
            _replace(hook.path, _with_our_lines(hook.path.read_bytes(), words), mode)
    except OSError as error:
        raise GitError(f"the hook {hook.path} cannot be written: {error.strerror}") from error


def advice(words: Sequence[str]) -> str:
    """What a person is told who keeps the hook."""
    return f"have it run this, with its own arguments and standard input: {_hook_line(words)}"


def _state_of(path: Path) -> HookState:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        # core.hooksPath=/dev/null is how people say that they want none.
        return HookState.MISSING
    except OSError as error:
        raise GitError(f"the hook {path} cannot be read: {error.strerror}") from error
    if _OUR_CALL.search(content):
        return HookState.OURS
    first, _, _ = content.partition(b"\n")
    interpreter = first.removeprefix(b"#!").split()
    names = {os.path.basename(os.fsdecode(word)) for word in interpreter}
    is_shell = first.startswith(b"#!") and not names.isdisjoint(_SHELLS)
    return HookState.FOREIGN if is_shell else HookState.UNKNOWN_LANGUAGE


def _own_script(words: Sequence[str]) -> bytes:
    complaint = (
        f"pre-push: {words[0]} is not there, which sends the data before the refs; install revfs, "
        "or say git push --no-verify if the data need not go"
    )
    return os.fsencode(
        "#!/bin/sh\n"
        "# Data before refs: git push stops if the data cannot go.\n"
        f"if ! command -v {shlex.quote(words[0])} >/dev/null; then\n"
        f"  echo {shlex.quote(complaint)} >&2\n"
        "  exit 1\n"
        "fi\n"
        f"exec {_hook_line(words)}\n"
    )


def _hook_line(words: Sequence[str]) -> str:
    return command_line(words, f'{_HOOK_WORDS} "$@"')


def _with_our_lines(content: bytes, words: Sequence[str]) -> bytes:
    """A script that asks us first, and then finds its standard input as it was."""
    first, _, rest = content.partition(b"\n")
    ours = (
        "# revfs: data before refs; the list of refs is then handed on.\n"
        "revfs_refs=$(cat)\n"
        'if [ -n "$revfs_refs" ]; then\n'
        f"  printf '%s\\n' \"$revfs_refs\" | {_hook_line(words)} || exit $?\n"
        "  exec <<REVFS_END\n"
        "$revfs_refs\n"
        "REVFS_END\n"
        "fi\n"
    )
    return first + b"\n" + os.fsencode(ours) + rest


def _replace(path: Path, content: bytes, mode: int) -> None:
    # A link, such as some tools make, is followed: the file behind it is the hook.
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f"{place.name}.revfs-new")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.replace(place)
