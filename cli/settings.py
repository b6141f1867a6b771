"""Settings: what a verb works with, merged from flags and configuration; and the flags' types."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import click

from cli.console import App
from store.clone_urls import is_url
from store.config import Config, RemoteSettings, load_config
from store.config_keys import parse_size
from store.errors import ConfigError
from store.git_command import (
    RepositoryPaths,
    find_repository,
    forget_surrounding_repository,
)
from store.kept_clones import find_named, find_original, is_beside_original, kept_clones

_log = logging.getLogger(__name__)


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
    """The repository that the command line means: that of `--repo`, a kept and updated clone where
    it is a url, or the one around `app.cwd`.

    Raises GitError where there is none, CacheUnusable where a clone cannot be kept.
    """
    if app.repo is None:
        return find_repository(app.cwd)
    forget_surrounding_repository()
    if not is_url(app.repo, app.cwd):
        return find_named(app.repo, app.cwd)

    def say_clone(url: str) -> None:
        if not app.console.quiet:
            app.console.trace(f"revfs: cloning {url}, once; its data is not fetched")

    return kept_clones(app.environment).fetch(app.repo, say_clone)


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
    config, remote = _load_remote(app, paths, remote_name)
    return Settings(
        paths=paths,
        config=config,
        remote=remote,
        cache_directory=config.cache_directory,
        cache_size_bytes=config.cache_size_bytes if cache_size is None else cache_size,
        timeout_seconds=config.timeout_seconds if timeout is None else timeout,
    )


def _load_remote(
    app: App, paths: RepositoryPaths, name: str | None
) -> tuple[Config, RemoteSettings | None]:
    """The configuration, and the remote of that name in it."""
    config = load_config(paths, app.environment)
    url = kept_clones(app.environment).load_url(paths)
    if url is None:
        return config, config.remote(name)
    original = find_original(url)
    if original is not None:
        config = replace(config, base=original)
    remote = config.remote(name)
    if original is None and remote is not None and is_beside_original(remote):
        _log.warning(
            "the remote %s is the folder %s beside the original of this clone, which is not on "
            "this machine: to say where the data is, run revfs with the same --repo, and then: "
            "config --local remote.%s.url URL",
            *(remote.name, remote.url, remote.name),
        )
        return config, None
    return config, remote
