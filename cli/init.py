"""`revfs init`: set a repository, or a clone of one, up for revfs."""

from uuid import uuid4

import click

from cli.console import App
from cli.git_set_up import set_hook_up
from cli.own_command import own_command
from cli.settings import repository_of
from store.config import load_config
from store.config_files import COMMITTED_FILE, write_settings
from store.config_keys import REPOSITORY_ID, Level
from store.errors import ConfigError
from store.git_command import RepositoryPaths
from store.git_setup import set_filter_up


@click.command("init")
@click.option("--hooks", is_flag=True, help="Add our lines to a pre-push hook that is there.")
@click.option("--no-hooks", is_flag=True, help="Leave hooks alone: git push sends no data.")
@click.pass_obj
def command(app: App, hooks: bool, no_hooks: bool) -> None:
    """Set this git repository up, or this clone of one that is.

    Gives the repository a random id in .revfsconfig, which is staged; sets git's filter up in its
    configuration, so that git add, status, checkout and the rest do the right thing on tracked
    files; and writes a pre-push hook, so that git push sends the data before the refs. A hook that
    is there already, or a folder of hooks that is shared (core.hooksPath), is left as it is unless
    --hooks is given. Run again, it mends what is missing.

    \b
    Example:
      git init && revfs init && git commit -m "Set up revfs"
    """
    if hooks and no_hooks:
        raise click.UsageError("--hooks and --no-hooks exclude each other")
    paths = repository_of(app)
    _give_id(app, paths)
    if paths.work_tree is None:
        return
    words = own_command()
    if set_filter_up(paths, words):
        app.console.say("git's filter for tracked files is set up in this clone")
    if not no_hooks:
        set_hook_up(paths, words, app.console.say, may_change=hooks)


def _give_id(app: App, paths: RepositoryPaths) -> None:
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
