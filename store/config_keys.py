"""The keys of the configuration: at which level each may stand, and what its value must look like.

Pure. Where the levels are kept and how they are merged is in `store.config`.
"""

import math
import re
from collections.abc import Callable
from enum import Enum
from urllib.parse import urlsplit
from uuid import UUID

from store.errors import ConfigError

REPOSITORY_ID = "repository.id"
DEFAULT_REMOTE = "core.remote"
CACHE_SIZE = "cache.size"
CACHE_DIRECTORY = "cache.directory"
MOUNT_TIMEOUT = "mount.timeout"
TRUSTED_ENDPOINT = "trust.endpoint"
SMUDGE = "checkout.smudge"

REMOTE_VARIABLES = ("url", "region", "endpoint", "profile")

_REMOTE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_SIZE = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_SIZE_EXPONENTS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class SmudgePolicy(Enum):
    """What git writes into the work tree for a tracked file: its bytes where they are here, always
    the pointer, or its bytes, fetched if need be."""

    CACHED = "cached"
    POINTER = "pointer"
    FETCH = "fetch"


class Level(Enum):
    """Where a setting stands, lowest first: a later one overrides an earlier one."""

    COMMITTED = "committed"
    USER = "user"
    LOCAL = "local"
    ENVIRONMENT = "environment"


FILE_LEVELS = (Level.COMMITTED, Level.USER, Level.LOCAL)

_EVERYWHERE = frozenset(FILE_LEVELS)
_NOT_COMMITTED = frozenset({Level.USER, Level.LOCAL})
_KEY_LEVELS = {
    # An id names one repository, so it cannot hold for all those of a user.
    REPOSITORY_ID: frozenset({Level.COMMITTED, Level.LOCAL}),
    DEFAULT_REMOTE: _EVERYWHERE,
    CACHE_SIZE: _NOT_COMMITTED,
    CACHE_DIRECTORY: _NOT_COMMITTED,
    MOUNT_TIMEOUT: _NOT_COMMITTED,
    TRUSTED_ENDPOINT: frozenset({Level.USER}),
    SMUDGE: _NOT_COMMITTED,
}
_REMOTE_VARIABLE_LEVELS = {
    "url": _EVERYWHERE,
    "region": _EVERYWHERE,
    "endpoint": _EVERYWHERE,
    # A profile picks somebody's credentials: whoever commits a file does not choose them.
    "profile": _NOT_COMMITTED,
}


def remote_key(name: str, variable: str) -> str:
    """The key of one variable of one remote."""
    return f"remote.{name}.{variable}"


def split_remote_key(key: str) -> tuple[str, str] | None:
    """The remote's name and the variable of a key `remote.NAME.VARIABLE`; None for other keys."""
    section, _, rest = key.partition(".")
    name, _, variable = rest.rpartition(".")
    return (name, variable) if section == "remote" and name else None


def normalised_key(key: str) -> str:
    """`key` as git spells it: section and variable in lower case, the name between them kept."""
    section, dot, rest = key.partition(".")
    name, inner_dot, variable = rest.rpartition(".")
    return f"{section.lower()}{dot}{name}{inner_dot}{variable.lower()}"


def levels_of(key: str) -> frozenset[Level]:
    """The file levels at which `key` may stand; empty for a key that does not exist."""
    parts = split_remote_key(key)
    if parts is None:
        return _KEY_LEVELS.get(key, frozenset())
    name, variable = parts
    known = _REMOTE_NAME.fullmatch(name) and variable in _REMOTE_VARIABLE_LEVELS
    return _REMOTE_VARIABLE_LEVELS[variable] if known else frozenset()


def known_keys() -> list[str]:
    """Every key there is, as a person would read them."""
    return sorted([*_KEY_LEVELS, *(remote_key("NAME", name) for name in REMOTE_VARIABLES)])


def check_remote_name(name: str) -> str:
    """`name`, if a remote can be called that; else ConfigError."""
    if not _REMOTE_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a remote: use letters, digits, '-', '_' and '.', "
            "and begin with a letter, a digit or '_'"
        )
    return name


def parse_size(text: str) -> int:
    """Bytes from `1048576`, `64K`, `64KB`, `64KiB` and so on up to T; all units are binary."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) << 10 * _SIZE_EXPONENTS[match[2].upper()] if match else 0
    if size == 0:
        raise ConfigError(f"{text!r} is not a size: write it like 500MiB, 50GiB or 1TiB")
    return size


def parse_seconds(text: str) -> float:
    """Seconds from a positive decimal number."""
    try:
        seconds = float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a number of seconds") from error
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"{text!r} is not a positive number of seconds")
    return seconds


def parse_smudge_policy(text: str) -> SmudgePolicy:
    """A policy by its name."""
    try:
        return SmudgePolicy(text)
    except ValueError as error:
        names = ", ".join(policy.value for policy in SmudgePolicy)
        raise ConfigError(f"{text!r} is none of {names}") from error


def parse_endpoint(text: str) -> str:
    """An endpoint in its one spelling: lower-case scheme and host, no slash at the end."""
    wanted = f"{text!r} is not an endpoint: write it like https://s3.example.com"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(wanted) from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ConfigError(wanted)
    if parts.username is not None or parts.password is not None:
        raise ConfigError("an endpoint holds no credentials: keep them in an AWS profile")
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _check_repository_id(text: str) -> None:
    try:
        valid = UUID(text).version == 4 and str(UUID(text)) == text
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{text!r} is not a repository id, which is a random uuid (version 4)")


def _check_region(text: str) -> None:
    if not _REGION.fullmatch(text):
        raise ConfigError(f"{text!r} is not a region: write it like eu-central-1")


def _check_folder(text: str) -> None:
    if not text.startswith(("/", "~/")):
        raise ConfigError(f"{text!r} is not a folder of its own: begin it with / or ~/")


_CHECKS: dict[str, Callable[[str], object]] = {
    REPOSITORY_ID: _check_repository_id,
    DEFAULT_REMOTE: check_remote_name,
    CACHE_SIZE: parse_size,
    CACHE_DIRECTORY: _check_folder,
    MOUNT_TIMEOUT: parse_seconds,
    TRUSTED_ENDPOINT: parse_endpoint,
    SMUDGE: parse_smudge_policy,
    "region": _check_region,
    "endpoint": parse_endpoint,
}


def check_value(key: str, value: str) -> None:
    """Raise ConfigError unless `value` is one that the known `key` may have.

    The url of a remote needs the repository to be understood; `store.remote_url` does that.
    """
    if not value:
        raise ConfigError("the value is empty")
    if not value.isprintable():
        raise ConfigError(f"{value!r} holds characters that cannot be printed")
    parts = split_remote_key(key)
    check = _CHECKS.get(parts[1] if parts else key)
    if check is not None:
        check(value)
