"""`revfs status`: what is staged, not pushed yet, and cached."""

from dataclasses import asdict

import click

from cli.console import App, format_bytes, format_count
from cli.settings import load_settings
from cli.stores import store_settings
from store.git import Commit
from store.opening import LocalStore
from store.status import Status, read_status


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(app: App, as_json: bool) -> None:
    """Show what is staged, what of HEAD's history is not pushed as far as this machine knows, and
    what the cache holds. Asks no remote; git status tells which files are changed.

    \b
    Example:
      revfs status
    """
    settings = load_settings(app)
    repository_id = settings.config.get("repository.id")
    with LocalStore(store_settings(settings), to_write=False) as local:
        store = local.load_store_id()
        pushed = (
            local.index.load_pushed_commits(store, repository_id)
            if store is not None and repository_id is not None
            else set()
        )

        def is_pushed(commit: Commit) -> bool:
            return commit.commit in pushed

        status = read_status(
            local.repository, local.directories, local.index, local.staging, is_pushed
        )
    if as_json:
        app.console.out_json(asdict(status))
    else:
        _show(app, status)


def _show(app: App, status: Status) -> None:
    staged, files, cached = status.staged_packs, status.unpushed_files, status.cached_packs
    packs = format_count(staged.items, "pack")
    app.console.out(f"staged    {packs}, {format_bytes(staged.size_bytes)}")
    commits = format_count(status.unpushed_commits, "commit")
    of_them = f"{format_count(files.items, 'file')} of them staged"
    app.console.out(f"unpushed  {commits}; {of_them}, {format_bytes(files.size_bytes)}")
    app.console.out(
        f"cached    {format_count(cached.items, 'pack')}, {format_bytes(cached.size_bytes)}"
    )
