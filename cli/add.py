"""`revfs add`: files and folders become tracked, where they stand or from elsewhere."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from cli import stores
from cli.console import App, format_bytes, format_count
from cli.git_set_up import ensure_set_up
from cli.options import JSON
from cli.settings import load_settings
from cli.stores import require_initialised, store_settings
from store.add import AddContext, AddPlan, AddSummary, plan_add
from store.add_elsewhere import plan_add_elsewhere
from store.errors import ConfigError, StoreError
from store.local_store import LocalStore
from store.shown_names import escape_name


@click.command("add")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--to",
    "target",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Make PATH what the one file or folder named before is, which lies outside the work tree "
    "and stays there.",
)
@click.option("-f", "--force", is_flag=True, help="Add what is ignored, too.")
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Say what would be done, and do nothing; exit code 1 where it would be refused.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="How many threads read and compress; one for each core that revfs may use.",
)
@JSON
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    target: Path | None,
    force: bool,
    dry_run: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Track files and folders: their data is staged for `revfs push`, and git's index gets a small
    pointer for each, to be committed.

    Files that did not change since they were last added are not read again. Symbolic links are kept
    as links; sockets, pipes and devices are refused. What .gitignore and git's other rules name, or
    a .revfsignore of the same form, is passed over, unless git's index has it already; so is, by an
    add of all (`.` at the top), what git keeps itself and nobody named. If one file
    cannot be added, git's index stays as it was.

    With --to, a version is made from data that lies elsewhere, without a copy in the work tree: the
    files below PATH become those of the folder named, git takes their absence for granted
    (skip-worktree), and pointers that stood there are taken away. Of ignore rules, only the
    .revfsignore files in that folder count. A clone without a checkout will do.

    \b
    Example:
      revfs add train labels.csv && git commit -m "First version"
      revfs add /data/imagenet --to imagenet && git commit -m "From the NAS"
    """
    if target is not None and len(paths) != 1:
        raise click.UsageError("--to takes one file or folder to add")
    wanted = _Wanted(paths, target, force)
    with _opened(ctx.obj) as context:
        if not dry_run:
            _add(ctx.obj, context, wanted, jobs or stores.jobs(), as_json=as_json)
        elif not _show_plan(
            ctx.obj, wanted.plan(ctx.obj, context, keep_going=True), as_json=as_json
        ):
            ctx.exit(1)


class _Wanted(NamedTuple):
    """What the command line says is to be added."""

    paths: tuple[Path, ...]
    target: Path | None
    force: bool

    def plan(self, app: App, context: AddContext, *, keep_going: bool) -> AddPlan:
        """What is to be done for it."""
        with app.console.progress("look", None) as progress:
            if self.target is None:
                return plan_add(
                    context,
                    app.cwd,
                    self.paths,
                    force=self.force,
                    keep_going=keep_going,
                    progress=progress,
                )
            return plan_add_elsewhere(
                context,
                app.cwd,
                self.paths[0],
                self.target,
                force=self.force,
                keep_going=keep_going,
                progress=progress,
            )


@contextmanager
def _opened(app: App) -> Iterator[AddContext]:
    settings = load_settings(app)
    if settings.paths.work_tree is None:
        raise ConfigError("a bare repository has no work tree to add from")
    require_initialised(settings)
    with LocalStore(store_settings(settings), to_write=True) as local:
        yield AddContext.of(local, settings.paths.work_tree)


def _add(app: App, context: AddContext, wanted: _Wanted, jobs: int, *, as_json: bool) -> None:
    ensure_set_up(app, context.repository.paths)
    with context.staging.locked("add"):
        plan = wanted.plan(app, context, keep_going=False)
        with app.console.progress("add", plan.bytes_to_read) as progress:
            summary = plan.execute(progress, jobs)
    if as_json:
        app.console.out_json(_facts(summary))
    else:
        app.console.say(_words(summary))
        _say_kept(app, summary.kept)


def _say_kept(app: App, kept: int) -> None:
    if kept:
        files = format_count(kept, "file")
        app.console.say(f"passed over {files} that git keeps itself: name them to track them")


def _show_plan(app: App, plan: AddPlan, *, as_json: bool) -> bool:
    """Print what an add would do. Whether it would be done, and not refused."""
    refused = plan.load_refused()
    if as_json:
        app.console.out_json(_plan_facts(plan, refused))
        return not refused
    files = plan.files
    for verb, names in (
        ("add", [file.path for file in (*files.to_read, *files.links)]),
        ("remove", plan.gone),
        ("take away the pointer", plan.elsewhere.standing if plan.elsewhere else ()),
        ("pass over", plan.ignored.shown()),
        ("leave to git", plan.kept),
    ):
        for name in sorted(names):
            app.console.out(f"would {verb} {escape_name(name)}")
    for error in refused:
        app.console.out(f"would refuse: {error}")
    words = (
        f"would add {format_count(len(files.to_read) + len(files.links), 'file')} "
        f"({format_bytes(plan.bytes_to_read)} to read)"
    )
    app.console.say(words + _more_words(len(files.unchanged), len(plan.gone)))
    return not refused


def _words(summary: AddSummary) -> str:
    words = (
        f"added {format_count(summary.added, 'file')} ({format_bytes(summary.read_bytes)} read, "
        f"{format_bytes(summary.staged_bytes)} staged)"
    )
    return words + _more_words(summary.unchanged, summary.removed)


def _more_words(unchanged: int, removed: int) -> str:
    words = f", {unchanged:,} unchanged" if unchanged else ""
    return words + (f", {removed:,} removed" if removed else "")


def _facts(summary: AddSummary) -> dict[str, object]:
    return {
        "dry_run": False,
        "added": summary.added,
        "unchanged": summary.unchanged,
        "removed": summary.removed,
        "read_bytes": summary.read_bytes,
        "staged_bytes": summary.staged_bytes,
        "kept_by_git": summary.kept,
    }


def _plan_facts(plan: AddPlan, refused: Sequence[StoreError]) -> dict[str, object]:
    files = plan.files
    return {
        "dry_run": True,
        "add": _names([file.path for file in (*files.to_read, *files.links)]),
        "unchanged": _names([file.path for file, _ in files.unchanged]),
        "remove": _names(plan.gone),
        "pointers_to_take_away": _names(plan.elsewhere.standing if plan.elsewhere else ()),
        "ignored": _names(plan.ignored.shown()),
        "kept_by_git": _names(plan.kept),
        "refused": [str(error) for error in refused],
        "bytes_to_read": plan.bytes_to_read,
    }


def _names(paths: Sequence[bytes]) -> list[str]:
    return [os.fsdecode(path) for path in sorted(paths)]
