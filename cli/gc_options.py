"""Options of `gc --remote`: what a remote is to keep, and how carefully."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from cli.completing import complete_remote
from cli.durations import SHARE, SINCE
from store.collection import CollectionRules

_DEFAULTS = CollectionRules()

_OPTIONS = (
    click.option(
        "--remote",
        "remote_name",
        metavar="NAME",
        shell_complete=complete_remote,
        help="Give space back in this remote, and not on this machine.",
    ),
    click.option(
        "--keep-branches",
        "branches",
        is_flag=True,
        help="With --remote: keep the tip of each branch, those of git remotes too.",
    ),
    click.option(
        "--keep-tags", "tags", is_flag=True, help="With --remote: keep what each tag names."
    ),
    click.option(
        "--keep-since",
        "since_seconds",
        type=SINCE,
        metavar="TIME",
        help="With --remote: keep commits of the last 90d, or since 2026-01-31, that any ref "
        "leads to.",
    ),
    click.option(
        "--keep-commit",
        "keep_commits",
        metavar="REV",
        multiple=True,
        help="With --remote: keep this commit, or a range A..B. May be repeated.",
    ),
    click.option(
        "--max-delete",
        "most_share",
        type=SHARE,
        metavar="SHARE",
        help="With --remote: refuse to let more of its bytes go at once (20%).",
    ),
    click.option(
        "--no-repack",
        is_flag=True,
        help="With --remote: leave packs as they are of which less than half is needed.",
    ),
    click.option(
        "--undo", is_flag=True, help="Bring back what was forgotten, of each REV or of all."
    ),
)


class RemoteFlags(NamedTuple):
    """What was typed of these. `undo` goes with revisions, all else with a remote alone."""

    remote_name: str | None
    branches: bool
    tags: bool
    since_seconds: float | None
    keep_commits: tuple[str, ...]
    most_share: float | None
    no_repack: bool
    undo: bool

    def require_meant(self, everything: bool, revisions: tuple[str, ...]) -> None:
        """Raise UsageError where the flags do not go together."""
        policy = self._replace(remote_name=None, undo=False) != _NOTHING
        if policy and self.undo:
            raise click.UsageError("--undo brings back; what to keep is for another run")
        if policy and self.remote_name is None:
            raise click.UsageError("what to keep in a remote goes with --remote NAME")
        if everything and (self.remote_name is not None or self.undo):
            raise click.UsageError("--all empties the cache of this machine, not a remote")
        if revisions and not self.undo:
            raise click.UsageError("revisions go with --undo; --keep-commit REV keeps one")

    @property
    def share(self) -> float:
        """What may go at once."""
        return _DEFAULTS.most_share if self.most_share is None else self.most_share


_NOTHING = RemoteFlags(None, False, False, None, (), None, False, False)


def remote_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options, as one argument `remote`."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        fields = {name: options.pop(name) for name in RemoteFlags._fields}
        command(*arguments, remote=RemoteFlags(**fields), **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
