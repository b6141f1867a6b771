"""`revfs add`: files and folders become tracked."""

from pathlib import Path

import click

from cli.console import App, format_bytes, format_count
from cli.settings import load_settings
from cli.stores import jobs, require_initialised, store_settings
from store.add import AddContext, AddSummary, plan_add
from store.errors import ConfigError
from store.opening import LocalStore


@click.command("add")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.pass_obj
def command(app: App, paths: tuple[Path, ...]) -> None:
    """Track files and folders: their data is staged for `revfs push`, and git's index gets a small
    pointer for each, to be committed.

    Files that did not change since they were last added are not read again. Symbolic links are kept
    as links; sockets, pipes and devices are refused. If one file cannot be added, git's index stays
    as it was.

    \b
    Example:
      revfs add train labels.csv && git commit -m "First version"
    """
    settings = load_settings(app)
    work_tree = settings.paths.work_tree
    if work_tree is None:
        raise ConfigError("a bare repository has no work tree to add from")
    require_initialised(settings)
    with LocalStore(store_settings(settings), to_write=True) as local:
        assert local.staging is not None
        with local.staging.locked("add"):
            context = AddContext(
                repository=local.repository,
                work_tree=work_tree,
                staging=local.staging,
                stat_cache=local.open_stat_cache(),
                chunking=local.load_chunking(),
                is_known=local.is_known,
            )
            plan = plan_add(context, app.cwd, paths)
            with app.console.progress("add", plan.bytes_to_read) as progress:
                summary = plan.execute(progress, jobs())
    app.console.say(_words(summary))


def _words(summary: AddSummary) -> str:
    words = (
        f"added {format_count(summary.added, 'file')} ({format_bytes(summary.read_bytes)} read, "
        f"{format_bytes(summary.staged_bytes)} staged)"
    )
    if summary.unchanged:
        words += f", {summary.unchanged:,} unchanged"
    if summary.removed:
        words += f", {summary.removed:,} removed"
    return words
