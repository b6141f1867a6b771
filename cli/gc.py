"""`revfs gc`: giving space back."""

import click

from cli.completing import complete_revision
from cli.console import App
from cli.durations import DURATION
from cli.gc_local import LocalGcFlags, collect_locally
from cli.gc_options import RemoteFlags, remote_options
from cli.options import JSON
from cli.settings import load_settings


@click.command("gc")
@click.argument("revisions", metavar="[REV...]", nargs=-1, shell_complete=complete_revision)
@click.option(
    "--all", "everything", is_flag=True, help="Evict all of the cache that can be fetched again."
)
@remote_options
@click.option(
    "--grace",
    "grace_seconds",
    type=DURATION,
    metavar="TIME",
    help="Keep what was used within that time, like 12h or 30d (14d; in a remote 7d).",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@JSON
@click.pass_obj
def command(
    app: App,
    revisions: tuple[str, ...],
    everything: bool,
    remote: RemoteFlags,
    grace_seconds: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give space back on this machine, or in a remote, and show first what goes.

    On this machine: of the cache what is over its budget (cache.size; without one, until a tenth of
    the disk is free), least recently used first, with --all everything that can be fetched again;
    and staged packs, which no remote has yet, that nothing git can come back to needs, in any
    worktree, and nobody has relied on within the grace. Where that cannot be told, as in a shallow
    clone, they stay, and the exit code says so. What killed commands have left goes too.

    With --remote: packs that no commit in the remote needs. Commits of this repository that no
    --keep-… keeps are forgotten, but for what is checked out or not known here; with no --keep-…,
    none. Packs are condemned first, and deleted by a later gc, after the grace; until then --undo
    brings commits back. Packs of which less than half is needed are written anew.

    \b
    Example:
      revfs gc --all --dry-run
      revfs gc --remote origin --keep-branches --keep-tags --keep-since 90d
    """
    remote.require_meant(everything, revisions)
    if remote.remote_name is None and not remote.undo:
        flags = LocalGcFlags(everything, grace_seconds, dry_run=dry_run, as_json=as_json)
        collect_locally(app, load_settings(app), flags)
        return
    from cli.gc_remote import collect_remote, undo_remote

    if remote.undo:
        undo_remote(app, remote.remote_name, revisions)
    else:
        collect_remote(app, remote, grace_seconds, dry_run=dry_run, as_json=as_json)
