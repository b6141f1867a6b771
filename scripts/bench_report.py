"""From figures to the table: medians, ratios to the best peer and the limit, budgets met or not."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench_session import Figure
from bench_table import LIMITS, LINK, OURS, UNLIMITED_LINK, Bound, Budget, Row

_LONG_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians of one contender's runs in one row over one link. `value` is None where nothing
    was measured; `note` then says why."""

    row: str
    link: str
    contender: str
    value: float | None
    runs: int
    seconds: float
    up_bytes: float
    down_bytes: float
    requests: float
    processors: Mapping[str, float]
    note: str


@dataclass(frozen=True, slots=True)
class Line:
    """One of ours in one row: against the best peer and the limit, and whether the budget is met.
    Ratios are ours to theirs; None where there is nobody to compare with."""

    row: Row
    ours: Summary
    best: Summary | None
    best_ratio: float | None
    limit: Summary | None
    limit_ratio: float | None
    is_met: bool | None


def summarise(figures: Iterable[Figure]) -> list[Summary]:
    """The medians by row, link and contender, in the order of their first figures."""
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.row, figure.link, figure.contender), []).append(figure)
    return [_summarise_group(group) for group in groups.values()]


def _summarise_group(group: Sequence[Figure]) -> Summary:
    first = group[0]
    good = [figure for figure in group if figure.value is not None]
    note = next((figure.note for figure in group if figure.note), "")
    if not good:
        return Summary(first.row, first.link, first.contender, None, 0, 0, 0, 0, 0, {}, note)
    names = dict.fromkeys(name for figure in good for name in figure.processors)
    return Summary(
        first.row,
        first.link,
        first.contender,
        statistics.median(figure.value for figure in good if figure.value is not None),
        len(good),
        statistics.median(figure.seconds for figure in good),
        statistics.median(figure.up_bytes for figure in good),
        statistics.median(figure.down_bytes for figure in good),
        statistics.median(figure.requests for figure in good),
        {n: statistics.median(f.processors.get(n, 0.0) for f in good) for n in names},
        note,
    )


def compare(rows: Sequence[Row], summaries: Sequence[Summary]) -> list[Line]:
    """A line for each of ours, in the order of the rows."""
    lines = []
    for row in rows:
        for ours in summaries:
            if ours.row == row.name and is_ours(ours.contender):
                rivals = [s for s in summaries if (s.row, s.link) == (ours.row, ours.link)]
                lines.append(_compare_one(row, ours, rivals))
    return lines


def is_ours(contender: str) -> bool:
    """Whether it is revfs, with whatever options."""
    return contender.split(",")[0] == OURS


def _compare_one(row: Row, ours: Summary, rivals: Sequence[Summary]) -> Line:
    limit = next((s for s in rivals if s.contender == row.limit and s.value is not None), None)
    best = find_best(row, rivals)
    return Line(
        row,
        ours,
        best,
        _ratio(ours, best),
        limit,
        _ratio(ours, limit),
        _is_met(row, ours, rivals),
    )


def find_best(row: Row, rivals: Sequence[Summary]) -> Summary | None:
    """The best of the peers; limits and ours are none."""
    peers = [
        summary
        for summary in rivals
        if summary.value is not None
        and summary.contender not in LIMITS
        and not is_ours(summary.contender)
    ]
    pick = max if row.more_is_better else min
    return pick(peers, key=lambda summary: summary.value or 0.0, default=None)


def _ratio(ours: Summary, other: Summary | None) -> float | None:
    if other is None or ours.value is None or not other.value:
        return None
    return ours.value / other.value


def _is_met(row: Row, ours: Summary, rivals: Sequence[Summary]) -> bool | None:
    """None where there is no budget, or not what it is said against."""
    if row.budget is None or ours.value is None:
        return None
    figure: float | None = ours.value
    if row.budget.bound is not Bound.ABSOLUTE:
        other = row.limit if row.budget.bound is Bound.LIMIT else row.budget.peer
        figure = _ratio(ours, next((s for s in rivals if s.contender == other), None))
    if figure is None:
        return None
    return figure >= row.budget.value if row.more_is_better else figure <= row.budget.value


def describe_budget(row: Row) -> str:
    """The budget in a few characters."""
    budget: Budget | None = row.budget
    if budget is None:
        return ""
    sign = "≥" if row.more_is_better else "≤"
    if budget.bound is Bound.ABSOLUTE:
        return f"{sign} {budget.value:g} {row.unit}"
    what = "limit" if budget.bound is Bound.LIMIT else budget.peer
    return f"{sign} {budget.value:.2f} of {what}"


def compare_links(lines: Sequence[Line], links: Sequence[str]) -> list[tuple[Row, float]]:
    """For each row with a limit, how our ratio to it over the second link compares to that over the
    first: 1 is alike, less is worse, whichever way the row counts."""
    ratios = {
        (line.row, line.ours.link): line.limit_ratio
        for line in lines
        if line.limit_ratio and line.ours.contender == OURS
    }
    compared = []
    for row in dict.fromkeys(line.row for line in lines):
        pair = [ratios.get((row, link)) for link in links]
        if len(pair) == 2 and pair[0] and pair[1]:
            share = pair[1] / pair[0] if row.more_is_better else pair[0] / pair[1]
            compared.append((row, share))
    return compared


def describe_link(summaries: Sequence[Summary]) -> str:
    """What the proxy carried with nothing else on it, within its limits and without."""
    carried = {(s.row, s.contender): s.value or 0.0 for s in summaries}
    ways = []
    for row, way in (("link-up", "up"), ("link-down", "down")):
        limited, free = carried.get((row, LINK)), carried.get((row, UNLIMITED_LINK))
        if limited and free:
            ways.append(f"{limited:,.0f} MB/s {way} (without its limits {free:,.0f})")
    return "The link by itself: " + (", ".join(ways) or "not measured")


def describe_other_work(figures: Iterable[Figure], cores: int) -> str:
    """How busy the machine was with other things, which no ratio makes good entirely."""
    shares = [
        figure.processors["others"] / (figure.seconds * cores)
        for figure in figures
        if figure.seconds >= _LONG_SECONDS and "others" in figure.processors
    ]
    if not shares:
        return "Nothing took long enough to tell how busy the machine was with other things."
    share = statistics.median(shares)
    return f"In the median measurement, other work had {share:.0%} of the processor."
