"""`revfs remove`: files are tracked no longer, and stay where they are."""

import os
from dataclasses import replace
from pathlib import Path

import click

from cli.console import App, format_count
from cli.options import JSON
from cli.work_tree import WorkTree, open_work_tree, raise_failures
from store.checkout import CheckoutSummary, plan_checkout
from store.remove import RemovePlan, plan_remove
from store.shown_names import escape_name


@click.command("remove")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@JSON
@click.pass_obj
def command(app: App, paths: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Stop tracking files and folders. The files stay in the work tree; git rm deletes.

    In git's terms it is git rm --cached, and more: the paths leave git's index, so that the next
    commit has them no longer, and the lines that mark them leave .gitattributes; that of a folder
    once nothing below it is tracked any more. Earlier commits keep their data, here and in every
    remote. Git then sees new files, which git add would take for its own: name them in .gitignore
    if they are to stay here.

    A file that is the text of a pointer here becomes data first, if its data is here.

    \b
    Example:
      revfs remove scratch && git commit -m "No scratch data any more"
    """
    with open_work_tree(app, paths, network=False) as tree:
        if dry_run:
            _show_plan(app, _plan(tree), as_json=as_json)
            return
        assert tree.local.staging is not None
        with tree.local.staging.locked("add"):
            plan = _plan(tree)
            written = _write_data(app, tree, plan)
            # Anew: git's index has learnt of the files that were written.
            _plan(tree).execute()
    if as_json:
        app.console.out_json(_facts(plan, dry_run=False) | {"still_pointers": written.absent})
        return
    app.console.say(
        f"removed {format_count(len(plan.paths), 'file')} from git's index; "
        "what stands in the work tree stays"
    )
    if written.absent:
        app.console.warn(
            f"{format_count(written.absent, 'file')} of them stay pointers, since the data "
            "is not here: to have it, undo this with git restore --staged, and run revfs pull first"
        )


def _plan(tree: WorkTree) -> RemovePlan:
    return plan_remove(tree.local.repository, tree.top, tree.arguments)


def _write_data(app: App, tree: WorkTree, plan: RemovePlan) -> CheckoutSummary:
    """Write what data is here over the pointers that are to lose their place in git's index."""
    wanted = set(plan.paths)
    checkout = plan_checkout(tree.local, tree.top, tree.arguments)
    files = [file for file in checkout.files if file.path in wanted]
    with app.console.progress("remove", None) as progress:
        summary = replace(checkout, files=files).execute(progress, fetch=False)
    raise_failures(summary.failures, "nothing was removed, since some files stay pointers")
    return summary


def _show_plan(app: App, plan: RemovePlan, *, as_json: bool) -> None:
    if as_json:
        app.console.out_json(_facts(plan, dry_run=True))
        return
    for path in plan.paths:
        app.console.out(f"would remove {escape_name(path)}")
    app.console.say(f"would remove {format_count(len(plan.paths), 'file')} from git's index")


def _facts(plan: RemovePlan, *, dry_run: bool) -> dict[str, object]:
    return {"dry_run": dry_run, "removed": [os.fsdecode(path) for path in plan.paths]}
