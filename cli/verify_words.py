"""What `revfs verify` says: findings with their files, and the plan of a repair."""

import os
from collections.abc import Sequence

from cli.console import App, format_bytes, format_count
from store.directory_loader import DirectoryLoader
from store.shown_names import escape_name
from store.verify_findings import Finding
from store.verify_repair import RepairPlan

# So many files of one finding are named, unless all are wanted.
_NAMED = 10


class FindingWords:
    """Findings, for a person and for a program."""

    def __init__(self, app: App, directories: DirectoryLoader) -> None:
        self._app = app
        self._directories = directories

    def say(self, findings: Sequence[Finding]) -> None:
        """Each object with its problem, and the files that it hurts below it."""
        for finding in findings:
            self._app.console.out(f"{finding.place} {finding.problem}: {_hurt(finding)}")
            paths = finding.paths(self._directories)
            named = paths if self._app.verbose else paths[:_NAMED]
            for path in named:
                self._app.console.out(f"  {escape_name(path)}")
            if len(paths) > len(named):
                self._app.console.out(f"  and {len(paths) - len(named):,} more (-v names them)")

    def sum(self, findings: Sequence[Finding]) -> str:
        """All findings in a few words."""
        if not findings:
            return "all is well"
        files = {path for finding in findings for path in finding.paths(self._directories)}
        return f"{format_count(len(findings), 'problem')}, {format_count(len(files), 'file')} hurt"

    def facts(self, findings: Sequence[Finding]) -> list[dict[str, object]]:
        """The findings as JSON has them."""
        return [
            {
                "object": finding.place,
                "problem": finding.problem,
                "commits": sorted(finding.commits),
                "files": [os.fsdecode(path) for path in finding.paths(self._directories)],
            }
            for finding in findings
        ]


def _hurt(finding: Finding) -> str:
    commits = format_count(len(finding.commits), "commit")
    if not finding.file_count:
        return f"no file is hurt yet ({commits} in all)" if finding.commits else "no file is hurt"
    return f"{format_count(finding.file_count, 'file')} in {commits}"


def show_plan(app: App, plan: RepairPlan) -> None:
    """The plan as a table, and the files that nothing can be done for."""
    if plan.is_empty:
        app.console.say("nothing of it can be repaired from here")
    else:
        rows = [
            (what, count, format_bytes(size) if size else "") for what, count, size in _rows(plan)
        ]
        app.console.table(("to be done", "number", "bytes"), rows)
    for path, commit in sorted(plan.lost.values()):
        app.console.out(f"no copy of {escape_name(path)} (commit {commit[:12]})")
    if plan.not_pushed:
        commits = format_count(plan.not_pushed, "commit")
        app.console.out(f"{commits} not pushed: revfs push does that")


def _rows(plan: RepairPlan) -> list[tuple[str, int, int]]:
    rows = [
        (f"chunks put back from: {name}", count.chunks, count.size_bytes)
        for name, count in plan.context.copies.counts.items()
    ]
    rows += [
        ("format object put back", int(plan.put_format), 0),
        ("packs given a new index object", len(plan.indexed), 0),
        ("commits given a new manifest", len(plan.commits), 0),
        ("replaced objects removed after that", len(plan.gone), 0),
        ("damaged packs condemned", len(plan.tombs), 0),
    ]
    return [row for row in rows if row[1]]


def plan_facts(plan: RepairPlan) -> dict[str, object]:
    """The plan as JSON has it."""
    return {
        "copies": {
            name: {"chunks": count.chunks, "bytes": count.size_bytes}
            for name, count in plan.context.copies.counts.items()
        },
        "format": plan.put_format,
        "indexed_packs": [pack.name for pack in plan.indexed],
        "commits": [commit.commit for commit in plan.commits],
        "removed": plan.gone,
        "condemned": plan.tombs,
        "lost": [
            {"path": os.fsdecode(path), "commit": commit}
            for path, commit in sorted(plan.lost.values())
        ],
        "not_pushed": plan.not_pushed,
    }
