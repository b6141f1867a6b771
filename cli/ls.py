"""`revfs ls`: the files of a revision."""

import os
import stat

import click

from cli.completing import complete_revision_then_paths
from cli.console import App, format_bytes
from cli.named import name_resolver
from cli.options import JSON
from cli.settings import load_settings
from cli.stores import store_settings
from store.directories import FOLDER_KINDS, TRACKED_KINDS, Kind
from store.local_store import LocalStore
from store.paths import PathEntry, list_path, load_path, walk_path
from store.shown_names import escape_name
from vfs.attributes import mode_of


@click.command("ls")
@click.argument(
    "words", metavar="[REV] [PATH]", nargs=-1, shell_complete=complete_revision_then_paths
)
@click.option("-l", "--long", "as_long", is_flag=True, help="Mode, size and kind of each entry.")
@click.option("-R", "--recursive", is_flag=True, help="Every file below, by its path from there.")
@JSON
@click.pass_obj
def command(
    app: App, words: tuple[str, ...], as_long: bool, recursive: bool, as_json: bool
) -> None:
    """List a folder of a revision (HEAD if none is named) with true names and sizes. Nothing is
    fetched. REV:PATH does too.

    PATH is from the top of the repository, or with ./ from where you are.

    \b
    Example:
      revfs ls v1.2 train -l
    """
    settings = load_settings(app)
    with LocalStore(store_settings(settings), to_write=False) as local:
        named = name_resolver(app, settings, local).paths(words)
        if len(named.paths) > 1:
            raise click.UsageError("name one revision and one path")
        path = named.paths[0] if named.paths else b""
        folder = load_path(local.directories, named.revision.tree, path)
        walk = walk_path if recursive else list_path
        found = list(walk(local.directories, folder))
    if as_json:
        app.console.out_json([_as_json(item) for item in found])
        return
    names = [_shown_name(item, folder) for item in found]
    if as_long:
        rows = [_as_row(item, name) for item, name in zip(found, names, strict=True)]
        app.console.table(["MODE", "SIZE", "KIND", "NAME"], rows)
        return
    for name in names:
        app.console.out(escape_name(name))


def _shown_name(item: PathEntry, listed: PathEntry) -> bytes:
    """The path from the folder that is listed; a file that is named itself, by its last name."""
    above = len(listed.path) + 1 if listed.path else 0
    name = item.path[above:] or item.entry.name
    return name + b"/" if item.entry.kind in FOLDER_KINDS else name


def _kind(kind: Kind) -> str:
    if kind in TRACKED_KINDS:
        return "tracked"
    return {Kind.FOLDER: "folder", Kind.SYMLINK: "link", Kind.SUBMODULE: "submodule"}.get(
        kind, "git"
    )


def _as_row(item: PathEntry, name: bytes) -> list[str | bytes | int]:
    entry = item.entry
    size = "-" if entry.kind in FOLDER_KINDS else format_bytes(entry.size)
    return [stat.filemode(mode_of(entry.kind)), size, _kind(entry.kind), name]


def _as_json(item: PathEntry) -> dict[str, object]:
    entry = item.entry
    facts: dict[str, object] = {
        "path": os.fsdecode(item.path),
        "kind": _kind(entry.kind),
        "mode": f"{mode_of(entry.kind):o}",
        "size": entry.size,
    }
    if entry.kind in TRACKED_KINDS:
        facts |= {"blake3": entry.raw_id.hex(), "chunks": entry.chunks}
    else:
        facts["git_id"] = entry.git_id
    return facts
