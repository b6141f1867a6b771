"""`revfs gc`: giving space back."""

import click

from cli.console import App
from cli.durations import DURATION
from cli.gc_local import LocalGcFlags, collect_locally
from cli.options import JSON
from cli.settings import load_settings


@click.command("gc")
@click.option(
    "--all", "everything", is_flag=True, help="Evict all of the cache that can be fetched again."
)
@click.option(
    "--grace",
    "grace_seconds",
    type=DURATION,
    metavar="TIME",
    help="Keep what was used within that time, like 12h or 30d (14d).",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@JSON
@click.pass_obj
def command(
    app: App, everything: bool, grace_seconds: float | None, dry_run: bool, as_json: bool
) -> None:
    """Give space back on this machine, and show first what goes.

    From the cache goes what is over its budget (cache.size; without one, until a tenth of the disk
    is free), least recently used first; with --all, everything that can be fetched again, also
    below running mounts. Staged packs, which no remote has yet, go where no ref, index, stash or
    reflog of any worktree, no running mount, and nothing that git is in the middle of, needs a
    chunk of them, and nobody has relied on them within the grace. Where that cannot be told, as in
    a shallow clone, they all stay, and the exit code says so. What killed commands and mounts that
    are gone have left goes too.

    \b
    Example:
      revfs gc --all --dry-run
    """
    settings = load_settings(app)
    collect_locally(
        app, settings, LocalGcFlags(everything, grace_seconds, dry_run=dry_run, as_json=as_json)
    )
