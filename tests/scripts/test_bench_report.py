"""What the benchmark makes of its figures: medians, ratios, and which budgets are met."""

import json
from pathlib import Path

import pytest
from bench_data import QUICK
from bench_link import FIRST, SECOND
from bench_main import make_choice, parse_words
from bench_print import print_report, write_json
from bench_report import compare, compare_links, describe_link, describe_other_work, summarise
from bench_session import Choice, Figure
from bench_table import (
    DVC,
    LINK,
    LOOP,
    NATIVE,
    OURS,
    RCLONE,
    ROWS,
    UNLIMITED_LINK,
    Bound,
    Row,
)

BY_NAME = {row.name: row for row in ROWS}
CHOICE = Choice(QUICK, frozenset(), frozenset(), (FIRST, SECOND), 3, (), drops_caches=False)


def figure(row: str, contender: str, value: float | None, link: str = "first") -> Figure:
    return Figure(row, link, contender, value, note="" if value is not None else "why not")


def line_of(row: str, *figures: Figure):  # type: ignore[no-untyped-def]
    (line,) = compare([BY_NAME[row]], summarise(figures))
    return line


def test_a_contender_is_known_by_the_median_of_its_runs() -> None:
    (summary,) = summarise(figure("push", OURS, value) for value in (9.0, 1.0, 2.0))
    assert (summary.value, summary.runs) == (2.0, 3)


def test_one_run_that_failed_does_not_count() -> None:
    (summary,) = summarise(figure("push", OURS, value) for value in (3.0, None, 1.0))
    assert (summary.value, summary.runs, summary.note) == (2.0, 2, "why not")


def test_ratios_are_ours_to_the_best_peer_and_to_the_limit() -> None:
    line = line_of(
        "cold-epoch",
        figure("cold-epoch", LINK, 2000.0),
        figure("cold-epoch", OURS, 1500.0),
        figure("cold-epoch", RCLONE, 300.0),
        figure("cold-epoch", "s3fs", 100.0),
    )
    assert line.best.contender == RCLONE
    assert line.best_ratio == pytest.approx(5.0)
    assert line.limit_ratio == pytest.approx(0.75)
    assert line.is_met is True


def test_the_best_peer_is_the_quickest_where_less_is_better() -> None:
    line = line_of(
        "first-byte",
        figure("first-byte", OURS, 0.5),
        figure("first-byte", DVC, 25.0),
        figure("first-byte", RCLONE, 20.0),
    )
    assert line.best.contender == RCLONE


def test_limits_and_our_own_variants_are_no_peers() -> None:
    summaries = summarise(
        [
            figure("warm-small", NATIVE, 9000.0),
            figure("warm-small", OURS, 3000.0),
            figure("warm-small", f"{OURS}, 2 workers", 4000.0),
            figure("warm-small", LOOP, 6000.0),
        ]
    )
    lines = compare([BY_NAME["warm-small"]], summaries)
    assert [line.best and line.best.contender for line in lines] == [LOOP, LOOP]
    assert [line.is_met for line in lines] == [False, True]


@pytest.mark.parametrize(("ours", "is_met"), [(2.6, True), (2.8, False)])
def test_a_budget_in_seconds_is_a_ratio_that_must_not_be_exceeded(
    ours: float, is_met: bool
) -> None:
    line = line_of("push", figure("push", OURS, ours), figure("push", LINK, 2.0))
    assert line.is_met is is_met


@pytest.mark.parametrize(("ours", "is_met"), [(3.0, True), (3.1, False)])
def test_an_absolute_budget_needs_nobody_to_compare_with(ours: float, is_met: bool) -> None:
    assert line_of("edit", figure("edit", OURS, ours)).is_met is is_met


def test_a_budget_against_what_was_not_measured_is_neither_met_nor_missed() -> None:
    line = line_of("add", figure("add", OURS, 2.0), figure("add", DVC, None))
    assert line.best is None
    assert line.is_met is None


def test_a_link_is_compared_only_with_what_was_measured_over_it() -> None:
    line = line_of(
        "cold-large", figure("cold-large", OURS, 100.0), figure("cold-large", LINK, 125.0, "second")
    )
    assert line.limit is None


def test_the_second_link_is_worse_where_its_ratio_is_whichever_way_the_row_counts() -> None:
    figures = []
    for link, epoch, push in (("first", 80.0, 4.0), ("second", 40.0, 8.0)):
        figures += [figure("cold-epoch", OURS, epoch, link), figure("push", OURS, push, link)]
        figures += [figure("cold-epoch", LINK, 100.0, link), figure("push", LINK, 4.0, link)]
    compared = compare_links(compare(ROWS, summarise(figures)), ["first", "second"])
    assert [(row.name, share) for row, share in compared] == [("cold-epoch", 0.5), ("push", 0.5)]


def test_the_ceiling_of_the_link_is_said_where_both_of_its_figures_are_there() -> None:
    up = [figure("link-up", LINK, 245.0), figure("link-up", UNLIMITED_LINK, 1900.0)]
    half = [figure("link-down", LINK, 244.0)]
    said = describe_link(summarise([*up, *half]))
    assert said == "The link by itself: 245 MB/s up (without its limits 1,900)"
    assert describe_link([]).endswith("not measured")


def test_what_else_ran_is_told_from_long_measurements_alone() -> None:
    long = Figure("push", "first", OURS, 4.0, 4.0, processors={"others": 2.0})
    short = Figure("help", "first", OURS, 0.1, 0.1, processors={"others": 0.2})
    assert "25%" in describe_other_work([long, short], cores=2)
    assert "Nothing" in describe_other_work([short], cores=2)


def test_every_row_that_was_not_measured_says_why_and_the_rest_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figures = [figure("push", OURS, None), figure("push", DVC, 20.0), figure("help", OURS, 0.1)]
    print_report(figures, CHOICE, 10.0)
    write_json(tmp_path / "bench.json", figures, CHOICE, 10.0)
    printed = capsys.readouterr().out
    assert "not measured: why not" in printed
    assert "revfs --help" in printed
    document = json.loads((tmp_path / "bench.json").read_text())
    by_row = {record["row"]: record for record in document["rows"]}
    assert (by_row["push"]["value"], by_row["push"]["best_peer"]) == (None, DVC)
    assert by_row["help"]["is_met"] is True


def test_a_row_that_is_none_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse_words(["--rows", "cold-epoch,colder"])
    assert "'colder' is none of them; there are: link-up" in capsys.readouterr().err


def test_quick_is_one_run_over_the_first_link_unless_told_otherwise() -> None:
    quick = make_choice(parse_words(["--quick"]))
    assert (quick.runs, quick.links, quick.scale) == (1, (FIRST,), QUICK)
    told = make_choice(parse_words(["--quick", "--runs", "2", "--link", "both"]))
    assert (told.runs, told.links) == (2, (FIRST, SECOND))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_budget_against_the_limit_has_one_to_be_said_against(row: Row) -> None:
    if row.budget is not None and row.budget.bound is Bound.LIMIT:
        assert row.limit
    if row.budget is not None and row.budget.bound is Bound.PEER:
        assert row.budget.peer
