"""`revfs filter-process`: what git runs for tracked files (filter.revfs.process)."""

import os
import select
import signal
import sys

import click

from cli.console import App, format_count
from cli.settings import load_settings
from cli.stores import jobs, store_settings
from store.filter_protocol import serve_filter
from store.git_filter import GitFilter
from store.local_store import LocalStore

_BUFFER_BYTES = 256 << 10


@click.command("filter-process", hidden=True)
@click.pass_obj
def command(app: App) -> None:
    """Clean and smudge for git, by its protocol for long-running filters.

    \b
    Example:
      git config filter.revfs.process "revfs filter-process"
    """
    settings = load_settings(app)
    # A terminal's Ctrl-C is for git; when git is gone, what was staged is still to be made to last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with LocalStore(store_settings(settings), to_write=True) as local:
        policy = settings.config.smudge_policy
        with GitFilter(local, policy, jobs(), _check_listener) as work:
            source = open(sys.stdin.fileno(), "rb", buffering=_BUFFER_BYTES, closefd=False)  # noqa: SIM115
            serve_filter(source, sys.stdout.buffer, work)
    _report(app, work)


def _report(app: App, work: GitFilter) -> None:
    """On stderr, since stdout is git's."""
    if work.left_as_pointers:
        files = format_count(work.left_as_pointers, "file")
        app.console.trace(f"revfs: {files} left as pointers: the data is not here; see revfs pull")
    if work.too_large:
        files = format_count(work.too_large, "file")
        app.console.trace(
            f"revfs: {files} left as pointers: too large for git's memory; see revfs checkout"
        )


def _check_listener() -> None:
    """Raise BrokenPipeError where git has gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if poll.poll(0):
        raise BrokenPipeError(f"git (process {os.getppid()}) has gone")
