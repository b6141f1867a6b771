"""Spans of time, points in time and shares as flags take them: `14d`, `2026-01-31`, `20%`."""

import datetime
import re
import time

import click

_SPELLING = re.compile(r"([0-9]{1,9})([smhdwy]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")


def parse_duration(text: str) -> float | None:
    """The seconds that a text like `7d` means; None for anything else."""
    match = _SPELLING.fullmatch(text)
    return None if match is None else float(int(match[1]) * _SECONDS[match[2]])


class _Duration(click.ParamType[float]):
    """A span of time, in seconds."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not isinstance(value, str):
            return float(value)
        seconds = parse_duration(value)
        if seconds is None:
            self.fail(f"{value!r} is no span of time: write one like 14d, 12h or 30m", param, ctx)
        return seconds


class _Since(click.ParamType[float]):
    """A point in time, in seconds since 1970: a date, or so long before now."""

    name = "since"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not isinstance(value, str):
            return float(value)
        # A year alone would be taken for seconds.
        seconds = parse_duration(value) if not value.isdigit() else None
        if seconds is not None:
            return time.time() - seconds
        try:
            return datetime.datetime.fromisoformat(value).astimezone().timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a span (90d) nor a date (2026-01-31)", param, ctx)


class _Share(click.ParamType[float]):
    """A share between 0 and 1, typed in per cent."""

    name = "share"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not isinstance(value, str):
            return float(value)
        match = _SHARE.fullmatch(value)
        if match is None or float(match[1]) > 100:
            self.fail(f"{value!r} is no share: write one like 20%", param, ctx)
        return float(match[1]) / 100


DURATION = _Duration()
SINCE = _Since()
SHARE = _Share()


def format_duration(seconds: float) -> str:
    """A span as a person would say it, in the largest unit that it is a whole number of."""
    whole = int(seconds)
    noun, size = next((noun, size) for noun, size in _UNITS if whole % size == 0)
    count = whole // size
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_day(seconds: float) -> str:
    """A point in time for people, to the day, by the clock on the wall here."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d")
