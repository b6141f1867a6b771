"""Durations, points in time and shares as options: `90d`, `2026-01-31`, `20%`."""

import datetime
import re
import time

import click

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhdwy])")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%")


def parse_duration(text: str) -> float | None:
    """The seconds that a text like `7d` means; None for anything else."""
    match = _DURATION.fullmatch(text)
    return None if match is None else float(match[1]) * _UNIT_SECONDS[match[2]]


class _Duration(click.ParamType[float]):
    """A number of seconds, typed with its unit."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        seconds = parse_duration(value)
        if seconds is None:
            self.fail(f"{value!r} is no duration; say 12h, 7d, 2w or 1y", param, ctx)
        return seconds


class _Since(click.ParamType[float]):
    """A point in time, in seconds since 1970: a date, or so long before now."""

    name = "since"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        seconds = parse_duration(value)
        if seconds is not None:
            return time.time() - seconds
        try:
            return datetime.datetime.fromisoformat(value).astimezone().timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a duration (90d) nor a date (2026-01-31)", param, ctx)


class _Share(click.ParamType[float]):
    """A share between 0 and 1, typed in per cent."""

    name = "share"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        match = _SHARE.fullmatch(value)
        if match is None or float(match[1]) > 100:
            self.fail(f"{value!r} is no share; say 20%", param, ctx)
        return float(match[1]) / 100


DURATION = _Duration()
SINCE = _Since()
SHARE = _Share()


def format_day(seconds: float) -> str:
    """A point in time for people, to the day, by the clock on the wall here."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d")
