"""The local half of `revfs gc`: the plan as a table or JSON, and doing it."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from cli.console import App, format_bytes
from cli.durations import format_duration
from cli.push import other_remotes
from cli.settings import Settings
from cli.stores import open_mount_records, store_settings
from store.cache_rows import PackUse
from store.config import RemoteSettings
from store.errors import StoreError
from store.ids import GitId, is_git_id
from store.local_gc import CachePlan, LocalGcPlan, LocalGcSummary, plan_local_gc
from store.local_gc_lists import fetch_lists
from store.local_gc_staged import DEFAULT_GRACE_SECONDS, StagedPlan
from store.local_store import LocalStore
from store.opening import unwrapped
from store.staging import StagedPack
from vfs.mount_logs import OldLog, find_old_logs


@dataclass(frozen=True, slots=True)
class LocalGcFlags:
    """What was asked for. `grace_seconds` is None for the usual one."""

    everything: bool
    grace_seconds: float | None
    dry_run: bool
    as_json: bool


def collect_locally(app: App, settings: Settings, flags: LocalGcFlags) -> None:
    """Show what goes of the cache, the staged packs and what is left over, and remove it. Raises
    StoreError, also where that was done and staged packs could not be told apart."""
    grace = DEFAULT_GRACE_SECONDS if flags.grace_seconds is None else flags.grace_seconds
    now = time.time()
    records = open_mount_records(app).load_all()
    logs = find_old_logs(settings.cache_directory / "logs", records, now - grace)
    # Of whatever repository: it may have been moved since, and a commit that is not in it is none.
    mounted = {GitId(record.commit) for record in records if is_git_id(record.commit)}
    has_state = (settings.paths.state_dir / "staged").is_dir()
    with LocalStore(store_settings(settings), to_write=has_state, holds=False) as local:
        plan = trio.run(
            partial(
                plan_local_gc,
                local,
                partial(fetch_lists, local, _remotes(settings), unwrapped),
                everything=flags.everything,
                now_seconds=now,
                grace_seconds=grace,
                mounted=mounted,
            )
        )
        rows = _rows(settings, flags, plan, logs, grace)
        if not flags.as_json:
            _show(app, rows)
        summary = LocalGcSummary((), 0, plan.staged.refusal)
        if not flags.dry_run:
            summary = plan.execute()
            for log in logs:
                with suppress(FileNotFoundError):
                    log.path.unlink()
    freed = summary.freed_bytes + (0 if flags.dry_run else sum(log.size for log in logs))
    if flags.as_json:
        app.console.out_json(_as_json(flags, plan, summary, logs, freed))
    elif not flags.dry_run and rows:
        app.console.say(f"gave back {format_bytes(freed)}" if freed else "nothing to give back")
    if summary.refusal is not None:
        raise StoreError(f"no staged pack is dropped: {summary.refusal}") from summary.refusal


def _remotes(settings: Settings) -> list[RemoteSettings]:
    """All remotes of the repository that may be asked, the one in use first."""
    own = settings.remote
    return [*([own] if own is not None and own.endpoint_trusted else []), *other_remotes(settings)]


_Row = tuple[str, int, int, str]


def _rows(
    settings: Settings,
    flags: LocalGcFlags,
    plan: LocalGcPlan,
    logs: Sequence[OldLog],
    grace_seconds: float,
) -> list[_Row]:
    """What, how many, bytes, why; of what there is none of, nothing."""
    grace = format_duration(grace_seconds)
    left, log_bytes = sum(size for _, size in plan.leftovers), sum(log.size for log in logs)
    rows = [
        *_cache_rows(settings, flags, plan.cache),
        *_staged_rows(plan.staged, grace),
        ("leftovers removed", len(plan.leftovers), left, "of commands that were killed"),
        ("logs removed", len(logs), log_bytes, f"of mounts that are gone, older than {grace}"),
    ]
    return [row for row in rows if row[1]]


def _cache_rows(settings: Settings, flags: LocalGcFlags, cache: CachePlan) -> list[_Row]:
    budget = settings.cache_size_bytes
    over = "a tenth of the disk is to stay free"
    if budget is not None:
        over = f"the budget is {format_bytes(budget)}"
    if flags.everything:
        over = "it can be fetched again"
    return [
        _of_uses("evicted from the cache", cache.evicted, over),
        _of_uses("kept in the cache", cache.kept, "there is room"),
        _of_uses("kept in the cache", cache.only_here, "no remote is known to have them"),
    ]


def _staged_rows(staged: StagedPlan, grace: str) -> list[_Row]:
    return [
        _of_packs("staged packs dropped", staged.dropped, "no ref, index or reflog needs them"),
        _of_packs("staged packs kept", staged.needed, "needed"),
        _of_packs("staged packs kept", staged.undecided, "nobody can tell whether they are needed"),
        _of_packs("staged packs kept", staged.young, f"used within {grace}"),
        _of_packs("staged packs kept", staged.damaged, "damaged"),
    ]


def _of_uses(what: str, uses: Sequence[PackUse], why: str) -> _Row:
    return what, len(uses), sum(use.cached_bytes for use in uses), why


def _of_packs(what: str, packs: Sequence[StagedPack], why: str) -> _Row:
    return what, len(packs), sum(pack.size for pack in packs), why


def _show(app: App, rows: Sequence[_Row]) -> None:
    if not rows:
        app.console.say("nothing is cached or staged")
        return
    app.console.table(
        ["WHAT", "FILES", "SIZE", "WHY"],
        [(what, count, format_bytes(size), why) for what, count, size, why in rows],
    )


def _as_json(
    flags: LocalGcFlags,
    plan: LocalGcPlan,
    summary: LocalGcSummary,
    logs: Sequence[OldLog],
    freed_bytes: int,
) -> dict[str, object]:
    """The plan, and what came of it."""
    cache, staged = plan.cache, plan.staged
    dropped = staged.dropped if flags.dry_run else summary.dropped
    return {
        "dry_run": flags.dry_run,
        "cache": {
            "evicted": _uses_as_json(cache.evicted),
            "kept": _uses_as_json(cache.kept),
            "only_here": _uses_as_json(cache.only_here),
        },
        "staged": {
            "dropped": _packs_as_json(dropped),
            "needed": _packs_as_json(staged.needed),
            "young": _packs_as_json(staged.young),
            "damaged": _packs_as_json(staged.damaged),
            "undecided": _packs_as_json(staged.undecided),
        },
        "leftovers": {"files": len(plan.leftovers), "bytes": sum(s for _, s in plan.leftovers)},
        "logs": {"files": len(logs), "bytes": sum(log.size for log in logs)},
        "freed_bytes": freed_bytes,
        "refused": None if summary.refusal is None else str(summary.refusal),
    }


def _uses_as_json(uses: Sequence[PackUse]) -> dict[str, int]:
    return {"packs": len(uses), "bytes": sum(use.cached_bytes for use in uses)}


def _packs_as_json(packs: Sequence[StagedPack]) -> dict[str, object]:
    return {
        "packs": len(packs),
        "bytes": sum(pack.size for pack in packs),
        "names": [pack.name for pack in packs],
    }
