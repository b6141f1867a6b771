"""Options that several verbs have, each in one place."""

import math

import click

from cli.completing import complete_remote


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A range lets "nan" pass, which is on neither side of anything."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("it must be a number of seconds")
    return value


REMOTE = click.option(
    "--remote",
    "remote_name",
    metavar="NAME",
    shell_complete=complete_remote,
    help="The remote; else the default one.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    metavar="SECONDS",
    help="How long a read waits for its bytes before it fails (30).",
)
