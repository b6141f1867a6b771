"""The checks of a repository: its id, its git state folder, git's filter, the pre-push hook."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from store.checks import Finding, not_checked, ok, problem, run_check
from store.config import Config
from store.config_files import COMMITTED_FILE
from store.config_keys import REPOSITORY_ID
from store.git_command import RepositoryPaths, run_git
from store.git_setup import HookState, look_at_hook
from store.ids import is_pack_name
from store.local_folders import make_private_folder
from store.staging import open_repository_tables

_FILTER_KEY = "filter.revfs.process"
_REQUIRED_KEY = "filter.revfs.required"
_FILTER_VERB = "filter-process"
_COMMAND_SECONDS = 10.0


def is_in_repository(folder: Path) -> bool:
    """Whether a repository is there to be found around `folder`, be it a broken one."""
    named = "GIT_DIR" in os.environ
    return named or any((place / ".git").exists() for place in (folder, *folder.parents))


def check_repository(paths: RepositoryPaths, config: Config) -> list[Finding]:
    """All that can be checked without a remote."""
    return [
        ok("repository", str(paths.top) if paths.work_tree else f"{paths.top}, without work tree"),
        *run_check("repository id", lambda: [_check_id(paths, config)]),
        *run_check("git state folder", lambda: [_check_state_folder(paths)]),
        *run_check("filter", lambda: _check_filter(paths, config)),
        *run_check("pre-push hook", lambda: [_check_hook(paths, config)]),
    ]


def _check_id(paths: RepositoryPaths, config: Config) -> Finding:
    name, value = "repository id", config.get(REPOSITORY_ID)
    if value is None:
        return problem(name, "there is none yet: run `revfs init`, and commit what it stages")
    if paths.work_tree is None or config.origin(REPOSITORY_ID) != COMMITTED_FILE:
        return ok(name, f"{value}, from {config.origin(REPOSITORY_ID)}")
    state = ["--no-optional-locks", "status", "--porcelain", "-z", "--ignored"]
    if run_git([*state, "--", COMMITTED_FILE], cwd=paths.work_tree):
        return problem(
            name,
            f"{COMMITTED_FILE} is not committed as it stands here, so clones do not have it: run "
            f"`git add --force {COMMITTED_FILE}` and `git commit`",
        )
    return ok(name, f"{value}, committed")


def _check_state_folder(paths: RepositoryPaths) -> Finding:
    """That the folder for staged packs is ours alone and its tables open; it is not made here."""
    folder = paths.state_dir
    if not os.path.lexists(folder):
        return ok("git state folder", "nothing was staged yet")
    make_private_folder(folder)
    if (folder / "index").exists():
        open_repository_tables(folder).close()
    staged = folder / "staged"
    count = sum(is_pack_name(path.name) for path in staged.iterdir()) if staged.is_dir() else 0
    return ok("git state folder", f"{folder}; packs that wait for a push: {count}")


def _why_no_git_verbs(paths: RepositoryPaths, config: Config) -> str | None:
    """Why git's own verbs need nothing of revfs here, or None where they do."""
    if paths.work_tree is None:
        return "there is no work tree"
    return None if config.get(REPOSITORY_ID) else "the repository has no id yet"


def _check_filter(paths: RepositoryPaths, config: Config) -> list[Finding]:
    """That git runs revfs for tracked files in this clone, and can."""
    reason = _why_no_git_verbs(paths, config)
    if reason is not None:
        return [not_checked("filter", reason)]
    line = _load_git_setting(paths, _FILTER_KEY)
    if line is None:
        return [
            problem(
                "filter",
                "git does not run revfs for tracked files in this clone, so `git add` would put "
                "their bytes into git: run `revfs init`",
            )
        ]
    findings = [_check_command(line, paths.top)]
    if _load_git_setting(paths, _REQUIRED_KEY, "--type=bool") != "true":
        findings.append(
            problem(
                "filter required",
                f"{_REQUIRED_KEY} is not true, so git would go on where the filter fails, and put "
                "bytes in place of pointers: run `revfs init`",
            )
        )
    return findings


def _check_command(line: str, top: Path) -> Finding:
    """That the command of the filter exists and is a revfs that runs."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    if len(words) < 2 or words[-1] != _FILTER_VERB:
        return problem(
            "filter", f"{_FILTER_KEY} is {line!r}, which does not run revfs: run `revfs init`"
        )
    # As the shell does it: a word with a slash is a path, any other is looked for.
    program = str(top / words[0]) if "/" in words[0] else shutil.which(words[0])
    if program is None or not os.access(program, os.X_OK):
        return problem(
            "filter",
            f"git is to run {words[0]}, which is not there: run `revfs init` with the revfs that "
            "you use now",
        )
    failure = _why_it_fails([program, *words[1:-1], "--version"], top)
    if failure is not None:
        return problem(
            "filter",
            f"git is to run {words[0]}, which {failure}: install revfs anew, then run `revfs init`",
        )
    return ok("filter", line)


def _why_it_fails(command: Sequence[str], folder: Path) -> str | None:
    try:
        completed = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"does not answer within {_COMMAND_SECONDS:g} s"
    except OSError as error:
        return f"cannot be run ({error.strerror})"
    return f"ends with code {completed.returncode}" if completed.returncode else None


def _check_hook(paths: RepositoryPaths, config: Config) -> Finding:
    """That `git push` sends data before refs."""
    reason = _why_no_git_verbs(paths, config)
    if reason is not None:
        return not_checked("pre-push hook", reason)
    hook = look_at_hook(paths)
    if hook.state is HookState.MISSING:
        return problem(
            "pre-push hook",
            f"{hook.path} is not there, so `git push` sends no data: run `revfs init"
            f"{' --hooks' if hook.shared else ''}`, or "
            "`revfs push` before each `git push`",
        )
    if hook.state is not HookState.OURS:
        return problem(
            "pre-push hook",
            f"{hook.path} is another's and does not call revfs, so `git push` sends no data: run "
            "`revfs init --hooks`, or `revfs push` before each `git push`",
        )
    if not os.access(hook.path, os.X_OK):
        return problem(
            "pre-push hook", f"git passes over {hook.path}, which is not executable: chmod +x it"
        )
    return ok("pre-push hook", str(hook.path))


def _load_git_setting(paths: RepositoryPaths, key: str, *options: str) -> str | None:
    """The value that git itself goes by; code 1 says that there is none."""
    found = run_git(["config", *options, "--get", key], cwd=paths.top, ok_codes=(0, 1))
    return os.fsdecode(found).removesuffix("\n") or None
