"""`revfs init`: give a repository the id that its data goes by in every remote."""

from uuid import uuid4

import click

from cli.console import App
from cli.settings import repository_of
from store.config import load_config
from store.config_files import COMMITTED_FILE, write_settings
from store.config_keys import REPOSITORY_ID, Level
from store.errors import ConfigError


@click.command("init")
@click.pass_obj
def command(app: App) -> None:
    """Give this git repository its revfs id.

    Writes a random id to .revfsconfig at the top of the work tree and stages that file; there is
    nothing else to set up. Run again, it changes nothing.

    \b
    Example:
      git init && revfs init && git commit -m "Set up revfs"
    """
    paths = repository_of(app)
    config = load_config(paths, app.environment)
    present = config.get(REPOSITORY_ID)
    if present is not None:
        app.console.say(f"already set up: {present}, from {config.origin(REPOSITORY_ID)}")
        return
    if paths.work_tree is None:
        raise ConfigError(
            f"there is no work tree here, and HEAD holds no {COMMITTED_FILE} with an id: "
            "run `revfs init` in a clone with a work tree, commit, and push it here"
        )
    fresh = str(uuid4())
    write_settings(paths, app.environment, Level.COMMITTED, {REPOSITORY_ID: fresh})
    app.console.say(f"repository id {fresh}: written to {COMMITTED_FILE} and staged; commit it")
