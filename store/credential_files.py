"""The files that credentials come from: whether one of them has changed since they were refused.

Nothing is read, only looked at: a login, or an edit, shows in the time or size of one of them.
Source: https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html
"""

import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "credentials",
    "AWS_CONFIG_FILE": "config",
    "AWS_WEB_IDENTITY_TOKEN_FILE": None,
}
_FOLDERS = {None: ("sso/cache", "cli/cache"), "AWS_LOGIN_CACHE_DIRECTORY": ("login/cache",)}
# A clock that was set goes on from elsewhere; what is steered into place does not jump so far.
_CLOCK_GRAIN_SECONDS = 60


def look_at_credentials(environment: Mapping[str, str], home: Path) -> Hashable:
    """What changes when somebody logs in anew, edits the files, or sets the clock, and hardly
    otherwise."""
    places = [*_files(environment, home), *_files_in(_folders(environment, home))]
    offset = time.time() - time.monotonic()
    return round(offset / _CLOCK_GRAIN_SECONDS), tuple(map(_look, places))


def _files(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    for variable, name in _FILES.items():
        if variable in environment:
            yield Path(environment[variable]).expanduser()
        elif name is not None:
            yield home / ".aws" / name


def _folders(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    for variable, names in _FOLDERS.items():
        if variable is not None and variable in environment:
            yield Path(environment[variable]).expanduser()
        else:
            yield from (home / ".aws" / name for name in names)


def _files_in(folders: Iterator[Path]) -> Iterator[Path]:
    for folder in folders:
        with suppress(OSError):
            yield from sorted(folder.iterdir())


def _look(path: Path) -> Hashable:
    with suppress(OSError):
        status = path.stat()
        return str(path), status.st_ino, status.st_size, status.st_mtime_ns
    return str(path), None
