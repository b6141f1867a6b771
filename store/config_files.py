"""The files of the configuration: where each level lies, how it is read, and how it is changed.

Git is the only parser and the only writer: `git config --file`, with includes switched off. How the
levels are merged, and what they mean, is in `store.config`.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from store.config_keys import (
    FILE_LEVELS,
    TRUSTED_ENDPOINT,
    Level,
    check_value,
    known_keys,
    levels_of,
    normalised_key,
    parse_endpoint,
    split_remote_key,
)
from store.errors import ConfigError, GitError
from store.git_command import RepositoryPaths, run_git
from store.remote_url import parse_remote_url

COMMITTED_FILE = ".revfsconfig"

_COMMITTED_BLOB = f"HEAD:{COMMITTED_FILE}"
# Far above any real file; a clone must not make every command parse a gigabyte.
_MOST_COMMITTED_BYTES = 1 << 20
_MOST_KEYS_NAMED = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one key, and where it stands: `origin` is a file or an environment variable."""

    key: str
    value: str
    level: Level
    origin: str


def user_folder(environment: Mapping[str, str], variable: str, default: str) -> Path:
    """The folder of revfs in one of a user's base directories.

    As the XDG Base Directory Specification has it: a relative value of `variable` is ignored.
    """
    base = environment.get(variable, "")
    if base.startswith("/"):
        return Path(base) / "revfs"
    return home_folder(environment) / default / "revfs"


def home_folder(environment: Mapping[str, str]) -> Path:
    """The user's home; from the password database where HOME is not set, as in some services."""
    home = environment.get("HOME")
    return Path(home) if home else Path.home()


def level_file(paths: RepositoryPaths, environment: Mapping[str, str], level: Level) -> Path:
    """The file of a level, whether it exists or not.

    Raises ConfigError for the committed level where there is no work tree.
    """
    if level is Level.USER:
        return user_folder(environment, "XDG_CONFIG_HOME", ".config") / "config"
    if level is Level.LOCAL:
        return paths.state_dir / "config"
    if paths.work_tree is None:
        raise ConfigError(
            f"there is no work tree here to keep {COMMITTED_FILE} in: use --local, or do this in a "
            "clone with a work tree and push it"
        )
    return paths.work_tree / COMMITTED_FILE


def load_level(
    paths: RepositoryPaths, environment: Mapping[str, str], level: Level
) -> list[Setting]:
    """What one file says, in its order, every value checked; empty where there is no file.

    Keys that are unknown, or not allowed at this level, are left out with one warning. Raises
    ConfigError for a file that git cannot parse and for a value that its key cannot have.
    """
    if level is Level.COMMITTED:
        origin, listing = _load_committed(paths)
    else:
        file = level_file(paths, environment, level)
        origin, listing = str(file), _load_file(file, str(file), paths)
    settings, ignored = [], []
    for key, value in _parse_listing(listing):
        if level in levels_of(key):
            check_setting(key, value, origin, paths.top)
            settings.append(Setting(key, value, level, origin))
        else:
            ignored.append(key)
    _warn_of_ignored(ignored, origin, level)
    return settings


def write_settings(
    paths: RepositoryPaths,
    environment: Mapping[str, str],
    level: Level,
    settings: Mapping[str, str],
) -> None:
    """Set each key at `level`, in place of what it held there; a trusted endpoint is added instead.

    The committed file is also staged, for the next commit to carry it. Raises ConfigError, before
    anything is written, for a key that may not stand there and a value that it cannot have.
    """
    wanted = {normalised_key(key): value for key, value in settings.items()}
    for key, value in wanted.items():
        check_key(level, key)
        check_setting(key, value, level_name(level), paths.top)
    file = _prepare_file(paths, environment, level)
    for key, value in wanted.items():
        if key == TRUSTED_ENDPOINT:
            _add_endpoint(paths, environment, file, value)
        else:
            _run_config(paths, file, "--replace-all", key, value)
    if level is Level.COMMITTED:
        _stage_committed_file(paths)


def unset_settings(
    paths: RepositoryPaths, environment: Mapping[str, str], level: Level, keys: Iterable[str]
) -> list[str]:
    """Drop every value of each key at `level`; the keys that had one. Stages as a write does."""
    there = {setting.key for setting in load_level(paths, environment, level)}
    dropped = [key for key in map(normalised_key, keys) if key in there]
    if dropped:
        file = _prepare_file(paths, environment, level)
        for key in dropped:
            _run_config(paths, file, "--unset-all", key)
        if level is Level.COMMITTED:
            _stage_committed_file(paths)
    return dropped


def add_trusted_endpoint(
    paths: RepositoryPaths, environment: Mapping[str, str], endpoint: str
) -> None:
    """Trust `endpoint` for every repository of this user on this machine."""
    write_settings(paths, environment, Level.USER, {TRUSTED_ENDPOINT: endpoint})


def check_key(level: Level, key: str) -> None:
    """Raise ConfigError unless `key` (normalised) exists and may stand at `level`."""
    levels = levels_of(key)
    if not levels:
        raise ConfigError(f"{key!r} is not a key of revfs; the keys are {', '.join(known_keys())}")
    if level not in levels:
        places = " or ".join(level_name(place) for place in FILE_LEVELS if place in levels)
        raise ConfigError(f"{key} cannot stand in {level_name(level)}, only in {places}")


