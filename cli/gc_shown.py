"""The plan of a `gc --remote` as people and programs see it. Pure."""

from collections.abc import Sequence

from cli.console import format_bytes, format_count
from cli.durations import format_day
from store.gc import GcPlan, GcSummary
from store.keep_policy import CommitName
from store.repack import RepackPlan

PACK_HEADERS = ("PACKS", "NUMBER", "BYTES", "GONE")


def pack_rows(plan: GcPlan, repack: RepackPlan | None) -> list[tuple[str, int, str, str]]:
    """What happens to the packs of a remote: a row for each kind, with when they are gone."""
    decisions = plan.decisions
    due = format_day(plan.marks.now_seconds + plan.context.rules.grace_seconds)
    waiting = sum(plan.marks.packs[pack].size for pack in decisions.waiting)
    rows = [
        ("deleted", len(decisions.delete), sum(decisions.delete.values()), "now"),
        ("condemned", len(decisions.condemn), sum(decisions.condemn.values()), f"from {due} on"),
        ("condemned before", len(decisions.waiting), waiting, _first_due(plan)),
    ]
    if repack is not None and repack.packs:
        rows.append(
            ("written anew, smaller", len(repack.packs), repack.total_bytes, f"from {due} on")
        )
    gone = sum(number for _, number, _, _ in rows)
    kept = decisions.total_bytes - sum(size for _, _, size, _ in rows)
    rows.append(("kept", len(plan.marks.packs) - gone, kept, ""))
    return [(kind, number, format_bytes(size), when) for kind, number, size, when in rows if number]


def _first_due(plan: GcPlan) -> str:
    waiting = plan.decisions.waiting.values()
    return f"from {format_day(min(waiting))} on" if waiting else ""


def plan_json(
    plan: GcPlan, repack: RepackPlan | None, names: Sequence[CommitName], *, dry_run: bool
) -> dict[str, object]:
    """All of a plan, for programs; times in seconds since 1970, by the remote's clock."""
    decisions = plan.decisions
    grace_end = plan.marks.now_seconds + plan.context.rules.grace_seconds
    return {
        "remote": plan.context.remote.url,
        "dry_run": dry_run,
        "forgotten": [
            {"commit": n.commit, "time_seconds": n.time_seconds, "subject": n.subject}
            for n in names
        ],
        "deleted": dict(decisions.delete),
        "condemned": {
            pack: {"bytes": size, "gone_from_seconds": grace_end}
            for pack, size in decisions.condemn.items()
        },
        "condemned_before": {
            pack: {"bytes": plan.marks.packs[pack].size, "gone_from_seconds": due}
            for pack, due in decisions.waiting.items()
        },
        "written_anew": {} if repack is None else dict(repack.packs),
        "written_anew_bytes": 0 if repack is None else repack.total_bytes,
        "total_bytes": decisions.total_bytes,
    }


def gc_words(summary: GcSummary, repack: RepackPlan | None) -> str:
    """What was done, for a person."""
    parts = []
    if summary.deleted:
        parts.append(f"deleted {format_bytes(summary.deleted_bytes)}")
    if summary.condemned:
        parts.append(f"condemned {format_count(summary.condemned, 'pack')}")
    if summary.forgotten:
        parts.append(f"forgot {format_count(summary.forgotten, 'manifest')}")
    if repack is not None and repack.packs:
        packs = format_count(len(repack.packs), "pack")
        parts.append(f"wrote {format_bytes(repack.live_bytes)} of {packs} anew")
    return ", ".join(parts) or "nothing to give back"
