"""Draws rows of a benchmark's JSON file, a panel for each: plot_bench.py FIGURES.json PICTURE.png

Needs matplotlib, which scripts/bench has in a venv of its own."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

SHOWN = ("cold-epoch", "cold-large", "warm-small", "first-byte", "add", "push")
LIMITS = ("link", "local disk")
COLOURS = {"revfs": "#1f6feb", "rclone mount": "#b08800", "s3fs": "#8250df", "dvc": "#cf6a4c"}
OTHER = "#8b949e"
COLUMNS = 3


def bars_of(document: dict[str, Any], row: str) -> list[tuple[str, float]]:
    """Contender and figure of a row over the first link, ours first."""
    link = document["links"][0]["name"]
    found = [
        (summary["contender"], summary["value"])
        for summary in document["contenders"]
        if (summary["row"], summary["link"]) == (row, link) and summary["value"] is not None
    ]
    return sorted(found, key=lambda bar: not bar[0].startswith("revfs"))


def draw_row(axes: Any, record: dict[str, Any], bars: list[tuple[str, float]]) -> None:
    """One panel: a bar for each contender, a line where the limit is."""
    shown = [bar for bar in bars if bar[0] not in LIMITS]
    names = [name for name, _ in shown]
    values = [value for _, value in shown]
    colours = [COLOURS.get(name.split(",")[0], OTHER) for name in names]
    axes.barh(range(len(shown)), values, color=colours, height=0.7)
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    for place, value in enumerate(values):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.annotate(text, (value, place), (4, 0), textcoords="offset points", va="center")
    limits = [(name, value) for name, value in bars if name == record["limit"]]
    for name, value in limits:
        axes.axvline(value, color="#57606a", linestyle="--", linewidth=1)
        axes.set_xlabel(f"dashed: {name}, {value:,.3g}" if value < 100 else f"dashed: {name}")
    most = max([*values, *(value for _, value in limits)])
    axes.set_xlim(0, most * 1.2)
    better = "more is better" if record["more_is_better"] else "less is better"
    axes.set_title(f"{record['title']}\n{record['unit']}, {better}", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Read the figures, write the picture."""
    document = json.loads(Path(sys.argv[1]).read_text())
    records = {
        record["row"]: record
        for record in reversed(document["rows"])
        if record["link"] == document["links"][0]["name"]
    }
    panels = [row for row in SHOWN if row in records and bars_of(document, row)]
    panels = panels or [row for row in records if bars_of(document, row)]
    if not panels:
        raise SystemExit("plot_bench: there is no row with a figure of ours")
    lines = math.ceil(len(panels) / COLUMNS)
    pyplot.rcParams["font.size"] = 8
    figure, grid = pyplot.subplots(
        lines, COLUMNS, figsize=(4.2 * COLUMNS, 2.1 * lines + 0.4), squeeze=False
    )
    places = list(grid.flat)
    for axes, row in zip(places, panels, strict=False):
        draw_row(axes, records[row], bars_of(document, row))
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(f"Link of {document['links'][0]['title']}; medians of {document['runs']}")
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=110)


if __name__ == "__main__":
    main()
