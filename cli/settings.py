"""Settings: what a verb works with, merged from flags and configuration; and the flags' types."""

from dataclasses import dataclass
from pathlib import Path

import click

from cli.console import App
from store.config import Config, RemoteSettings, load_config
from store.config_keys import parse_size
from store.errors import ConfigError
from store.git_command import RepositoryPaths, find_repository


class _Size(click.ParamType[int]):
    """A number of bytes, as `store.config_keys.parse_size` reads it."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


SIZE = _Size()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that was configured for one run of one verb, flags on top.

    `remote` is None where no remote is configured at all. `cache_size_bytes` is None where nobody
    set a limit.
    """

    paths: RepositoryPaths
    config: Config
    remote: RemoteSettings | None
    cache_directory: Path
    cache_size_bytes: int | None
    timeout_seconds: float


def repository_of(app: App) -> RepositoryPaths:
    """The repository that the command line means. Raises GitError where there is none."""
    return find_repository(app.cwd)


def load_settings(
    app: App,
    *,
    remote_name: str | None = None,
    cache_size: int | None = None,
    timeout: float | None = None,
) -> Settings:
    """The settings of the repository around `app.cwd`; each flag that is not None wins.

    Raises GitError outside a repository and ConfigError for a configuration that cannot be meant.
    """
    paths = repository_of(app)
    config = load_config(paths, app.environment)
    return Settings(
        paths=paths,
        config=config,
        remote=config.remote(remote_name),
        cache_directory=config.cache_directory,
        cache_size_bytes=config.cache_size_bytes if cache_size is None else cache_size,
        timeout_seconds=config.timeout_seconds if timeout is None else timeout,
    )
