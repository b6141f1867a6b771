"""`revfs diff`: what changed between two revisions, and how much of it is new."""

import os
from collections.abc import Sequence
from contextlib import suppress

import click
import trio

from cli.completing import complete_revision_then_paths
from cli.console import App, Colour, format_bytes, format_count
from cli.named import name_resolver
from cli.options import JSON
from cli.settings import load_settings
from cli.stores import store_settings
from store.directories import TRACKED_KINDS
from store.errors import ChunkMissing, StoreError, leaves_of
from store.local_chunks import LocalChunks
from store.local_store import LocalStore
from store.named_paths import NamedComparison
from store.new_bytes import NewBytes, count_new_bytes
from store.opening import Reading, open_reading
from store.paths import PathEntry, load_path, walk_path
from store.revision_diff import (
    Change,
    ChangeKind,
    compare_trees,
    is_executable,
    total_of,
)
from store.shown_names import escape_name
from vfs.attributes import mode_of

# A longer name pushes what follows it to the right.
_NAME_WIDTH = 60
_COLOURS = {ChangeKind.ADDED: Colour.NEW, ChangeKind.REMOVED: Colour.GONE}


@click.command("diff")
@click.argument(
    "words",
    metavar="V1 [V2] [PATH]",
    nargs=-1,
    required=True,
    shell_complete=complete_revision_then_paths,
)
@click.option("-s", "--summary", is_flag=True, help="The totals alone.")
@JSON
@click.pass_obj
def command(app: App, words: tuple[str, ...], summary: bool, as_json: bool) -> None:
    """Compare the files of revision V1 with those of V2 (HEAD if it is not named; V1..V2 does too),
    all or those below PATH: added, changed, removed, renamed with the same content, and those whose
    mode alone changed. Files that git keeps itself are marked (git).

    New bytes are those of the pieces of added and changed files that V1 has nowhere, each counted
    once and before compression: what V2 adds to the remote. Lists of pieces that are not here are
    fetched for that; no data is.

    \b
    Example:
      revfs diff v1 v2 train
    """
    if "..." in words[0]:
        raise click.UsageError("write V1..V2 with two dots")
    if len(words) > (2 if ".." in words[0] else 3):
        raise click.UsageError("name at most two revisions and one path")
    settings = load_settings(app)
    with LocalStore(store_settings(settings), to_write=False) as local:
        named = name_resolver(app, settings, local).comparison(words)
        changes = compare_trees(local.directories, named.old.tree, named.new.tree, named.path)
        new_bytes = _count_new_bytes(app, local, named, changes)
    if as_json:
        app.console.out_json(_as_json(named, [] if summary else changes, changes, new_bytes))
        return
    if not summary:
        _show_changes(app, changes)
    _show_totals(app, changes, new_bytes, named.old.text)


def _count_new_bytes(
    app: App, local: LocalStore, named: NamedComparison, changes: Sequence[Change]
) -> NewBytes | None:
    """None where chunk lists that it takes cannot be had, with a warning that says why."""
    root = load_path(local.directories, named.old.tree, b"")
    old_files = [found.entry for found in walk_path(local.directories, root)] if changes else []

    async def count(old: Reading | None = None, new: Reading | None = None) -> NewBytes:
        return await count_new_bytes(changes, old_files, LocalChunks(local), old, new)

    async def fetch_and_count() -> NewBytes:
        async with (
            open_reading(local, named.old.commit) as old,
            open_reading(local, named.new.commit) as new,
        ):
            return await count(old, new)

    # Where all is here no remote is opened, and none has to be there.
    with suppress(ChunkMissing):
        return trio.run(count)
    counted = None
    try:
        counted = trio.run(fetch_and_count)
    except* StoreError as errors:
        app.console.warn(f"how many bytes are new is unknown: {next(leaves_of(errors))}")
    return counted


