"""`revfs push`: the data of commits goes to a remote."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import click
import trio

from cli.completing import complete_revision
from cli.console import App, format_bytes, format_count
from cli.one_progress import OneProgress
from cli.options import JSON, REMOTE
from cli.settings import Settings, load_settings
from cli.stores import require_initialised, store_settings
from store.config import RemoteSettings
from store.errors import ConfigError
from store.git import Commit, GitRepository
from store.local_store import LocalStore
from store.push import PushSummary, plan_push
from store.push_opening import open_push
from store.tool_name import tool_name


@click.command("push")
@click.argument("revisions", metavar="[REV...]", nargs=-1, shell_complete=complete_revision)
@REMOTE
@click.option("--all", "all_refs", is_flag=True, help="Push all branches and tags.")
@JSON
@click.pass_obj
def command(
    app: App,
    revisions: tuple[str, ...],
    remote_name: str | None,
    all_refs: bool,
    as_json: bool,
) -> None:
    """Upload what the remote lacks of HEAD and its history, or of each REV and its history.

    A commit counts as pushed when all its data is in the remote; a push that is stopped leaves
    nothing half, and the next one goes on from there. git push does this by itself, before the
    refs, where `revfs init` has set the hook up.

    \b
    Example:
      revfs push --all
    """
    if all_refs and revisions:
        raise click.UsageError("give revisions or --all, not both")
    settings = load_settings(app, remote_name=remote_name)
    if settings.remote is None:
        raise ConfigError("there is no remote yet: `revfs remote add -d NAME URL` makes one")
    require_initialised(settings)
    with LocalStore(store_settings(settings), to_write=True) as local:
        summary = push_commits(
            app, settings, local, _commits(local.repository, revisions, all_refs)
        )
    if as_json:
        app.console.out_json({"remote": settings.remote.url, **asdict(summary)})
    else:
        app.console.say(push_words(summary, settings.remote.url))


def push_commits(
    app: App, settings: Settings, local: LocalStore, commits: Sequence[Commit]
) -> PushSummary:
    """Push commits (parents first) to the remote of these settings, which must have one, and show
    how it goes. Raises StoreError."""
    repository_id = require_initialised(settings)
    assert local.staging is not None
    with local.staging.locked("push"), OneProgress(app.console) as shown:
        return trio.run(_push, local, settings, repository_id, commits, shown)


def _commits(repository: GitRepository, revisions: Sequence[str], all_refs: bool) -> list[Commit]:
    if all_refs:
        return repository.history(repository.branch_and_tag_commits())
    names = list(revisions) or ["HEAD"]
    if names == ["HEAD"] and not repository.head_exists():
        raise ConfigError("there is no commit yet: git commit first")
    return repository.history(repository.resolve(name).commit for name in names)


async def _push(
    local: LocalStore,
    settings: Settings,
    repository_id: str,
    commits: Sequence[Commit],
    shown: OneProgress,
) -> PushSummary:
    tool = tool_name()
    async with open_push(local, repository_id, tool, other_remotes(settings)) as context:
        plan = await plan_push(context, commits, shown.show("compare"))
        return await plan.execute(partial(shown.show, "push"))


def other_remotes(settings: Settings) -> list[RemoteSettings]:
    """The other remotes of the repository, which may have what is not here any more."""
    found = [settings.config.remote(name) for name in settings.config.remote_names()]
    return [r for r in found if r is not None and r != settings.remote and r.endpoint_trusted]


def push_words(summary: PushSummary, url: str) -> str:
    """What was done, for a person."""
    if not summary.commits:
        return f"{url} has everything already"
    commits = format_count(summary.commits, "commit")
    return f"pushed {commits} to {url}: {format_bytes(summary.uploaded_bytes)} uploaded"
