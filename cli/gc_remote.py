"""`revfs gc --remote`: space is given back in a remote; and `--undo`, which takes that back."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

import trio

from cli.console import App, format_count
from cli.durations import format_day
from cli.gc_options import RemoteFlags
from cli.gc_shown import PACK_HEADERS, gc_words, pack_rows, plan_json
from cli.one_progress import OneProgress
from cli.push import other_remotes
from cli.settings import Settings, load_settings
from cli.stores import require_initialised, store_settings
from store.collection import CollectionRules
from store.errors import ConfigError
from store.gc import GcContext, GcPlan, plan_gc
from store.ids import GitId
from store.keep_policy import KeepPolicy, find_dropped, load_names
from store.local_store import LocalStore
from store.push import PushContext, PushSummary
from store.push_opening import open_push
from store.repack import RepackPlan, plan_repack
from store.tool_name import tool_name
from store.undo import plan_undo

_MOST_ROWS = 30


def collect_remote(
    app: App, flags: RemoteFlags, grace_seconds: float | None, *, dry_run: bool, as_json: bool
) -> None:
    """Show what is to go from the remote, and have it gone. Raises StoreError."""
    settings = _remote_settings(app, flags.remote_name)
    rules = CollectionRules(most_share=flags.share)
    if grace_seconds is not None:
        rules = replace(rules, grace_seconds=grace_seconds)
    with (
        LocalStore(store_settings(settings), to_write=True) as local,
        OneProgress(app.console) as shown,
    ):
        run = _RemoteGcRun(app, settings, local, flags, rules, shown, dry_run, as_json)
        trio.run(run.run)


def undo_remote(app: App, remote_name: str | None, revisions: Collection[str]) -> None:
    """Bring back what was forgotten. Raises StoreError."""
    settings = _remote_settings(app, remote_name)
    with (
        LocalStore(store_settings(settings), to_write=True) as local,
        OneProgress(app.console) as shown,
    ):
        wanted = {local.repository.resolve(text).commit for text in revisions} or None
        assert local.staging is not None
        with local.staging.locked("push"):
            done, unknown = trio.run(_undo, settings, local, wanted, shown)
    for commit in unknown:
        app.console.warn(f"commit {commit[:12]} is not known here and stays forgotten: git fetch")
    if not done.commits and not unknown:
        app.console.say("nothing of this repository was forgotten there")
    else:
        app.console.say(f"brought back {format_count(done.commits, 'commit')}")


def _remote_settings(app: App, name: str | None) -> Settings:
    settings = load_settings(app, remote_name=name)
    if settings.remote is None:
        raise ConfigError("there is no remote yet: `revfs remote add -d NAME URL` makes one")
    require_initialised(settings)
    return settings


async def _undo(
    settings: Settings, local: LocalStore, wanted: set[GitId] | None, shown: OneProgress
) -> tuple[PushSummary, tuple[GitId, ...]]:
    identity = require_initialised(settings)
    async with open_push(local, identity, tool_name(), other_remotes(settings)) as context:
        plan = await plan_undo(context, local.repository, wanted)
        return await plan.execute(
            context, shown.show("look"), partial(shown.show, "write")
        ), plan.unknown


@dataclass(frozen=True, slots=True)
class _RemoteGcRun:
    app: App
    settings: Settings
    local: LocalStore
    flags: RemoteFlags
    rules: CollectionRules
    shown: OneProgress
    dry_run: bool
    as_json: bool

    async def run(self) -> None:
        """Plan, show, do; first what needs no new pack, then what does."""
        identity = require_initialised(self.settings)
        others = other_remotes(self.settings)
        async with open_push(self.local, identity, tool_name(), others) as context:
            timeout = context.timeout_seconds
            gc = GcContext(context.remote, identity, context.tool, timeout, self.rules)
            drop = partial(find_dropped, self.local.repository, self._policy())
            plan = await plan_gc(gc, drop, to_act=not self.dry_run)
            try:
                repack = await self._plan_repack(context, plan)
                self.shown.close()
                self._show(plan, repack)
            except BaseException:
                if plan.lease is not None:
                    await plan.lease.drop()
                raise
            if not self.dry_run:
                await self._act(context, plan, repack)

    def _policy(self) -> KeepPolicy:
        flags, repository = self.flags, self.local.repository
        commits = [c for text in flags.keep_commits for c in repository.commits_named(text)]
        return KeepPolicy(flags.branches, flags.tags, flags.since_seconds, tuple(commits))

    async def _plan_repack(self, context: PushContext, plan: GcPlan) -> RepackPlan | None:
        if self.flags.no_repack:
            return None
        return await plan_repack(context, plan, self.local.repository, self.shown.show("look"))

    async def _act(self, context: PushContext, plan: GcPlan, repack: RepackPlan | None) -> None:
        summary = await plan.execute(0 if repack is None else repack.dead_bytes)
        if repack is not None and repack.packs:
            assert self.local.staging is not None
            with self.local.staging.locked("push"):
                await repack.execute(
                    context, self.shown.show("look"), partial(self.shown.show, "write")
                )
            self.shown.close()
        if not self.as_json:
            self.app.console.say(gc_words(summary, repack))

    def _show(self, plan: GcPlan, repack: RepackPlan | None) -> None:
        names = load_names(self.settings.paths, plan.forgotten_commits)
        console = self.app.console
        if self.as_json:
            console.out_json(plan_json(plan, repack, names, dry_run=self.dry_run))
            return
        if console.quiet:
            return
        if names:
            console.say(f"{format_count(len(names), 'commit')} no policy keeps:")
            rows = [(n.commit[:12], format_day(n.time_seconds), n.subject) for n in names]
            console.table(("COMMIT", "DATE", "SUBJECT"), rows[:_MOST_ROWS])
            if len(rows) > _MOST_ROWS:
                console.say(f"… and {len(rows) - _MOST_ROWS:,} more; --json has them all")
        console.table(PACK_HEADERS, pack_rows(plan, repack))
