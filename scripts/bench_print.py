"""The report: the table on the terminal, and the JSON file with every figure."""

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench_data import WHOLE
from bench_report import (
    Line,
    Summary,
    compare,
    compare_links,
    describe_budget,
    describe_link,
    describe_other_work,
    summarise,
)
from bench_session import Choice, Figure
from bench_table import ROWS, Row

NOTES = """\
Less is better where the unit is s, %, times or MB of memory; ratios are ours to theirs. Medians.
The link is a proxy on this machine: server, proxy, mount and readers share its cores, so that the
processor may be the limit where the link is not; the second table says who used how much of it.
"others" is all else that ran on the machine meanwhile, the kernel's own work among it.
Cold: a fresh clone or mount with an empty cache; the server has its files in memory.
Warm: the second epoch in the same mount, from the contender's own cache on the disk; the kernel was
told to forget the pages of the mount. The loop-through in C is libfuse's passthrough_ll,
cache=always. The local disk is read from the page cache."""


def print_report(figures: Sequence[Figure], choice: Choice, seconds: float) -> None:
    """Both tables and what has to be known to read them."""
    summaries = summarise(figures)
    for link in choice.links:
        of_link = [summary for summary in summaries if summary.link == link.name]
        print(f"\n{link.title}; {choice.runs} run(s), {choice.scale.name} data")
        print(describe_link(of_link) + "\n")
        lines = compare(ROWS, of_link)
        _print_table([_COMPARED, *(_show_line(line, choice) for line in lines)])
        print()
        _print_table([_MEASURED, *(_show_summary(summary) for summary in of_link)])
    _print_links_compared(compare(ROWS, summaries), choice)
    print("\n" + NOTES)
    if choice.scale is not WHOLE:
        print("The budgets are for the whole data: of less, what comes first is a larger part.")
    print(describe_other_work(figures, os.cpu_count() or 1))
    print(f"{seconds:.0f} s in all.")


_COMPARED = (
    "row",
    "unit",
    "ours",
    "best peer",
    "ratio",
    "limit",
    "ratio",
    "MB crossed",
    "budget",
    "met",
)
_MEASURED = (
    "row",
    "contender",
    "figure",
    "seconds",
    "runs",
    "MB up",
    "MB down",
    "requests",
    "processor seconds",
)


def _print_links_compared(lines: Sequence[Line], choice: Choice) -> None:
    """How much of the ratio to the limit is left over another link."""
    pairs = compare_links(lines, [link.name for link in choice.links])
    for row, share in pairs:
        print(f"{title_of(row, choice)}: over the second link {share:.2f} of the first's ratio")


def title_of(row: Row, choice: Choice) -> str:
    """The row's title with the numbers of this run."""
    scale = choice.scale
    return row.title.format(files=scale.million_files, status=scale.status_files)


def _show_line(line: Line, choice: Choice) -> Sequence[str]:
    _, _, options = line.ours.contender.partition(",")
    return (
        title_of(line.row, choice) + (f",{options}" if options else ""),
        line.row.unit,
        _number(line.ours.value) or f"not measured: {line.ours.note}",
        f"{_number(line.best.value)} {line.best.contender}" if line.best else "",
        _ratio(line.best_ratio),
        f"{_number(line.limit.value)} {line.limit.contender}" if line.limit else "",
        _ratio(line.limit_ratio),
        f"{(line.ours.up_bytes + line.ours.down_bytes) / 1e6:,.1f}",
        describe_budget(line.row),
        {True: "yes", False: "NO", None: ""}[line.is_met],
    )


def _show_summary(summary: Summary) -> Sequence[str]:
    if summary.value is None:
        return (summary.row, summary.contender, f"not measured: {summary.note}", *[""] * 6)
    used = ", ".join(f"{name} {spent:.2f}" for name, spent in summary.processors.items())
    return (
        summary.row,
        summary.contender,
        _number(summary.value),
        f"{summary.seconds:.2f}" if summary.seconds else "",
        str(summary.runs),
        f"{summary.up_bytes / 1e6:,.1f}",
        f"{summary.down_bytes / 1e6:,.1f}",
        f"{summary.requests:,.0f}",
        used,
    )


def _number(value: float | None) -> str:
    """Three digits that count, whatever the size."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def write_json(path: Path, figures: Sequence[Figure], choice: Choice, seconds: float) -> None:
    """Everything that was measured, and its summary as in the table."""
    summaries = summarise(figures)
    document = {
        "machine": _describe_machine(),
        "scale": dataclasses.asdict(choice.scale),
        "links": [dataclasses.asdict(link) | {"title": link.title} for link in choice.links],
        "runs": choice.runs,
        "mount_options": list(choice.mount_options),
        "seconds": round(seconds, 1),
        "rows": [
            _to_record(line, choice)
            for link in choice.links
            for line in compare(ROWS, [s for s in summaries if s.link == link.name])
        ],
        "contenders": [dataclasses.asdict(summary) for summary in summaries],
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _to_record(line: Line, choice: Choice) -> dict[str, object]:
    return {
        "row": line.row.name,
        "title": title_of(line.row, choice),
        "link": line.ours.link,
        "unit": line.row.unit,
        "more_is_better": line.row.more_is_better,
        "contender": line.ours.contender,
        "value": line.ours.value,
        "best_peer": line.best.contender if line.best else None,
        "ratio_to_best_peer": line.best_ratio,
        "limit": line.limit.contender if line.limit else None,
        "ratio_to_limit": line.limit_ratio,
        "budget": describe_budget(line.row) or None,
        "is_met": line.is_met,
    }


def _describe_machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
        ).stdout.strip(),
    }
