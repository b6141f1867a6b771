"""`revfs config`: read and write settings."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from cli.console import App
from cli.settings import repository_of
from store.config import load_config
from store.config_files import (
    Setting,
    check_key,
    level_name,
    load_level,
    unset_settings,
    write_settings,
)
from store.config_keys import TRUSTED_ENDPOINT, Level, levels_of, normalised_key
from store.errors import ConfigError
from store.git_command import RepositoryPaths

_WRITE_ORDER = (Level.COMMITTED, Level.LOCAL, Level.USER)


@click.command("config")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--committed", "--project", is_flag=True, help="The committed .revfsconfig.")
@click.option("--user", "--global", "user", is_flag=True, help="Your file, for all repositories.")
@click.option("--local", is_flag=True, help="The file of this clone alone.")
@click.option("-l", "--list", "list_all", is_flag=True, help="Print every setting and its origin.")
@click.option("-u", "--unset", is_flag=True, help="Drop the setting.")
@click.option(
    "--show-origin", is_flag=True, help="Print file or variable, and level, before each value."
)
@click.option("--json", "as_json", is_flag=True, help="Print what is read as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    key: str | None,
    value: str | None,
    list_all: bool,
    unset: bool,
    show_origin: bool,
    as_json: bool,
    **levels: bool,
) -> None:
    """Read or write the setting KEY; without KEY, list all settings.

    Levels, lowest first: the committed .revfsconfig, your own file, the file of this clone, the
    REVFS_ variables, flags. If none is named, what a committed file may say (repository id, default
    remote, url, region and endpoint of a remote) is written to .revfsconfig, which is then staged;
    all else to the file of this clone. Reading takes the setting that holds, or that of the level
    named, and exits with 1 where there is none.

    \b
    Keys: repository.id, core.remote, cache.size, cache.directory, mount.timeout,
      checkout.smudge (cached, pointer or fetch), trust.endpoint,
      remote.NAME.url, remote.NAME.region, remote.NAME.endpoint, remote.NAME.profile

    \b
    Example:
      revfs config --user cache.size 200GiB
    """
    app: App = ctx.obj
    level = _level(levels)
    key = None if key is None else normalised_key(key)
    _check_usage(key, value, list_all, unset)
    paths = repository_of(app)
    if key is None or (value is None and not unset):
        if not _read(app, paths, level, key, show_origin=show_origin, as_json=as_json):
            ctx.exit(1)
    elif show_origin or as_json:
        raise click.UsageError("--show-origin and --json are for reading")
    else:
        _write(app, paths, level or _default_level(key), key, value)


def _level(flags: dict[str, bool]) -> Level | None:
    """The level that a flag names. Raises UsageError where several do."""
    named = [name for name, given in flags.items() if given]
    if len(named) > 1:
        raise click.UsageError("--committed, --user and --local exclude each other")
    return Level(named[0]) if named else None


def _check_usage(key: str | None, value: str | None, list_all: bool, unset: bool) -> None:
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


def _load(app: App, paths: RepositoryPaths, level: Level | None, key: str | None) -> list[Setting]:
    """The settings that hold, or those of a level; with `key` its own, which are several only for
    the one key that adds up."""
    if level is None and key != TRUSTED_ENDPOINT:
        settings = load_config(paths, app.environment).entries()
    else:
        settings = load_level(paths, app.environment, level or Level.USER)
    if key is None:
        return settings
    found = [setting for setting in settings if setting.key == key]
    return found if key == TRUSTED_ENDPOINT else found[-1:]


def _read(
    app: App,
    paths: RepositoryPaths,
    level: Level | None,
    key: str | None,
    *,
    show_origin: bool,
    as_json: bool,
) -> bool:
    """Print the settings that were asked for; False where the one that was is not set."""
    found = _load(app, paths, level, key)
    if as_json:
        app.console.out_json([asdict(item) | {"level": item.level.value} for item in found])
    elif key is None:
        _show_list(app, found, show_origin)
    else:
        for item in found:
            origin = f"{item.origin}\t{item.level.value}\t" if show_origin else ""
            app.console.out(f"{origin}{item.value}")
    return key is None or bool(found)


def _show_list(app: App, settings: Sequence[Setting], show_origin: bool) -> None:
    if show_origin:
        rows = [(s.origin, s.level.value, s.key, s.value) for s in settings]
        app.console.table(("from", "level", "key", "value"), rows)
    else:
        listed = [(s.key, s.value, s.origin) for s in settings]
        app.console.table(("key", "value", "from"), listed)


def _write(app: App, paths: RepositoryPaths, level: Level, key: str, value: str | None) -> None:
    """Set a key at a level; with None for a value, drop it there."""
    if value is not None:
        write_settings(paths, app.environment, level, {key: value})
        app.console.say(f"{key} is set in {level_name(level)}")
    elif unset_settings(paths, app.environment, level, [key]):
        app.console.say(f"{key} is dropped from {level_name(level)}")
    else:
        raise ConfigError(f"{key} is not set in {level_name(level)}")
