"""`revfs export`: a revision as plain files, without a mount."""

import os
from pathlib import Path

import click
import trio

from cli.completing import complete_revision_then_place
from cli.console import App, format_bytes, format_count
from cli.options import JSON, REMOTE, TIMEOUT
from cli.settings import load_settings
from cli.stores import store_settings
from store.export import ExportSummary, plan_export
from store.local_store import LocalStore
from store.materialise import FILES_AT_ONCE


@click.command("export")
@click.argument(
    "words",
    metavar="REV [PATH] DIR",
    nargs=-1,
    required=True,
    shell_complete=complete_revision_then_place,
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 512),
    default=FILES_AT_ONCE,
    show_default=True,
    help="How many files are fetched and written at once.",
)
@click.option("--force", is_flag=True, help="Replace files that are in the way.")
@JSON
@REMOTE
@TIMEOUT
@click.pass_obj
def command(
    app: App,
    words: tuple[str, ...],
    jobs: int,
    force: bool,
    as_json: bool,
    remote_name: str | None,
    timeout: float | None,
) -> None:
    """Write the files of revision REV, or of its folder PATH, to the folder DIR; for places without
    FUSE. PATH may be a single file. DIR is made if it is missing.

    What is in the way is refused before anything is written. A run that was interrupted goes on
    where it was: each file gets the time of the commit, with a fraction of a second that stands for
    its content, and one that is there with that time and the right size is done.

    \b
    Example:
      revfs export v1.2 train /scratch/train
    """
    if len(words) not in (2, 3):
        raise click.UsageError("give a revision, a path in it if not all is meant, and a folder")
    path = words[1] if len(words) == 3 else ""
    folder = app.cwd / Path(words[-1])
    settings = load_settings(app, remote_name=remote_name, timeout=timeout)
    with LocalStore(store_settings(settings), to_write=False) as local:
        revision = local.repository.resolve(words[0])
        plan = plan_export(local, revision, os.fsencode(path), folder, force=force)
        with app.console.progress("export", plan.bytes_to_write) as progress:
            summary = trio.run(plan.execute, progress, jobs)
    if as_json:
        app.console.out_json({"commit": revision.commit, "folder": str(folder)} | _facts(summary))
    else:
        app.console.say(f"{_words(summary)} to {folder}{_rest(summary)}")


def _words(summary: ExportSummary) -> str:
    files = format_count(summary.files, "file")
    return f"exported {files} ({format_bytes(summary.written_bytes)})"


def _rest(summary: ExportSummary) -> str:
    words = f", {summary.done_files:,} were there already" if summary.done_files else ""
    if summary.submodules:
        words += f"; {format_count(summary.submodules, 'submodule')} left out"
    return words


def _facts(summary: ExportSummary) -> dict[str, object]:
    return {
        "files": summary.files,
        "bytes": summary.written_bytes,
        "done_files": summary.done_files,
        "submodules": summary.submodules,
    }
