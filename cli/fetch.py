"""`revfs fetch`: the data of a revision comes into the cache."""

import os
from contextlib import ExitStack
from pathlib import Path

import click
import trio

from cli.completing import complete_revision_then_paths
from cli.console import App, format_bytes, format_count
from cli.options import JSON, REMOTE
from cli.settings import Settings, load_settings
from cli.stores import store_settings
from cli.work_tree import raise_failures
from store.errors import PathNotFound, PathRefused, RevisionNotFound
from store.fetch_contents import FetchSummary, fetch_contents
from store.git import GitRepository, Revision
from store.local_store import LocalStore
from store.paths import load_path
from store.progress import ByteProgress


@click.command("fetch")
@click.argument(
    "words", metavar="[REV] [PATH...]", nargs=-1, shell_complete=complete_revision_then_paths
)
@REMOTE
@JSON
@click.pass_obj
def command(app: App, words: tuple[str, ...], remote_name: str | None, as_json: bool) -> None:
    """Bring the data of a revision (HEAD if none is named) into the cache, as far as it is not
    here: all of it, or that of some of its files and folders. Mounts, checkout and export then need
    no network.

    The first word is a revision if there is one of that name, and else a path in HEAD.

    \b
    Example:
      revfs fetch v1.2 train
    """
    settings = load_settings(app, remote_name=remote_name)
    with LocalStore(store_settings(settings), to_write=False) as local, ExitStack() as shown:

        def progress_to(total_bytes: int) -> ByteProgress:
            return shown.enter_context(app.console.progress("fetch", total_bytes))

        revision, rest = _revision_of(local.repository, words)
        paths = [_path_in_revision(app, settings, text) for text in rest]
        if rest and rest == words:
            _require_path(local, revision, rest[0], paths[0])
        summary = trio.run(fetch_contents, local, revision, paths, progress_to)
    if as_json:
        app.console.out_json({"commit": revision.commit} | _facts(summary))
    else:
        assert settings.remote is not None
        app.console.say(_words(summary, revision.text, settings.remote.url))
    raise_failures(summary.failures, "some files could not be fetched")


def _revision_of(
    repository: GitRepository, words: tuple[str, ...]
) -> tuple[Revision, tuple[str, ...]]:
    """The revision that is meant, and the paths."""
    if words:
        try:
            return repository.resolve(words[0]), words[1:]
        except RevisionNotFound:
            pass
    return repository.resolve("HEAD"), words


def _require_path(local: LocalStore, revision: Revision, text: str, path: bytes) -> None:
    try:
        load_path(local.directories, revision.tree, path)
    except PathNotFound as error:
        raise PathNotFound(f"{text} is neither a revision here nor a path in HEAD") from error


def _path_in_revision(app: App, settings: Settings, text: str) -> bytes:
    """A path as the person sees it: from where they stand in the work tree, else from the top."""
    top = settings.paths.work_tree
    here = Path(os.path.realpath(app.cwd))
    if top is None or not here.is_relative_to(os.path.realpath(top)):
        return os.fsencode(text)
    below = os.path.relpath(os.path.normpath(here / text), os.path.realpath(top))
    if below == os.pardir or below.startswith(os.pardir + os.sep):
        raise PathRefused(f"{text} is outside the work tree {top}")
    return os.fsencode(below)


def _words(summary: FetchSummary, revision: str, url: str) -> str:
    files = f"{format_count(summary.files, 'file')} of {revision}"
    size = format_bytes(summary.total_bytes)
    if summary.in_place:
        return f"nothing to fetch: {url} is a folder, where the {files} ({size}) are read in place"
    here = format_bytes(summary.here_bytes)
    fetched = format_bytes(summary.fetched_bytes)
    return f"{files} ({size}): {here} were here already, {fetched} fetched"


def _facts(summary: FetchSummary) -> dict[str, object]:
    return {
        "files": summary.files,
        "bytes": summary.total_bytes,
        "here_bytes": summary.here_bytes,
        "fetched_bytes": summary.fetched_bytes,
        "in_place": summary.in_place,
        "failed": len(summary.failures),
    }
