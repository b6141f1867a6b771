"""`revfs cat`: a file of a revision on standard output."""

import sys

import click
import trio

from cli.completing import complete_revision_then_paths
from cli.console import App
from cli.named import name_resolver
from cli.settings import load_settings
from cli.stores import store_settings
from store.directories import FOLDER_KINDS, TRACKED_KINDS, Entry, Kind
from store.errors import PathNotFound
from store.git import Revision
from store.local_store import LocalStore
from store.named_paths import split_at_colon
from store.opening import open_reading
from store.paths import load_path
from store.plain_files import PlainFiles
from store.shown_names import escape_name

_PIECE_BYTES = 4 << 20


@click.command("cat")
@click.argument(
    "words",
    metavar="REV:PATH | REV PATH",
    nargs=-1,
    required=True,
    shell_complete=complete_revision_then_paths,
)
@click.pass_obj
def command(app: App, words: tuple[str, ...]) -> None:
    """Write a file of a revision to standard output; what is not cached is fetched.

    PATH is from the top of the repository, or with ./ from where you are.

    \b
    Example:
      revfs cat v1.2:train/labels.csv | head
    """
    if len(words) > 2 or (len(words) == 1 and not split_at_colon(words[0])[1]):
        raise click.UsageError("name the file as REV:PATH, for example HEAD:train/labels.csv")
    settings = load_settings(app)
    with LocalStore(store_settings(settings), to_write=False) as local:
        named = name_resolver(app, settings, local).paths(words)
        if len(named.paths) != 1:
            raise click.UsageError("name one revision and one file, as REV:PATH")
        revision, path = named.revision, named.paths[0]
        found = load_path(local.directories, revision.tree, path)
        if found.entry.kind in FOLDER_KINDS:
            shown = escape_name(path) or "the top of the repository"
            raise PathNotFound(f"{shown} is a folder; revfs ls lists it")
        trio.run(_write, local, revision, found.entry)


async def _write(local: LocalStore, revision: Revision, entry: Entry) -> None:
    plain_files = PlainFiles(local.repository, local.settings.cache_directory)
    if entry.kind == Kind.SYMLINK:
        _out(await plain_files.read_link(entry))
        return
    async with open_reading(local, revision.commit) as reading:
        for offset in range(0, entry.size, _PIECE_BYTES):
            if entry.kind in TRACKED_KINDS:
                _out(await reading.contents.read(entry.pointer, offset, _PIECE_BYTES))
            else:
                _out(await plain_files.read(entry, offset, _PIECE_BYTES))


def _out(content: bytes) -> None:
    sys.stdout.buffer.write(content)
