"""`revfs ls`: the files of a revision."""

import os
import stat

import click

from cli.console import App, format_bytes
from cli.settings import load_settings
from cli.stores import store_settings
from store.directories import FOLDER_KINDS, TRACKED_KINDS, Kind
from store.opening import LocalStore
from store.paths import PathEntry, list_path, load_path
from store.shown_names import escape_name
from vfs.attributes import mode_of


@click.command("ls")
@click.argument("revision", metavar="[REV]", default="HEAD")
@click.argument("path", metavar="[PATH]", default="")
@click.option("-l", "--long", "as_long", is_flag=True, help="Mode, size and kind of each entry.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(app: App, revision: str, path: str, as_long: bool, as_json: bool) -> None:
    """List a folder of a revision (HEAD if none is named) with true names and sizes. Nothing is
    fetched.

    \b
    Example:
      revfs ls v1.2 train -l
    """
    with LocalStore(store_settings(load_settings(app)), to_write=False) as local:
        root = local.repository.resolve(revision).tree
        found = list(list_path(local.directories, load_path(local.directories, root, _raw(path))))
    if as_json:
        app.console.out_json([_as_json(item) for item in found])
    elif as_long:
        app.console.table(["MODE", "SIZE", "KIND", "NAME"], [_as_row(item) for item in found])
    else:
        for item in found:
            app.console.out(escape_name(_shown_name(item)))


def _raw(path: str) -> bytes:
    return os.fsencode(path)


def _shown_name(item: PathEntry) -> bytes:
    name = item.entry.name
    return name + b"/" if item.entry.kind in FOLDER_KINDS else name


def _kind(kind: Kind) -> str:
    if kind in TRACKED_KINDS:
        return "tracked"
    return {Kind.FOLDER: "folder", Kind.SYMLINK: "link", Kind.SUBMODULE: "submodule"}.get(
        kind, "git"
    )


def _as_row(item: PathEntry) -> list[str | bytes | int]:
    entry = item.entry
    size = "-" if entry.kind in FOLDER_KINDS else format_bytes(entry.size)
    return [stat.filemode(mode_of(entry.kind)), size, _kind(entry.kind), _shown_name(item)]


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