def _show_changes(app: App, changes: Sequence[Change]) -> None:
    width = min(max((len(_names(change)) for change in changes), default=0), _NAME_WIDTH)
    for change in changes:
        line = f"{change.kind.value:<8} {_names(change):<{width}}  {_facts(change)}"
        app.console.out(line.rstrip(), _COLOURS.get(change.kind, Colour.OTHER))


def _show_totals(app: App, changes: Sequence[Change], new_bytes: NewBytes | None, old: str) -> None:
    if not changes:
        app.console.out("nothing changed")
        return
    totals = total_of(changes)
    words = [
        f"{total.files:,} {kind.value}{_total_sizes(kind, total.old_bytes, total.new_bytes)}"
        for kind, total in totals.items()
        if total.files
    ]
    app.console.out(", ".join(words))
    if new_bytes is None:
        app.console.out("new bytes: unknown")
        return
    pieces = format_count(new_bytes.chunks, "piece")
    app.console.out(
        f"new bytes: {format_bytes(new_bytes.chunk_bytes)} in {pieces} that {old} has nowhere"
        f"{_git_words(new_bytes)}"
    )


def _git_words(new_bytes: NewBytes) -> str:
    if not new_bytes.git_files:
        return ""
    files = format_count(new_bytes.git_files, "file")
    return f", and {format_bytes(new_bytes.git_bytes)} in {files} of git's own"


def _total_sizes(kind: ChangeKind, old_bytes: int, new_bytes: int) -> str:
    if kind == ChangeKind.CHANGED:
        return f" ({format_bytes(old_bytes)} -> {format_bytes(new_bytes)})"
    return f" ({format_bytes(max(old_bytes, new_bytes))})"


def _names(change: Change) -> str:
    name = escape_name(change.path)
    if change.kind != ChangeKind.RENAMED or change.old is None:
        return name
    return f"{escape_name(change.old.path)} -> {name}"


def _facts(change: Change) -> str:
    """Sizes, what became of the execute bit, and whose file it is."""
    sides = [side.entry for side in (change.old, change.new) if side is not None]
    sizes = [format_bytes(entry.size) for entry in sides]
    words = [" -> ".join(sizes if change.kind == ChangeKind.CHANGED else sizes[-1:])]
    if len(sides) == 2 and is_executable(sides[0]) != is_executable(sides[1]):
        words.append("+x" if is_executable(sides[1]) else "-x")
    if sides[-1].kind not in TRACKED_KINDS:
        words.append("(git)")
    return "  ".join(words)


def _as_json(
    named: NamedComparison,
    shown: Sequence[Change],
    changes: Sequence[Change],
    new_bytes: NewBytes | None,
) -> dict[str, object]:
    return {
        "old": {"revision": named.old.text, "commit": named.old.commit},
        "new": {"revision": named.new.text, "commit": named.new.commit},
        "path": os.fsdecode(named.path),
        "changes": [_change_as_json(change) for change in shown],
        "totals": {
            kind.value: {
                "files": total.files,
                "old_size": total.old_bytes,
                "size": total.new_bytes,
            }
            for kind, total in total_of(changes).items()
        },
        "new_bytes": None if new_bytes is None else new_bytes.chunk_bytes,
        "new_pieces": None if new_bytes is None else new_bytes.chunks,
        "new_git_bytes": None if new_bytes is None else new_bytes.git_bytes,
    }


def _change_as_json(change: Change) -> dict[str, object]:
    latest = change.new or change.old
    assert latest is not None
    return {
        "status": change.kind.value,
        "path": os.fsdecode(change.path),
        "kind": "tracked" if latest.entry.kind in TRACKED_KINDS else "git",
        "old": _side_as_json(change.old),
        "new": _side_as_json(change.new),
    }


def _side_as_json(found: PathEntry | None) -> dict[str, object] | None:
    if found is None:
        return None
    entry = found.entry
    is_tracked = entry.kind in TRACKED_KINDS
    return {
        "path": os.fsdecode(found.path),
        "size": entry.size,
        "mode": f"{mode_of(entry.kind):o}",
        "blake3" if is_tracked else "git_id": entry.raw_id.hex() if is_tracked else entry.git_id,
    }
