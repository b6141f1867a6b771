"""What arguments can be completed to, for `shell_complete=` of click's parameters: revisions,
paths in them, remotes and mountpoints.

Each is asked of git or read from small files when a TAB is pressed; nothing is fetched, and what
cannot be told is no error there.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from store.errors import StoreError
from store.git_command import RepositoryPaths, find_repository, run_git

_REFERENCES = ("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags")
# What a shell takes as one word, as it is. Other names are there, but have to be typed.
_PLAIN_WORD = re.compile(r"[\w.@%+=,:/-]+")
_MOST_ITEMS = 1000

Items = list[CompletionItem[str]]


def complete_verbs(verbs: Iterable[tuple[str, str]], incomplete: str) -> Items:
    """The verbs, each with its line in the list of verbs, without a look at any of them."""
    return [
        CompletionItem(name, help=summary) for name, summary in verbs if name.startswith(incomplete)
    ]


def complete_revision(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Branches and tags."""
    with suppress(StoreError, OSError):
        names = run_git(_REFERENCES, cwd=repository_around(ctx).top).splitlines()
        return plain_items(["HEAD", *map(os.fsdecode, names)], incomplete)
    return []


def complete_revision_then_paths(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> Items:
    """For the words `REV PATH…`: branches and tags, then paths in what was typed."""
    words = ctx.params.get(param.name or "") or ()
    if not words:
        return complete_revision(ctx, param, incomplete)
    return _paths_in(ctx, words[0], incomplete)


def complete_revision_then_place(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> Items:
    """For the words `REV FOLDER`: branches and tags, then folders of this machine."""
    if not ctx.params.get(param.name or ""):
        return complete_revision(ctx, param, incomplete)
    return [CompletionItem(incomplete, type="dir")]


def _paths_in(ctx: click.Context, revision: str, incomplete: str) -> Items:
    folder = incomplete.rpartition("/")[0]
    with suppress(StoreError, OSError):
        place = repository_around(ctx).top
        command = ["ls-tree", "-z", "--full-tree", "--end-of-options", f"{revision}:{folder}"]
        lines = run_git(command, cwd=place).split(b"\0")[:-1]
        return plain_items(
            (f"{folder}/{name}" if folder else name for name in _names(lines)), incomplete
        )
    return []


def _names(lines: Iterable[bytes]) -> Iterator[str]:
    """The names in what ls-tree prints; a folder's ends with a slash, as there is more to type."""
    for line in lines:
        facts, _, name = line.partition(b"\t")
        yield os.fsdecode(name) + ("/" if b" tree " in facts else "")


def complete_remote(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The names of the repository's remotes."""
    from store.config import load_config

    with suppress(StoreError, OSError):
        return plain_items(
            load_config(repository_around(ctx), os.environ).remote_names(), incomplete
        )
    return []


def complete_mountpoint(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Where revisions are mounted: relative to this folder where that is how it was begun."""
    from store.config_files import user_folder
    from vfs.mount_records import MountRecords

    here = _folder(ctx)
    with suppress(StoreError, OSError):
        records = MountRecords(user_folder(os.environ, "XDG_CACHE_HOME", ".cache"))
        places = [Path(record.mountpoint) for record in records.load_all()]
        below = [str(p.relative_to(here)) for p in places if p.is_relative_to(here) and p != here]
        return plain_items([*below, *map(str, places)], incomplete)
    return []


def _folder(ctx: click.Context) -> Path:
    """Where the command would run: the group's options are parsed, its function has not run."""
    return Path.cwd() / (ctx.find_root().params.get("folder") or "")


def repository_around(ctx: click.Context) -> RepositoryPaths:
    """The repository that is meant; not that behind a url, which nobody waits for at a TAB."""
    named = ctx.find_root().params.get("repo")
    return find_repository(_folder(ctx) / (named or ""))


def plain_items(values: Iterable[str], incomplete: str) -> Items:
    """Those of the values that begin so and need no quotes in any shell; not too many."""
    fitting = [v for v in values if v.startswith(incomplete) and _PLAIN_WORD.fullmatch(v)]
    return [CompletionItem(value) for value in fitting[:_MOST_ITEMS]]
