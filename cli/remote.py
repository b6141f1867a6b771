"""`revfs remote`: say where the data is kept."""

from collections.abc import Callable

import click

from cli.completing import complete_remote
from cli.console import App
from cli.options import JSON
from cli.settings import repository_of
from store.config import Config, RemoteSettings, load_config
from store.config_files import (
    add_trusted_endpoint,
    level_name,
    load_level,
    unset_settings,
    write_settings,
)
from store.config_keys import (
    DEFAULT_REMOTE,
    REMOTE_VARIABLES,
    Level,
    check_remote_name,
    remote_key,
    split_remote_key,
)
from store.errors import ConfigError
from store.git_command import RepositoryPaths

_Callback = Callable[..., None]

_LOCAL = click.option(
    "--local", is_flag=True, help="In this clone only, instead of the committed .revfsconfig."
)
_PLACE_OPTIONS = (
    click.option("--region", metavar="NAME", help="Region of the bucket, such as eu-central-1."),
    click.option("--endpoint", metavar="URL", help="S3 endpoint, for servers other than AWS."),
    click.option("--profile", metavar="NAME", help="AWS profile; only together with --local."),
    _LOCAL,
)


def _place_options(callback: _Callback) -> _Callback:
    """The options that add and modify share."""
    for option in reversed(_PLACE_OPTIONS):
        callback = option(callback)
    return callback


@click.group("remote")
def command() -> None:
    """Say where the data is kept: a bucket or a folder.

    Remotes are written to the committed .revfsconfig, which is staged, so that every clone knows
    them; with --local, to a file of this clone alone.

    \b
    Example:
      revfs remote add -d origin s3://my-bucket/my-data
    """


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("-d", "--default", "is_default", is_flag=True, help="Use it where none is named.")
@_place_options
@click.pass_obj
def add(
    app: App, /, name: str, url: str, is_default: bool, local: bool, **variables: str | None
) -> None:
    """Add the remote NAME at URL.

    URL is s3://bucket/prefix, a folder (a relative one is taken from the top of the repository),
    or file:///folder.

    \b
    Example:
      revfs remote add -d origin s3://my-bucket/my-data --region eu-central-1
    """
    level = _level(local)
    values = _given({"url": url, **variables}, level)
    paths, config = _load(app)
    if check_remote_name(name) in config.remote_names():
        origin = config.origin(remote_key(name, "url"))
        raise ConfigError(
            f"there is a remote {name} already, in {origin}: change it by `revfs remote modify`"
        )
    _write(app, paths, level, name, values, {DEFAULT_REMOTE: name} if is_default else {})
    app.console.say(f"added remote {name} ({_place(_reload(app, paths, name))}) {_kept(level)}")


@command.command("list")
@JSON
@click.pass_obj
def list_remotes(app: App, as_json: bool) -> None:
    """List the remotes, the default one among them, and where each is configured.

    \b
    Example:
      revfs remote list
    """
    _, config = _load(app)
    remotes = [_known(config, name) for name in config.remote_names()]
    default = config.default_remote_name()
    origins = {remote.name: config.origin(remote_key(remote.name, "url")) for remote in remotes}
    if as_json:
        app.console.out_json(
            [_as_json(remote, default, origins[remote.name]) for remote in remotes]
        )
    elif remotes:
        rows = [
            (remote.name, remote.url, _notes(remote, default), origins[remote.name])
            for remote in remotes
        ]
        app.console.table(("name", "url", "settings", "from"), rows)
    else:
        app.console.say("no remotes yet: `revfs remote add -d NAME URL` makes one")


@command.command("modify")
@click.argument("name", shell_complete=complete_remote)
@click.argument("key", required=False, type=click.Choice(REMOTE_VARIABLES))
@click.argument("value", required=False)
@click.option("--url", metavar="URL", help="Bucket and prefix, or folder.")
@_place_options
@click.option("--unset", multiple=True, type=click.Choice(REMOTE_VARIABLES), help="Drop a setting.")
@click.pass_obj
def modify(
    app: App,
    /,
    name: str,
    key: str | None,
    value: str | None,
    local: bool,
    unset: tuple[str, ...],
    **variables: str | None,
) -> None:
    """Change settings of the remote NAME, by options or by one KEY and VALUE.

    \b
    Example:
      revfs remote modify --local origin --profile work
      revfs remote modify --local origin profile work
    """
    if (key is None) != (value is None):
        raise click.UsageError("KEY and VALUE go together")
    level = _level(local)
    values = _given({**variables, **({key: value} if key else {})}, level)
    if not values and not unset:
        raise click.UsageError("nothing to change: give an option, or KEY and VALUE")
    paths, config = _load(app)
    _known(config, name)
    _unset(app, paths, level, name, unset)
    if values:
        _write(app, paths, level, name, values, {})
    app.console.say(f"changed remote {name} {_kept(level)}")


