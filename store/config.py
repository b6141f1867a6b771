"""The configuration, merged from its levels, and what it says of remotes and of trust.

Lowest level first: the committed `.revfsconfig`, the user's file, this clone's own file, the
environment. Flags come on top, in `cli.settings`. A committed file comes with a clone, from
whoever wrote it; so it says little (`store.config_keys`), and an endpoint in it is used only once
somebody on this machine has trusted it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.config_files import (
    Setting,
    check_setting,
    home_folder,
    load_level,
    user_folder,
)
from store.config_keys import (
    CACHE_DIRECTORY,
    CACHE_SIZE,
    DEFAULT_REMOTE,
    FILE_LEVELS,
    MOUNT_TIMEOUT,
    REPOSITORY_ID,
    SMUDGE,
    TRUSTED_ENDPOINT,
    Level,
    SmudgePolicy,
    parse_endpoint,
    parse_seconds,
    parse_size,
    parse_smudge_policy,
    remote_key,
    split_remote_key,
)
from store.errors import ConfigError, UntrustedEndpoint
from store.git_command import RepositoryPaths
from store.remote_url import parse_remote_url

DEFAULT_TIMEOUT_SECONDS = 30.0

_VARIABLES = {
    "REVFS_REMOTE": DEFAULT_REMOTE,
    "REVFS_CACHE_DIR": CACHE_DIRECTORY,
    "REVFS_CACHE_SIZE": CACHE_SIZE,
    "REVFS_TIMEOUT": MOUNT_TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """One remote as configured: a `folder` (absolute), or a `bucket` and `prefix`; never both.

    `prefix` has no slash at either end. `endpoint_trusted` is False only for a committed custom
    endpoint that nobody on this machine has trusted; see `require_trust`.
    """

    name: str
    url: str
    region: str | None
    endpoint: str | None
    profile: str | None
    folder: Path | None
    bucket: str | None
    prefix: str
    endpoint_trusted: bool


def require_trust(settings: RemoteSettings) -> None:
    """Raise UntrustedEndpoint unless requests may go to the endpoint of this remote."""
    if not settings.endpoint_trusted:
        raise UntrustedEndpoint(
            f"the remote {settings.name} would send requests signed with your credentials to "
            f"{settings.endpoint}, an endpoint that came with this repository; if you know it: "
            f"run `revfs remote trust {settings.name}`"
        )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings that hold, every value already checked.

    `settings` maps a key to the one that won; `base` is what relative folders are taken from.
    """

    settings: Mapping[str, Setting]
    trusted_endpoints: frozenset[str]
    base: Path
    home: Path
    default_cache_directory: Path

    def get(self, key: str) -> str | None:
        """The value of `key`, or None."""
        setting = self.settings.get(key)
        return setting.value if setting else None

    def origin(self, key: str) -> str:
        """The file or environment variable that the value of `key` comes from; it must be set."""
        return self.settings[key].origin

    def entries(self) -> list[Setting]:
        """Every setting that holds, in order of key."""
        return [self.settings[key] for key in sorted(self.settings)]

    @property
    def repository_id(self) -> str:
        """The id of this repository. Raises ConfigError if it has none yet."""
        value = self.get(REPOSITORY_ID)
        if value is None:
            raise ConfigError("this repository has no id yet: run `revfs init` and commit its file")
        return value

    @property
    def cache_directory(self) -> Path:
        """The folder of the cache, absolute; it may not exist yet."""
        text = self.get(CACHE_DIRECTORY)
        if text is None:
            return self.default_cache_directory
        return self.home / text[2:] if text.startswith("~/") else Path(text)

    @property
    def cache_size_bytes(self) -> int | None:
        """The most bytes that the cache may hold, or None where nobody said."""
        text = self.get(CACHE_SIZE)
        return None if text is None else parse_size(text)

    @property
    def timeout_seconds(self) -> float:
        """How long a reader waits for its bytes before it gets an error."""
        text = self.get(MOUNT_TIMEOUT)
        return DEFAULT_TIMEOUT_SECONDS if text is None else parse_seconds(text)

    @property
    def smudge_policy(self) -> SmudgePolicy:
        """What git's checkout writes for a tracked file."""
        text = self.get(SMUDGE)
        return SmudgePolicy.CACHED if text is None else parse_smudge_policy(text)

    def remote_names(self) -> list[str]:
        """The remotes that have a url, in order of name."""
        parts = filter(None, map(split_remote_key, self.settings))
        return sorted(name for name, variable in parts if variable == "url")

    def default_remote_name(self) -> str | None:
        """The remote that is meant where none is named; the only one, where there is but one."""
        names = self.remote_names()
        return self.get(DEFAULT_REMOTE) or (names[0] if len(names) == 1 else None)

    def remote(self, name: str | None) -> RemoteSettings | None:
        """The remote of that name, or the default one for None; None if there is no remote at all.

        Raises ConfigError for a name that is not configured, and for None where there are several
        remotes and no default. Whether its endpoint may be used is for `require_trust` to say.
        """
        chosen = name if name is not None else self.default_remote_name()
        if chosen is None:
            if self.remote_names():
                raise ConfigError(
                    f"there are several remotes ({', '.join(self.remote_names())}) and none is "
                    "the default: name one, or run `revfs remote default NAME`"
                )
            return None
        url = self.get(remote_key(chosen, "url"))
        if url is None:
            raise ConfigError(self._unknown_remote(chosen, name is None))
        return self._remote_settings(chosen, url)

    def _remote_settings(self, name: str, url: str) -> RemoteSettings:
        place = parse_remote_url(url, self.base)
        return RemoteSettings(
            name=name,
            url=url,
            region=self.get(remote_key(name, "region")),
            endpoint=self.get(remote_key(name, "endpoint")),
            profile=self.get(remote_key(name, "profile")),
            folder=place.folder,
            bucket=place.bucket,
            prefix=place.prefix,
            endpoint_trusted=self._is_endpoint_trusted(remote_key(name, "endpoint")),
        )

    def _is_endpoint_trusted(self, key: str) -> bool:
        """Whoever set an endpoint outside the committed file has thereby trusted it."""
        setting = self.settings.get(key)
        if setting is None or setting.level is not Level.COMMITTED:
            return True
        return parse_endpoint(setting.value) in self.trusted_endpoints

    def _unknown_remote(self, name: str, is_default: bool) -> str:
        names = self.remote_names()
        known = f"the remotes are {', '.join(names)}" if names else "there are no remotes yet"
        source = f" ({DEFAULT_REMOTE} in {self.origin(DEFAULT_REMOTE)})" if is_default else ""
        advice = "`revfs remote add` makes one"
        is_variable = is_default and self.settings[DEFAULT_REMOTE].level is Level.ENVIRONMENT
        if is_default and names and not is_variable:
            advice = "`revfs remote default NAME` chooses one of them"
        return f"no remote is called {name!r}{source}; {known}; {advice}"


def load_config(paths: RepositoryPaths, environment: Mapping[str, str]) -> Config:
    """All levels below the flags, merged.

    Raises ConfigError, with key, value and file, for what cannot be parsed or cannot be meant.
    """
    settings = [
        setting for level in FILE_LEVELS for setting in load_level(paths, environment, level)
    ]
    settings += _environment_settings(environment, paths.top)
    return Config(
        settings={setting.key: setting for setting in settings},
        trusted_endpoints=frozenset(
            parse_endpoint(setting.value) for setting in settings if setting.key == TRUSTED_ENDPOINT
        ),
        base=paths.top,
        home=home_folder(environment),
        default_cache_directory=user_folder(environment, "XDG_CACHE_HOME", ".cache"),
    )


def _environment_settings(environment: Mapping[str, str], base: Path) -> list[Setting]:
    """What the REVFS_ variables say; an empty one says nothing."""
    settings = []
    for variable, key in _VARIABLES.items():
        value = environment.get(variable, "")
        if value:
            check_setting(key, value, variable, base)
            settings.append(Setting(key, value, Level.ENVIRONMENT, variable))
    return settings
