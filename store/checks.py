"""What `revfs doctor` finds: findings, and the checks of git, Python, and the cache folder.

A check raises nothing: what is wrong becomes a finding whose text says what to do. The repository's
checks are in `store.repository_checks`, a remote's in `store.remote_checks`, FUSE's in
`vfs.mount_checks`.
"""

import os
import platform
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from store.cache_index import CacheIndex
from store.config import Config
from store.config_files import Setting, check_setting, home_folder, load_level, user_folder
from store.config_keys import CACHE_DIRECTORY, CACHE_SIZE, Level
from store.errors import CacheUnusable, StoreError
from store.git_command import RepositoryPaths, run_git
from store.local_folders import make_private_folder

OLDEST_GIT = (2, 31)
"""The first that answers `rev-parse --path-format`, on which all else rests."""

OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 256 << 20
"""Four packs: with less, even one command may find no room."""

_CACHE_VARIABLES = {"REVFS_CACHE_DIR": CACHE_DIRECTORY, "REVFS_CACHE_SIZE": CACHE_SIZE}
_KEPT_FREE_SHARE = 0.1
_OTHER_FOLDER = "or choose another folder with `revfs config --user cache.directory FOLDER`"


class Outcome(Enum):
    """How a check ended, by the mark that people and programs see."""

    OK = "ok"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; of a problem, `text` is one sentence that says what to do."""

    name: str
    outcome: Outcome
    text: str


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, Outcome.OK, text)


def problem(name: str, text: str) -> Finding:
    """Something has to be done."""
    return Finding(name, Outcome.PROBLEM, text)


def not_checked(name: str, text: str) -> Finding:
    """Nothing can be said; the text says why."""
    return Finding(name, Outcome.NOT_CHECKED, text)


def run_check(name: str, check: Callable[[], Sequence[Finding]]) -> list[Finding]:
    """The findings of `check`; an error that it raises is one, under `name`."""
    try:
        return list(check())
    except (StoreError, OSError) as error:
        return [problem(name, str(error))]


def check_git() -> list[Finding]:
    """That git is there, and new enough."""
    words = os.fsdecode(run_git(["version"], cwd=Path("/"))).strip()
    version = re.search(r"(\d+)\.(\d+)", words)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        return [problem("git", f"{words} is too old: install {oldest} or newer")]
    return [ok("git", words)]


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> list[Finding]:
    """That this Python is new enough."""
    words = f"Python {platform.python_version()}"
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return [problem("python", f"{words} is too old: install revfs with {oldest} or newer")]
    return [ok("python", words)]


def load_user_config(environment: Mapping[str, str], folder: Path) -> Config:
    """The configuration where there is no repository, as far as it is about the cache: the user's
    file and the environment. Raises ConfigError."""
    nowhere = RepositoryPaths(folder, folder, None)
    settings = load_level(nowhere, environment, Level.USER)
    for variable, key in _CACHE_VARIABLES.items():
        if value := environment.get(variable):
            check_setting(key, value, variable, folder)
            settings.append(Setting(key, value, Level.ENVIRONMENT, variable))
    return Config(
        settings={setting.key: setting for setting in settings},
        trusted_endpoints=frozenset(),
        base=folder,
        home=home_folder(environment),
        default_cache_directory=user_folder(environment, "XDG_CACHE_HOME", ".cache"),
    )


def check_cache(folder: Path, budget_bytes: int | None) -> list[Finding]:
    """That the cache folder is ours alone, on a local disk, can be written, has room, and that its
    tables open. It is made if it is not there, as any verb would."""
    try:
        make_private_folder(folder)
        _write_and_remove(folder)
    except CacheUnusable as error:
        return [problem("cache folder", f"{error}; {_OTHER_FOLDER}")]
    except OSError as error:
        words = f"nothing can be written in {folder} ({error.strerror}): make room or give rights"
        return [problem("cache folder", f"{words}, {_OTHER_FOLDER}")]
    return [
        ok("cache folder", str(folder)),
        check_space(folder, budget_bytes),
        *run_check("cache index", lambda: _check_tables(folder)),
    ]


def check_space(folder: Path, budget_bytes: int | None) -> Finding:
    """That the disk of the cache has room; `budget_bytes` is the most that the cache may hold."""
    status = os.statvfs(folder)
    free_bytes, total_bytes = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    return judge_space(free_bytes, total_bytes, budget_bytes)


def judge_space(free_bytes: int, total_bytes: int, budget_bytes: int | None) -> Finding:
    """What so much free space of a disk means for the cache. Pure."""
    words = f"{_gibibytes(free_bytes)} of {_gibibytes(total_bytes)} are free"
    if free_bytes < LEAST_FREE_BYTES:
        return problem("cache space", f"{words}: make room on the disk, {_OTHER_FOLDER}")
    if budget_bytes is None and free_bytes < total_bytes * _KEPT_FREE_SHARE:
        return problem(
            "cache space",
            f"{words}, and the cache leaves a tenth of the disk free, so it holds next to nothing: "
            "give it a size of its own with `revfs config --user cache.size 10GiB`, or make room",
        )
    return ok("cache space", words)


def _check_tables(folder: Path) -> list[Finding]:
    CacheIndex(make_private_folder(folder / "index")).close()
    return [ok("cache index", "opens")]


def _write_and_remove(folder: Path) -> None:
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        with open(probe, "xb", buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
