"""Console: the only place that prints, and App, what every verb is handed.

Text, tables, JSON and progress; what a person must not be fooled by (control characters in names)
is escaped here. The bar is rich's, which is imported only when a bar is drawn.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, TextIO

import click

from store.shown_names import escape_name, escape_text

SECONDS_BETWEEN_LINES = 5.0

# What of control characters lines of our own may hold.
_KEPT = "\n\t"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Colour(Enum):
    """What a colour says; shown only on a terminal that wants colours."""

    NEW = "green"
    GONE = "red"
    OTHER = "yellow"


def format_bytes(count: float) -> str:
    """A number of bytes for people: binary units, at most one decimal."""
    value, unit = float(count), 0
    while round(value, 1) >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


def format_count(count: int, noun: str) -> str:
    """A number of things for people: `1 pack`, `1,200 packs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_rate(bytes_per_second: float) -> str:
    """A rate for people, as `format_bytes` has it."""
    return f"{format_bytes(bytes_per_second)}/s"


def format_seconds(seconds: float) -> str:
    """A duration for people: `11 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class Progress(Protocol):
    """What a verb tells while it works; any thread may call it."""

    def advance(self, byte_count: int, items: int = 0) -> None:
        """So many more bytes, and so many more items (files, chunks), are done."""
        ...

    def describe(self, text: str) -> None:
        """Say what is being done, in place of the label."""
        ...

    def set_total(self, total_bytes: int | None) -> None:
        """There are so many bytes in all; None while nobody knows."""
        ...


@dataclass(slots=True)
class _Meter:
    """What is done so far. The state of a progress display; its lock is the display's."""

    label: str
    total_bytes: int | None
    started: float
    done_bytes: int = 0
    items: int = 0

    def status(self, now: float) -> str:
        """`1.2 GiB of 3.4 GiB, 210 MiB/s, 11 s left`, as far as it is known."""
        of_total = "" if self.total_bytes is None else f" of {format_bytes(self.total_bytes)}"
        parts = [f"{format_bytes(self.done_bytes)}{of_total}"]
        if self.items:
            parts.insert(0, f"{self.items:,} done")
        elapsed = now - self.started
        if elapsed > 0 and self.done_bytes:
            rate = self.done_bytes / elapsed
            parts.append(format_rate(rate))
            if self.total_bytes is not None and self.total_bytes > self.done_bytes:
                left = (self.total_bytes - self.done_bytes) / rate
                parts.append(f"{format_seconds(left)} left")
        return ", ".join(parts)


