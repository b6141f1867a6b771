"""`revfs status`: what is staged, modified, not pushed yet, and here."""

import os
from collections.abc import Sequence
from dataclasses import asdict

import click

from cli.console import App, Colour, format_bytes, format_count
from cli.options import JSON
from cli.settings import Settings, load_settings
from cli.stores import store_settings
from store.git import Commit
from store.local_store import LocalStore
from store.shown_names import escape_name
from store.status import Status, read_status
from store.work_tree_changes import Difference, FileChange, WorkTreeChanges

_MOST_SHOWN = 20
# A longer name pushes what follows it to the right.
_NAME_WIDTH = 60
_COLOURS = {Difference.ADDED: Colour.NEW, Difference.DELETED: Colour.GONE}


@click.command("status")
@JSON
@click.pass_obj
def command(app: App, as_json: bool) -> None:
    """Show the state of tracked files: what is staged for the next commit, what is modified since,
    what is in conflict, and how many files are still pointer texts; then what is staged beside git,
    what of HEAD's history is not pushed as far as this machine knows, and how much of HEAD can be
    read without a network. Asks no remote. Files that are not tracked are for git status.

    \b
    Example:
      revfs status
    """
    settings = load_settings(app)
    with LocalStore(store_settings(settings), to_write=False) as local:
        pushed = _load_pushed(settings, local)

        def is_pushed(commit: Commit) -> bool:
            return commit.commit in pushed

        status = read_status(local, is_pushed)
        has_asked = bool(pushed) or settings.remote is None
    if as_json:
        app.console.out_json(_as_json(status))
    else:
        _show(app, status, has_asked)


def _load_pushed(settings: Settings, local: LocalStore) -> set[str]:
    store, repository_id = local.load_store_id(), settings.config.get("repository.id")
    if store is None or repository_id is None:
        return set()
    return set(local.index.load_pushed_commits(store, repository_id))


def _show(app: App, status: Status, has_asked: bool) -> None:
    app.console.out(_place(status))
    changes = status.changes
    _show_changes(app, "Staged for the next commit:", changes.staged)
    _show_changes(app, "Modified in the work tree:", changes.modified)
    _show_section(
        app,
        "In conflict (revfs resolve ends it):",
        [(f"  {escape_name(path)}", Colour.GONE) for path in changes.conflicted],
    )
    if status.unwritten.items:
        files, size = _words(status.unwritten.items, status.unwritten.size_bytes)
        app.console.out(f"\nNot checked out: {files}, {size}; revfs checkout or pull writes them")
    app.console.out("")
    for line in _counts(status, has_asked):
        app.console.out(line)


def _place(status: Status) -> str:
    where = "HEAD detached" if status.branch is None else f"On branch {status.branch}"
    return (
        f"{where}, no commit yet" if status.commit is None else f"{where} at {status.commit[:12]}"
    )


def _counts(status: Status, has_asked: bool) -> list[str]:
    doubt = "" if has_asked else ", as far as this clone knows: it has asked no remote yet"
    staged, unpushed, cached = status.staged_packs, status.unpushed_files, status.cached_packs
    head, here = status.head_files, status.here_files
    packs = format_count(staged.items, "pack")
    commits = format_count(status.unpushed_commits, "commit")
    files = format_count(unpushed.items, "file")
    of_head = f"{here.items:,} of {format_count(head.items, 'file')} of HEAD"
    of_size = f"{format_bytes(here.size_bytes)} of {format_bytes(head.size_bytes)}"
    in_all = f"{format_count(cached.items, 'pack')}, {format_bytes(cached.size_bytes)}"
    return [
        f"staged    {packs}, {format_bytes(staged.size_bytes)}",
        f"unpushed  {commits}; {files} of them staged, {format_bytes(unpushed.size_bytes)}{doubt}",
        f"here      {of_head}, {of_size}",
        f"cached    {in_all}",
    ]


def _words(items: int, size_bytes: int) -> tuple[str, str]:
    return format_count(items, "file"), format_bytes(size_bytes)


def _show_changes(app: App, title: str, changes: Sequence[FileChange]) -> None:
    rows = [(change.difference.value, _names(change), _sizes(change)) for change in changes]
    width = min(max((len(names) for _, names, _ in rows[:_MOST_SHOWN]), default=0), _NAME_WIDTH)
    lines = [f"  {word:<8}  {names:<{width}}  {sizes}".rstrip() for word, names, sizes in rows]
    colours = [_COLOURS.get(change.difference, Colour.OTHER) for change in changes]
    _show_section(app, title, list(zip(lines, colours, strict=True)))


def _show_section(app: App, title: str, lines: Sequence[tuple[str, Colour]]) -> None:
    if not lines:
        return
    app.console.out(f"\n{title}")
    for line, colour in lines[:_MOST_SHOWN]:
        app.console.out(line, colour)
    if len(lines) > _MOST_SHOWN:
        app.console.out(f"  and {len(lines) - _MOST_SHOWN:,} more (--json has all)")


def _names(change: FileChange) -> str:
    name = escape_name(change.path)
    return name if change.old_path is None else f"{escape_name(change.old_path)} -> {name}"


def _sizes(change: FileChange) -> str:
    sizes = [change.old_size, change.size]
    if change.old_size == change.size:
        sizes = [change.size]
    return " -> ".join(format_bytes(size) for size in sizes if size is not None)


def _as_json(status: Status) -> dict[str, object]:
    facts = asdict(status)
    del facts["changes"]
    return facts | _changes_as_json(status.changes)


def _changes_as_json(changes: WorkTreeChanges) -> dict[str, object]:
    return {
        "staged": [_change_as_json(change) for change in changes.staged],
        "modified": [_change_as_json(change) for change in changes.modified],
        "conflicted": [os.fsdecode(path) for path in changes.conflicted],
    }


def _change_as_json(change: FileChange) -> dict[str, object]:
    old_path = change.old_path
    return {
        "status": change.difference.value,
        "path": os.fsdecode(change.path),
        "old_path": None if old_path is None else os.fsdecode(old_path),
        "size": change.size,
        "old_size": change.old_size,
    }
