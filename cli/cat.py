"""`revfs cat`: a file of a revision on standard output."""

import os
import sys

import click
import trio

from cli.console import App
from cli.settings import load_settings
from cli.stores import store_settings
from store.directories import FOLDER_KINDS, TRACKED_KINDS, Entry, Kind
from store.errors import PathNotFound
from store.git import Revision
from store.opening import LocalStore, open_reading
from store.paths import load_path
from store.plain_files import PlainFiles

_PIECE_BYTES = 4 << 20


@click.command("cat")
@click.argument("file", metavar="REV:PATH")
@click.pass_obj
def command(app: App, file: str) -> None:
    """Write a file of a revision to standard output; what is not cached is fetched.

    \b
    Example:
      revfs cat v1.2:train/labels.csv | head
    """
    revision_text, colon, path = file.partition(":")
    if not colon or not path:
        raise click.UsageError("name the file as REV:PATH, for example HEAD:train/labels.csv")
    with LocalStore(store_settings(load_settings(app)), to_write=False) as local:
        revision = local.repository.resolve(revision_text or "HEAD")
        found = load_path(local.directories, revision.tree, os.fsencode(path))
        if found.entry.kind in FOLDER_KINDS:
            raise PathNotFound(f"{path} is a folder; revfs ls lists it")
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