class _ShownProgress:
    """A Progress that calls `show` after every change, under its lock."""

    def __init__(
        self, meter: _Meter, clock: Callable[[], float], show: Callable[[_Meter, float], None]
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._show = show
        self._lock = threading.Lock()

    def advance(self, byte_count: int, items: int = 0) -> None:
        with self._lock:
            self._meter.done_bytes += byte_count
            self._meter.items += items
            self._show(self._meter, self._clock())

    def describe(self, text: str) -> None:
        with self._lock:
            self._meter.label = text
            self._show(self._meter, self._clock())

    def set_total(self, total_bytes: int | None) -> None:
        with self._lock:
            self._meter.total_bytes = total_bytes
            self._show(self._meter, self._clock())


def _show_nothing(meter: _Meter, now: float) -> None:
    pass


class Console:
    """Words out. What was asked for goes to stdout, everything about it to stderr."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet = quiet
        self._clock = clock

    def out(self, text: str, colour: Colour | None = None) -> None:
        """A line that was asked for: on stdout, whatever -q says."""
        shown = escape_text(text, keep=_KEPT)
        click.echo(_in_colour(shown, colour) if colour and shows_colours(sys.stdout) else shown)

    def say(self, text: str) -> None:
        """A line on what was done: on stdout, not with -q."""
        if not self.quiet:
            self.out(text)

    def warn(self, text: str) -> None:
        """A line on stderr about something that is worse than it should be."""
        self._complain("revfs: warning:", Colour.OTHER, text)

    def error(self, text: str) -> None:
        """A line on stderr about why a command ends."""
        self._complain("revfs:", Colour.GONE, text)

    def _complain(self, who: str, colour: Colour, text: str) -> None:
        if shows_colours(sys.stderr):
            who = _in_colour(who, colour)
        click.echo(f"{who} {escape_text(text, keep=_KEPT)}", err=True)

    def trace(self, text: str) -> None:
        """Lines on stderr as they are: logs and tracebacks."""
        click.echo(escape_text(text, keep=_KEPT), err=True)

    def out_json(self, value: object) -> None:
        """A value on stdout for programs; ASCII, so that names that are not UTF-8 survive."""
        click.echo(json.dumps(value, indent=2))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str | bytes | int]]) -> None:
        """Aligned columns on stdout, numbers to the right; with no rows, the headers alone."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
        right = [all(isinstance(row[place], int) for row in rows) for place in range(len(headers))]
        for line in [list(headers), *cells]:
            parts = (
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(line, widths, right, strict=True)
            )
            click.echo("  ".join(parts).rstrip())

    @contextmanager
    def progress(self, label: str, total_bytes: int | None) -> Iterator[Progress]:
        """Tell how work goes on, while the context lasts.

        A bar on a terminal, a line every five seconds elsewhere, nothing with -q; all on stderr.
        """
        meter = _Meter(label, total_bytes, self._clock())
        if self.quiet:
            yield _ShownProgress(meter, self._clock, _show_nothing)
        elif sys.stderr.isatty():
            with _bar(meter, self._clock) as shown:
                yield shown
        else:
            yield _ShownProgress(meter, self._clock, self._line_shower(meter.started))

    def _line_shower(self, started: float) -> Callable[[_Meter, float], None]:
        """Prints a meter when the last line, or the start, is long enough ago."""
        last = started

        def show(meter: _Meter, now: float) -> None:
            nonlocal last
            if now - last >= SECONDS_BETWEEN_LINES:
                last = now
                self.trace(f"revfs: {meter.label}: {meter.status(now)}")

        return show


def shows_colours(stream: TextIO) -> bool:
    """Whether colours are wanted there: on a terminal that has them, unless NO_COLOR says no
    (https://no-color.org: any value but an empty one)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def _in_colour(text: str, colour: Colour) -> str:
    """Text that is escaped already, in a colour."""
    return click.style(text, fg=colour.value)


def _cell(value: str | bytes | int) -> str:
    return str(value) if isinstance(value, int) else escape_name(value)


@contextmanager
def _bar(meter: _Meter, clock: Callable[[], float]) -> Iterator[Progress]:
    """A bar of rich's on stderr, gone when the context ends."""
    import rich.console
    import rich.progress

    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("{task.fields[status]}", markup=False),
    )
    terminal = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=terminal, transient=True) as display:
        task = display.add_task(meter.label, total=meter.total_bytes, status="")

        def show(meter: _Meter, now: float) -> None:
            display.update(
                task,
                description=escape_text(meter.label),
                total=meter.total_bytes,
                completed=meter.done_bytes,
                status=meter.status(now),
            )

        yield _ShownProgress(meter, clock, show)


class LogFormatter(logging.Formatter):
    """A formatter whose messages stay on one line, whatever a name or a server put into them; only
    a traceback has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        record.message = escape_text(record.message)
        return super().formatMessage(record)


class ConsoleLog(logging.Handler):
    """Log records as lines on stderr: warnings as such, the steps below them by their module."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(LogFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.WARNING:
            self._console.warn(text)
        else:
            self._console.trace(f"{record.levelname.lower()}: {record.name}: {text}")


@dataclass(frozen=True, slots=True)
class App:
    """What the command line says to every verb: where to print, where we are (`-C`), how, and which
    repository is meant if not the one around that place (`--repo`)."""

    console: Console
    cwd: Path
    verbose: bool
    environment: Mapping[str, str]
    repo: str | None = None
