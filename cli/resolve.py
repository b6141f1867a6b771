"""`revfs resolve`: ends a conflict over data files."""

from pathlib import Path

import click

from cli.console import App, format_count
from cli.options import JSON
from cli.work_tree import open_work_tree
from store.resolve import ResolveSummary, Side, plan_resolve


@click.command("resolve")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--ours", is_flag=True, help="Take our side, as git checkout --ours would.")
@click.option("--theirs", is_flag=True, help="Take their side, as git checkout --theirs would.")
@click.option("--force", is_flag=True, help="Replace files that were edited since the conflict.")
@JSON
@click.pass_obj
def command(
    app: App, paths: tuple[Path, ...], ours: bool, theirs: bool, force: bool, as_json: bool
) -> None:
    """End a conflict over data files with the one side or the other: files that are named, and all
    in conflict below folders. A side that deleted a file deletes it.

    In a rebase git calls "ours" the branch that is rebased onto, and "theirs" the commit that is
    being replayed.

    \b
    Example:
      git merge their-branch; revfs resolve --theirs train && git commit
    """
    if ours == theirs:
        raise click.UsageError("say which side is taken: --ours or --theirs")
    side = Side.OURS if ours else Side.THEIRS
    with open_work_tree(app, paths, network=False) as tree:
        plan = plan_resolve(tree.local, tree.top, tree.arguments, side)
        with app.console.progress("resolve", None) as progress:
            summary = plan.execute(progress, force=force)
    if as_json:
        app.console.out_json(_facts(summary))
    else:
        app.console.say(_words(summary, side))


def _words(summary: ResolveSummary, side: Side) -> str:
    count = summary.written + summary.pointers + summary.removed
    words = f"resolved {format_count(count, 'file')} with {side.name.lower()}"
    if summary.removed:
        words += f", {summary.removed:,} of them removed"
    if summary.pointers:
        words += (
            f"; the data of {summary.pointers:,} is not here, so that they are pointers: revfs "
            "pull fetches it"
        )
    if summary.left_to_git:
        files = format_count(summary.left_to_git, "file")
        words += (
            f"; still in conflict: {files} that git keeps itself, for git checkout "
            f"--{side.name.lower()} and git add, or git rm, to end"
        )
    return words


def _facts(summary: ResolveSummary) -> dict[str, object]:
    return {
        "written": summary.written,
        "pointers": summary.pointers,
        "removed": summary.removed,
        "left_to_git": summary.left_to_git,
    }
