"""`revfs checkout`: data that is here is written over the pointers of the work tree."""

from pathlib import Path

import click

from cli.console import App, format_bytes, format_count
from cli.options import JSON
from cli.work_tree import open_work_tree, raise_failures
from store.checkout import CheckoutSummary, plan_checkout


@click.command("checkout")
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=click.Path(path_type=Path))
@JSON
@click.pass_obj
def command(app: App, paths: tuple[Path, ...], as_json: bool) -> None:
    """Write the data of tracked files that is here over their pointers in the work tree: of the
    files and folders named, or of all.

    Nothing is fetched; revfs pull does that. Files that were changed are left alone, and git
    restore brings back those that are missing.

    \b
    Example:
      git checkout v1.2 && revfs checkout train
    """
    with open_work_tree(app, paths, network=False) as tree:
        plan = plan_checkout(tree.local, tree.top, tree.arguments)
        with app.console.progress("checkout", None) as progress:
            summary = plan.execute(progress, fetch=False)
    say_checkout(app, summary, as_json=as_json)
    raise_failures(summary.failures, "some files stay pointers")


def say_checkout(app: App, summary: CheckoutSummary, *, as_json: bool) -> None:
    """Say what was written, and what was not because it is not here."""
    if as_json:
        app.console.out_json(
            {
                "files": summary.files,
                "bytes": summary.written_bytes,
                "not_here": summary.absent,
                "failed": len(summary.failures),
                "fetched_bytes": summary.fetched_bytes,
            }
        )
        return
    app.console.say(_words(summary))


def _words(summary: CheckoutSummary) -> str:
    if not (summary.files or summary.absent or summary.failures):
        return "no pointers to write data over"
    words = f"wrote {format_count(summary.files, 'file')} ({format_bytes(summary.written_bytes)})"
    if summary.fetched_bytes:
        words += f", {format_bytes(summary.fetched_bytes)} fetched"
    if summary.absent:
        stay = "stays a pointer" if summary.absent == 1 else "stay pointers"
        files = format_count(summary.absent, "file")
        words += f"; {files} {stay}, since the data is not here: revfs pull fetches it"
    return words