@command.command("remove")
@click.argument("name", shell_complete=complete_remote)
@_LOCAL
@click.pass_obj
def remove(app: App, name: str, local: bool) -> None:
    """Forget the remote NAME; what is stored there stays there.

    \b
    Example:
      revfs remote remove old
    """
    level = _level(local)
    paths, config = _load(app)
    _known(config, name)
    settings = load_level(paths, app.environment, level)
    own = [setting.key for setting in settings if split_remote_key(setting.key) == (name, "url")]
    if not own:
        origin = config.origin(remote_key(name, "url"))
        raise ConfigError(f"remote {name} does not stand in {level_name(level)}, but in {origin}")
    keys = [remote_key(name, variable) for variable in REMOTE_VARIABLES]
    keys += [s.key for s in settings if s.key == DEFAULT_REMOTE and s.value == name]
    unset_settings(paths, app.environment, level, keys)
    app.console.say(f"removed remote {name} {_kept(level)}")


@command.command("default")
@click.argument("name", shell_complete=complete_remote)
@_LOCAL
@click.pass_obj
def default(app: App, name: str, local: bool) -> None:
    """Use the remote NAME wherever none is named.

    \b
    Example:
      revfs remote default origin
    """
    level = _level(local)
    paths, config = _load(app)
    _known(config, name)
    write_settings(paths, app.environment, level, {DEFAULT_REMOTE: name})
    app.console.say(f"{name} is the default remote {_kept(level)}")


@command.command("trust")
@click.argument("name", shell_complete=complete_remote)
@click.pass_obj
def trust(app: App, name: str) -> None:
    """Trust the committed endpoint of the remote NAME, on this machine.

    An endpoint in .revfsconfig came with the clone: until you have said yes to it, nothing is
    sent there. The trust holds for that endpoint, in every repository of yours.

    \b
    Example:
      revfs remote trust origin
    """
    paths, config = _load(app)
    remote = _known(config, name)
    if remote.endpoint is None or remote.endpoint_trusted:
        reason = "no endpoint of its own" if remote.endpoint is None else remote.endpoint
        app.console.say(f"nothing to do for remote {name}: {reason} is trusted already")
        return
    add_trusted_endpoint(paths, app.environment, remote.endpoint)
    app.console.say(f"trusted {remote.endpoint} on this machine")


def _load(app: App) -> tuple[RepositoryPaths, Config]:
    paths = repository_of(app)
    return paths, load_config(paths, app.environment)


def _known(config: Config, name: str) -> RemoteSettings:
    """The remote of that name; ConfigError if there is none."""
    remote = config.remote(name)
    assert remote is not None
    return remote


def _reload(app: App, paths: RepositoryPaths, name: str) -> RemoteSettings:
    return _known(load_config(paths, app.environment), name)


def _level(local: bool) -> Level:
    return Level.LOCAL if local else Level.COMMITTED


def _kept(level: Level) -> str:
    if level is Level.COMMITTED:
        return "in .revfsconfig, which is staged; commit it"
    return "in this clone only"


def _given(variables: dict[str, str | None], level: Level) -> dict[str, str]:
    """The variables that were given. A profile for everybody is refused, as a usage error."""
    values = {variable: value for variable, value in variables.items() if value is not None}
    if "profile" in values and level is Level.COMMITTED:
        raise click.UsageError(
            "a profile names credentials of yours, and .revfsconfig is for everybody: "
            "set it with --local"
        )
    return values


def _write(
    app: App,
    paths: RepositoryPaths,
    level: Level,
    name: str,
    values: dict[str, str],
    more: dict[str, str],
) -> None:
    """Write variables of a remote. Who sets a committed endpoint trusts it, on this machine."""
    settings = {remote_key(name, variable): value for variable, value in values.items()}
    write_settings(paths, app.environment, level, settings | more)
    if "endpoint" in values and level is Level.COMMITTED:
        add_trusted_endpoint(paths, app.environment, values["endpoint"])


def _unset(
    app: App, paths: RepositoryPaths, level: Level, name: str, variables: tuple[str, ...]
) -> None:
    """Drop variables of a remote; ConfigError for one that does not stand at that level."""
    keys = {remote_key(name, variable) for variable in variables}
    missing = keys - {setting.key for setting in load_level(paths, app.environment, level)}
    if missing:
        raise ConfigError(f"{', '.join(sorted(missing))} is not set in {level_name(level)}")
    unset_settings(paths, app.environment, level, keys)


def _place(remote: RemoteSettings) -> str:
    return str(remote.folder) if remote.folder else remote.url


def _notes(remote: RemoteSettings, default: str | None) -> str:
    """The settings of a remote beside its url, in one cell of the list."""
    notes = ["default"] if remote.name == default else []
    notes += [f"region {remote.region}"] if remote.region else []
    if remote.endpoint:
        notes.append(
            f"endpoint {remote.endpoint}{'' if remote.endpoint_trusted else ' (not trusted)'}"
        )
    notes += [f"profile {remote.profile}"] if remote.profile else []
    return ", ".join(notes)


def _as_json(remote: RemoteSettings, default: str | None, origin: str) -> dict[str, object]:
    return {
        "name": remote.name,
        "url": remote.url,
        "default": remote.name == default,
        "region": remote.region,
        "endpoint": remote.endpoint,
        "endpoint_trusted": remote.endpoint_trusted,
        "profile": remote.profile,
        "from": origin,
    }
