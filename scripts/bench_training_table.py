"""From the figures of the training benchmark to its table: ratios run by run, then medians."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from bench_report import Summary, summarise
from bench_session import Figure
from bench_table import LINK, NATIVE, OURS

CEILING = "link ceiling"
FIRST_EPOCH = "first epoch"
ORDERED = "first epoch, order known"
DISK = "next epoch, from the disk"
MEMORY = "next epoch, from memory"

# What a training job may lose by the mount: its first epoch against the link, the next ones against
# plain local files.
LINK_BUDGET = 1.3
LOCAL_BUDGET = 1.5


class Mode(Enum):
    """What the job does with each file."""

    READ = "read"
    DECODE = "decode"

    def row(self, epoch: str) -> str:
        """The name of an epoch's row."""
        return f"{self.value}: {epoch}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ratio of seconds as the median of the runs' own ratios, and the most that it may be; None
    where it is for comparison only."""

    row: str
    against: str
    ratio: float
    runs: int
    budget: float | None

    @property
    def is_met(self) -> bool | None:
        return None if self.budget is None else self.ratio <= self.budget


def judge(figures: Sequence[Figure]) -> list[Verdict]:
    """All ratios that these figures allow. Those of a row and contender are in order of runs."""
    verdicts: list[Verdict] = []
    ceiling = statistics.median(_values(figures, CEILING, LINK) or [0.0]) * 1e6
    for mode in Mode:
        alone = _values(figures, mode.row(MEMORY), NATIVE)
        for epoch in (FIRST_EPOCH, ORDERED):
            row = mode.row(epoch)
            ours = _of(figures, row, OURS)
            seconds = [figure.seconds for figure in ours]
            limits = [figure.down_bytes / ceiling for figure in ours if ceiling]
            is_bound = mode is Mode.READ
            budget = LINK_BUDGET if is_bound else None
            verdicts += _judge_one(row, "the link limit", seconds, limits, budget)
            if not is_bound:
                # Decoding may be slower than any link, whatever the files come from.
                slower = [max(pair) for pair in zip(limits, alone, strict=False)]
                verdicts += _judge_one(
                    row, "the slower of link and decoding", seconds, slower, LINK_BUDGET
                )
        for epoch in (DISK, MEMORY):
            row = mode.row(epoch)
            ours_seconds, theirs = _values(figures, row, OURS), _values(figures, row, NATIVE)
            verdicts += _judge_one(row, "local files", ours_seconds, theirs, LOCAL_BUDGET)
    return verdicts


def _judge_one(
    row: str, against: str, ours: Sequence[float], theirs: Sequence[float], budget: float | None
) -> list[Verdict]:
    """One verdict, or none where nothing was measured."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=False)]
    if not ratios:
        return []
    return [Verdict(row, against, statistics.median(ratios), len(ratios), budget)]


def _of(figures: Iterable[Figure], row: str, contender: str) -> list[Figure]:
    return [figure for figure in figures if (figure.row, figure.contender) == (row, contender)]


def _values(figures: Iterable[Figure], row: str, contender: str) -> list[float]:
    return [figure.value or 0.0 for figure in _of(figures, row, contender)]


def describe_limit(figures: Sequence[Figure]) -> list[str]:
    """Whether link or decoding bounds a cold epoch of each mode, in words."""
    summaries = {(s.row, s.contender): s for s in summarise(figures)}
    ceiling = summaries.get((CEILING, LINK))
    lines = []
    for mode in Mode:
        cold = summaries.get((mode.row(FIRST_EPOCH), OURS))
        alone = summaries.get((mode.row(MEMORY), NATIVE))
        if ceiling and ceiling.value and cold and alone:
            over_link = cold.down_bytes / ceiling.value / 1e6
            bound = "the job itself" if alone.seconds > over_link else "the link"
            lines.append(
                f"{mode.value}: the bytes of a first epoch need {over_link:.2f} s on the link, and "
                f"the job {alone.seconds:.2f} s with all files in memory: {bound} is the limit"
            )
    return lines


def describe_processors(figures: Iterable[Figure], cores: int) -> list[str]:
    """How long our epochs need at least on this machine, by the processor seconds of all that took
    part, whatever else ran on it."""
    lines = []
    for summary in summarise(figures):
        if summary.contender == OURS and ":" in summary.row:
            used = sum(spent for name, spent in summary.processors.items() if name != "others")
            lines.append(
                f"{summary.row}: {used:.2f} processor seconds, so {used / cores:.2f} s at least on "
                f"{cores} core(s)"
            )
    return lines


def tabulate(figures: Sequence[Figure], files: int) -> list[Sequence[str]]:
    """The medians of each row, as text; `files` is how many an epoch has."""
    head = ("row", "over", "seconds", "files/s", "MB down", "requests", "runs", "processor seconds")
    return [head, *(_show(summary, files) for summary in summarise(figures))]


def _show(summary: Summary, files: int) -> Sequence[str]:
    used = ", ".join(f"{name} {spent:.2f}" for name, spent in summary.processors.items())
    if not summary.seconds:
        rate = f"{summary.value or 0.0:,.0f} MB/s"
        return (summary.row, summary.contender, "", "", rate, "", str(summary.runs), "")
    is_epoch = ":" in summary.row
    return (
        summary.row,
        summary.contender,
        f"{summary.seconds:.2f}",
        f"{files / summary.seconds:,.0f}" if is_epoch else "",
        f"{summary.down_bytes / 1e6:,.1f}",
        f"{summary.requests:,.0f}",
        str(summary.runs),
        used,
    )
