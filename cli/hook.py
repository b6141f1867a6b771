"""`revfs hook pre-push`: what git runs before it pushes refs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import click

from cli.console import App, format_count
from cli.push import push_commits, push_words
from cli.settings import load_settings
from cli.stores import store_settings
from store.config_keys import REPOSITORY_ID
from store.directories import TRACKED_KINDS
from store.errors import ConfigError, RevisionNotFound, StoreError, find_store_error
from store.git import Commit, GitRepository
from store.ids import GitId
from store.kept_by_git import load_unmarked
from store.local_store import LocalStore
from store.shown_names import escape_name


@click.group("hook", hidden=True)
def command() -> None:
    """What git's hooks run.

    \b
    Example:
      revfs hook pre-push "$@"
    """


@command.command("pre-push")
@click.argument("arguments", nargs=-1)
@click.pass_obj
def pre_push(app: App, arguments: tuple[str, ...]) -> None:
    """Send the data of the commits that git is about to push; an error stops git's push.

    Standard input has git's lines (githooks(5)); the arguments, git's remote, do not matter.

    \b
    Example:
      revfs hook pre-push "$@"
    """
    tips = _pushed_tips(sys.stdin.read())
    if not tips:
        return
    settings = load_settings(app)
    if settings.config.get(REPOSITORY_ID) is None:
        # A folder of hooks may serve repositories that know nothing of revfs.
        return
    with LocalStore(store_settings(settings), to_write=True) as local:
        commits = local.repository.history(_commits_of(local.repository, tips))
        if settings.remote is None:
            _require_no_data(local, commits)
            return
        try:
            summary = push_commits(app, settings, local, commits)
        except Exception as error:
            cause = find_store_error(error)
            if cause is None:
                raise
            raise StoreError(
                f"{cause} (git push stops here, since the data goes first; git push "
                "--no-verify leaves it behind)"
            ) from error
        _warn_of_unmarked(app, local, commits)
    # On stderr, as all that git push says.
    if not app.console.quiet:
        app.console.trace(f"revfs: {push_words(summary, settings.remote.url)}")


def _warn_of_unmarked(app: App, local: LocalStore, commits: Sequence[Commit]) -> None:
    """A folder that was renamed takes its rule not along."""
    repository = local.repository
    # What the rules of the work tree say holds for what is checked out in it.
    if not commits or commits[-1].commit != repository.resolve("HEAD").commit:
        return
    unmarked = load_unmarked(repository, local.directories, [commits[-1].tree])
    if unmarked:
        files = format_count(len(unmarked), "data file")
        app.console.warn(
            f"{files} ({escape_name(unmarked[0])}) no rule in .gitattributes marks: at its next "
            "change git would take the data itself; revfs add the folder where it is now"
        )


def _pushed_tips(lines: str) -> list[str]:
    """The ids that refs are to be set to: of each line the second word, but for deletions."""
    tips = [words[1] for words in map(str.split, lines.splitlines()) if len(words) >= 4]
    return [tip for tip in dict.fromkeys(tips) if tip.strip("0")]


def _commits_of(repository: GitRepository, tips: list[str]) -> Iterator[GitId]:
    for tip in tips:
        # A tag may name something that is no commit, and then has no data.
        with suppress(RevisionNotFound):
            yield repository.resolve(tip).commit


def _require_no_data(local: LocalStore, commits: list[Commit]) -> None:
    seen: set[bytes] = set()
    for commit in commits:
        for _, entry in local.directories.walk_new(commit.tree, seen):
            if entry.kind in TRACKED_KINDS:
                raise ConfigError(
                    "there is no remote for the data yet: `revfs remote add -d NAME URL` makes "
                    "one (git push --no-verify goes without the data)"
                )
