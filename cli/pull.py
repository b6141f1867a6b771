"""`revfs pull`: data is fetched, and written over the pointers of the work tree."""

from pathlib import Path

import click

from cli.checkout import say_checkout
from cli.console import App
from cli.options import JSON, REMOTE
from cli.work_tree import open_work_tree, raise_failures
from store.checkout import plan_checkout


@click.command("pull")
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=click.Path(path_type=Path))
@REMOTE
@JSON
@click.pass_obj
def command(app: App, paths: tuple[Path, ...], remote_name: str | None, as_json: bool) -> None:
    """Fetch the data of tracked files and write it over their pointers in the work tree: of the
    files and folders named, or of all.

    Files that were changed are left alone. If some cannot be fetched the others are written, and
    the exit code is 1.

    \b
    Example:
      git pull && revfs pull train
    """
    with open_work_tree(app, paths, remote_name=remote_name, network=True) as tree:
        plan = plan_checkout(tree.local, tree.top, tree.arguments)
        with app.console.progress("pull", plan.bytes_to_write) as progress:
            summary = plan.execute(progress, fetch=True)
    say_checkout(app, summary, as_json=as_json)
    raise_failures(summary.failures, "some files stay pointers")