def level_name(level: Level) -> str:
    """What a person knows the file of a level by."""
    names = {
        Level.COMMITTED: COMMITTED_FILE,
        Level.USER: "the user's file (--user)",
        Level.LOCAL: "this clone's own file (--local)",
    }
    return names.get(level, level.value)


def check_setting(key: str, value: str, origin: str, base: Path) -> None:
    """Raise ConfigError, naming key and origin, unless `value` is one that `key` may have."""
    parts = split_remote_key(key)
    try:
        check_value(key, value)
        if parts is not None and parts[1] == "url":
            parse_remote_url(value, base)
    except ConfigError as error:
        raise ConfigError(f"{key} in {origin}: {error}") from error


def _run_config(paths: RepositoryPaths, file: Path, mode: str, *arguments: str) -> None:
    run_git(["config", "--file", str(file), mode, "--", *arguments], cwd=paths.top)


def _add_endpoint(
    paths: RepositoryPaths, environment: Mapping[str, str], file: Path, text: str
) -> None:
    """Add an endpoint to those that are trusted, in its one spelling and once."""
    trusted = {
        parse_endpoint(setting.value)
        for setting in load_level(paths, environment, Level.USER)
        if setting.key == TRUSTED_ENDPOINT
    }
    endpoint = parse_endpoint(text)
    if endpoint not in trusted:
        _run_config(paths, file, "--add", TRUSTED_ENDPOINT, endpoint)


def _stage_committed_file(paths: RepositoryPaths) -> None:
    # --force: a rule that ignores all dot files must not leave a clone without its remote.
    run_git(["add", "--force", "--", COMMITTED_FILE], cwd=paths.top)


def _load_committed(paths: RepositoryPaths) -> tuple[str, bytes]:
    """Where the committed file was found, and git's listing of it: the work tree, else HEAD."""
    if paths.work_tree is not None and os.path.lexists(paths.work_tree / COMMITTED_FILE):
        file = paths.work_tree / COMMITTED_FILE
        _require_plain_file(file)
        return COMMITTED_FILE, _load_file(file, COMMITTED_FILE, paths)
    if not _is_committed(paths):
        return COMMITTED_FILE, b""
    size = int(run_git(["cat-file", "-s", _COMMITTED_BLOB], cwd=paths.top))
    _require_small(size)
    return _COMMITTED_BLOB, _list_settings(["--blob", _COMMITTED_BLOB], _COMMITTED_BLOB, paths)


def _is_committed(paths: RepositoryPaths) -> bool:
    arguments = ["rev-parse", "--verify", "--quiet", _COMMITTED_BLOB]
    return bool(run_git(arguments, cwd=paths.top, ok_codes=(0, 1)))


def _load_file(file: Path, origin: str, paths: RepositoryPaths) -> bytes:
    """Git's listing of a file; nothing, and no process, where the file does not exist."""
    if not file.exists():
        return b""
    return _list_settings(["--file", str(file)], origin, paths)


def _list_settings(source: list[str], origin: str, paths: RepositoryPaths) -> bytes:
    try:
        return run_git(["config", *source, "--no-includes", "--list", "-z"], cwd=paths.top)
    except GitError as error:
        raise ConfigError(f"{origin} cannot be read: {error}") from error


def _parse_listing(listing: bytes) -> Iterator[tuple[str, str]]:
    """Key and value of each record of `git config --list -z`: key, line feed, value, NUL.

    A key without a value has no line feed; to git it means true, to revfs it is empty.
    """
    for record in listing.split(b"\0")[:-1]:
        key, _, value = os.fsdecode(record).partition("\n")
        yield key, value


def _warn_of_ignored(keys: Iterable[str], origin: str, level: Level) -> None:
    names = list(dict.fromkeys(keys))
    if not names:
        return
    more = f" and {len(names) - _MOST_KEYS_NAMED} more" if len(names) > _MOST_KEYS_NAMED else ""
    reason = (
        "a committed file may say only the repository id, the default remote, and the url, region "
        "and endpoint of a remote"
        if level is Level.COMMITTED
        else "they are not keys of revfs, or not of this file"
    )
    shown = ", ".join(names[:_MOST_KEYS_NAMED])
    _log.warning("%s: ignored %s%s: %s", origin, shown, more, reason)


def _prepare_file(paths: RepositoryPaths, environment: Mapping[str, str], level: Level) -> Path:
    """The file of `level`, ready for `git config` to write; the user's own is for them alone."""
    file = level_file(paths, environment, level)
    _require_own_file(paths, level, file)
    if level is Level.COMMITTED:
        return file
    try:
        # Staged packs will lie beside the clone's own file, in a folder that others cannot write.
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if level is Level.USER:
            # Git keeps the mode of a file that is there.
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    return file


def _require_own_file(paths: RepositoryPaths, level: Level, file: Path) -> None:
    """Raise ConfigError where a write to the committed file would go astray or hide settings."""
    if level is not Level.COMMITTED:
        return
    if os.path.lexists(file):
        _require_plain_file(file)
    elif _is_committed(paths):
        raise ConfigError(
            f"{COMMITTED_FILE} is committed but missing here: "
            f"run git restore {COMMITTED_FILE} first"
        )


def _require_plain_file(file: Path) -> None:
    """A committed link could lead git to any file of the user's, to read or to write."""
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{file} is not a plain file, so it is neither read nor written")
    _require_small(status.st_size)


def _require_small(size: int) -> None:
    if size > _MOST_COMMITTED_BYTES:
        raise ConfigError(f"{COMMITTED_FILE} is over {_MOST_COMMITTED_BYTES} bytes: not believable")
