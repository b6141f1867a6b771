"""`revfs config`: read and write settings."""

import click

from cli.console import App
from cli.settings import repository_of
from store.config import load_config
from store.config_files import check_key, level_name, load_level, unset_settings, write_settings
from store.config_keys import TRUSTED_ENDPOINT, Level, levels_of, normalised_key
from store.errors import ConfigError
from store.git_command import RepositoryPaths

_WRITE_ORDER = (Level.COMMITTED, Level.LOCAL, Level.USER)


@click.command("config")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--local", is_flag=True, help="The file of this clone alone.")
@click.option("--user", is_flag=True, help="Your file, for all repositories.")
@click.option("--list", "list_all", is_flag=True, help="Print every setting and its origin.")
@click.option("--unset", is_flag=True, help="Drop the setting.")
@click.pass_context
def command(
    ctx: click.Context,
    key: str | None,
    value: str | None,
    local: bool,
    user: bool,
    list_all: bool,
    unset: bool,
) -> None:
    """Read or write the setting KEY; without KEY, list all settings.

    Levels, lowest first: the committed .revfsconfig, your own file, the file of this clone, the
    REVFS_ variables, flags. Without --local or --user, what a committed file may say (repository
    id, default remote, url, region and endpoint of a remote) is written to .revfsconfig, which is
    then staged; all else to the file of this clone. Reading takes the setting that holds, or that
    of the level named, and exits with 1 where there is none.

    \b
    Keys: repository.id, core.remote, cache.size, cache.directory, mount.timeout,
      checkout.smudge (cached, pointer or fetch), trust.endpoint,
      remote.NAME.url, remote.NAME.region, remote.NAME.endpoint, remote.NAME.profile

    \b
    Example:
      revfs config --user cache.size 200GiB
    """
    app: App = ctx.obj
    _check_usage(key, value, local and user, list_all, unset)
    paths = repository_of(app)
    level = Level.LOCAL if local else Level.USER if user else None
    if key is None:
        _list(app, paths, level)
        return
    key = normalised_key(key)
    if unset:
        _unset(app, paths, level or _default_level(key), key)
    elif value is not None:
        _set(app, paths, level or _default_level(key), key, value)
    elif not _print(app, paths, level, key):
        ctx.exit(1)


def _check_usage(
    key: str | None, value: str | None, two_levels: bool, list_all: bool, unset: bool
) -> None:
    if two_levels:
        raise click.UsageError("--local and --user exclude each other")
    if list_all and (key is not None or unset):
        raise click.UsageError("--list takes neither KEY nor --unset")
    if unset and (key is None or value is not None):
        raise click.UsageError("--unset takes KEY and no VALUE")


def _default_level(key: str) -> Level:
    """Where `key` is written if nobody says. Raises ConfigError for a key that does not exist."""
    levels = levels_of(key)
    if not levels:
        check_key(Level.LOCAL, key)
    return next(level for level in _WRITE_ORDER if level in levels)


def _list(app: App, paths: RepositoryPaths, level: Level | None) -> None:
    if level is None:
        settings = load_config(paths, app.environment).entries()
    else:
        settings = load_level(paths, app.environment, level)
    app.console.table(
        ("key", "value", "from"),
        [(setting.key, setting.value, setting.origin) for setting in settings],
    )


def _print(app: App, paths: RepositoryPaths, level: Level | None, key: str) -> bool:
    """Print the value of `key`, or every one of the only key with several; whether it has one."""
    if level is None and key != TRUSTED_ENDPOINT:
        value = load_config(paths, app.environment).get(key)
        values = [] if value is None else [value]
    else:
        settings = load_level(paths, app.environment, level or Level.USER)
        values = [setting.value for setting in settings if setting.key == key]
        values = values if key == TRUSTED_ENDPOINT else values[-1:]
    for value in values:
        app.console.out(value)
    return bool(values)


def _set(app: App, paths: RepositoryPaths, level: Level, key: str, value: str) -> None:
    write_settings(paths, app.environment, level, {key: value})
    app.console.say(f"{key} is set in {level_name(level)}")


def _unset(app: App, paths: RepositoryPaths, level: Level, key: str) -> None:
    if not unset_settings(paths, app.environment, level, [key]):
        raise ConfigError(f"{key} is not set in {level_name(level)}")
    app.console.say(f"{key} is dropped from {level_name(level)}")
