"""`revfs du`: true, stored and cached sizes of a revision."""

import os
from collections.abc import Iterator

import click
import trio

from cli.completing import complete_revision_then_paths
from cli.console import App, format_bytes
from cli.named import name_resolver
from cli.options import JSON
from cli.settings import load_settings
from cli.stores import store_settings
from store.errors import StoreError, leaves_of
from store.local_store import LocalStore
from store.named_paths import NamedPaths
from store.opening import open_reading
from store.paths import PathEntry, list_path, load_path
from store.sizes import PartSize, Size, SizeSurvey, outermost


@click.command("du")
@click.argument(
    "words", metavar="[REV] [PATH]...", nargs=-1, shell_complete=complete_revision_then_paths
)
@click.option("-s", "--summary", is_flag=True, help="One line for each PATH, not what is in it.")
@click.option("--offline", is_flag=True, help="Ask no remote; what is not known here is unknown.")
@JSON
@click.pass_obj
def command(app: App, words: tuple[str, ...], summary: bool, offline: bool, as_json: bool) -> None:
    """Show how large the files and folders of a revision are (of HEAD, and of all, if none is
    named): SIZE as they are read, STORED as their pieces lie in packs, each piece once and
    compressed, and HERE the part of that which can be read without a network. Pieces that several
    lines share are in each of them, and once in the total. Files that git keeps itself have no
    stored size here.

    Paths are from the top of the repository, or with ./ from where you are.

    \b
    Example:
      revfs du v1.2 train
    """
    settings = load_settings(app)
    with LocalStore(store_settings(settings), to_write=False) as local:
        named = name_resolver(app, settings, local).paths(words)
        survey = SizeSurvey(local, _parts(local, named, summary))
        parts, total = survey.measure()
        if total.unknown_bytes and not offline and settings.remote is not None:
            try:
                trio.run(_fetch, survey, local, named)
            except* StoreError as errors:
                app.console.warn(f"sizes are incomplete: {next(leaves_of(errors))}")
            parts, total = survey.measure()
    if as_json:
        facts = {"parts": [_part_as_json(part) for part in parts], "total": _as_json(total)}
        app.console.out_json(facts)
    else:
        _show(app, parts, total)


async def _fetch(survey: SizeSurvey, local: LocalStore, named: NamedPaths) -> None:
    async with open_reading(local, named.revision.commit) as reading:
        await survey.fetch(reading)


def _parts(local: LocalStore, named: NamedPaths, summary: bool) -> Iterator[PathEntry]:
    for path in outermost(named.paths) or [b""]:
        found = load_path(local.directories, named.revision.tree, path)
        yield from [found] if summary else list_path(local.directories, found)


def _show(app: App, parts: list[PartSize], total: Size) -> None:
    rows = [_row(part.size, _name(part)) for part in parts]
    app.console.table(["SIZE", "STORED", "HERE", "NAME"], [*rows, _row(total, b"total")])
    if total.unknown_bytes:
        unknown = format_bytes(total.unknown_bytes)
        app.console.warn(f"{unknown} of that are known of nowhere, and not in STORED")


def _name(part: PartSize) -> bytes:
    return (part.path or b".") + (b"/" if part.is_folder else b"")


def _row(size: Size, name: bytes) -> list[str | bytes | int]:
    of_git_alone = size.git_bytes == size.size_bytes
    stored = "-" if of_git_alone else format_bytes(size.stored_bytes)
    here = "-" if of_git_alone else format_bytes(size.here_bytes)
    return [format_bytes(size.size_bytes), stored, here, name]


def _part_as_json(part: PartSize) -> dict[str, object]:
    kind = "folder" if part.is_folder else "file"
    return {"path": os.fsdecode(part.path), "kind": kind, **_as_json(part.size)}


def _as_json(size: Size) -> dict[str, object]:
    return {
        "files": size.files,
        "size": size.size_bytes,
        "git_size": size.git_bytes,
        "stored": size.stored_bytes,
        "here": size.here_bytes,
        "unknown": size.unknown_bytes,
    }
