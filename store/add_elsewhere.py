"""`add SRC --to PATH`: the plan of an add of data that lies outside the work tree and stays there.

What it becomes in git's index has no file in the work tree, and git does not miss it
(skip-worktree). A clone that holds nothing of the tree, not even an index, will do.
"""

import os
import stat
from collections.abc import Collection, Mapping, Sized
from pathlib import Path

from store.add import AddContext, AddPlan, Elsewhere, sort_files
from store.collector import without_collector
from store.errors import PathNotFound, PathRefused, StoreError
from store.git_index import IndexedBlob
from store.ignore_rules import NOTHING_IGNORED, Ignored, load_ignored_outside
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.standing_files import find_standing
from store.starting_index import load_starting_index
from store.tracked_patterns import UNTRACKED_NAMES, Target
from store.walk import Argument, Refuse, find_files, raise_refusal, resolve_arguments

_MODE_SUBMODULE = 0o160000


@without_collector()
def plan_add_elsewhere(
    context: AddContext,
    cwd: Path,
    source: Path,
    target: Path,
    *,
    force: bool = False,
    keep_going: bool = False,
    progress: ByteProgress | None = None,
) -> AddPlan:
    """Decide what makes `target` (in the work tree) what `source` is (outside of it, a file or a
    folder); changes nothing. What a `.revfsignore` in the source names is passed over, but with
    `force`. `progress` is told of files that were found.

    Raises PathRefused or PathNotFound naming the first path that cannot be added; with
    `keep_going`, those are in the plan.
    """
    refused: list[StoreError] = []
    refuse = refused.append if keep_going else raise_refusal
    argument = _resolve(context, cwd, source, target)
    indexed = (index := load_starting_index(context.repository)).entries
    _require_room(argument, indexed)
    ignored = NOTHING_IGNORED if force else _load_ignored(argument, indexed)
    found = find_files([argument], ignored, refuse, progress)
    _refuse_nothing(found or refused, source, argument, refuse)
    gone = _gone_paths(context, argument, found.keys(), indexed)
    affected = sorted({*found, *gone, argument.path})
    standing, in_the_way = find_standing(context.top, affected, indexed)
    for error in in_the_way:
        refuse(error)
    return AddPlan(
        context=context,
        files=sort_files(context, [found[path] for path in sorted(found)]),
        gone=gone,
        targets=_targets(argument),
        index=index,
        ignored=ignored,
        refused=tuple(refused),
        elsewhere=Elsewhere(argument.path, tuple(standing)),
    )


def _load_ignored(argument: Argument, indexed: Mapping[bytes, IndexedBlob]) -> Ignored:
    if not argument.is_folder:
        return NOTHING_IGNORED
    return load_ignored_outside(Path(os.fsdecode(argument.place)), argument.path, indexed)


def _refuse_nothing(found: Sized, source: Path, argument: Argument, refuse: Refuse) -> None:
    # A disk that is not mounted leaves an empty folder, which is no new version of the data.
    if not found:
        gone = escape_name(argument.path)
        refuse(PathRefused(f"{source} holds no file to add; if {gone} is to go, use revfs remove"))


def _gone_paths(
    context: AddContext,
    argument: Argument,
    found: Collection[bytes],
    indexed: Mapping[bytes, IndexedBlob],
) -> tuple[bytes, ...]:
    """What git's index has at or below the target, also in conflict, and the source has not."""
    paths = {*indexed, *context.repository.index.load_conflicts()}
    below = {path for path in paths if _is_at_or_below(path, argument.path)}
    gone = below.difference(found)
    return tuple(sorted(p for p in gone if os.path.basename(p) not in UNTRACKED_NAMES))


def _resolve(context: AddContext, cwd: Path, source: Path, target: Path) -> Argument:
    """What is added: with the path of the target, and the place of the source, which may be named
    by way of links."""
    (named,) = resolve_arguments(context.work_tree, cwd, [target])
    if not named.path:
        raise PathRefused("the top of the work tree cannot be --to; name a path in it")
    if os.path.basename(named.path) in UNTRACKED_NAMES:
        raise PathRefused(f"{escape_name(named.path)} is git's own to read: use git add")
    place = os.path.realpath(os.fsencode(cwd / source))
    _require_outside(context, place, source)
    try:
        status = os.lstat(place)
    except FileNotFoundError as error:
        raise PathNotFound(f"{source} is not there") from error
    except OSError as error:
        raise PathNotFound(f"{source} cannot be read: {error.strerror}") from error
    return Argument(named.path, place, status)


def _require_outside(context: AddContext, place: bytes, source: Path) -> None:
    paths = context.repository.paths
    own = [context.work_tree, paths.git_dir, paths.common_dir]
    for folder in (os.path.realpath(os.fsencode(path)) for path in own):
        if _is_at_or_below(place, folder):
            raise PathRefused(
                f"{source} is not outside the work tree, as data for --to is: revfs add it where "
                "it stands"
            )
        if place == b"/" or _is_at_or_below(folder, place):
            raise PathRefused(f"{source} holds this repository; name a folder beside it")


def _is_at_or_below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place + b"/")


def _require_room(argument: Argument, indexed: Mapping[bytes, IndexedBlob]) -> None:
    """Refuse a path that could be had only at the cost of what nobody spoke of."""
    shown = escape_name(argument.path)
    for path, entry in indexed.items():
        if _is_at_or_below(argument.path, path) and path != argument.path:
            raise PathRefused(f"{escape_name(path)} is a file in git's index, no folder")
        if _is_at_or_below(path, argument.path):
            if entry.mode == _MODE_SUBMODULE:
                raise PathRefused(f"{escape_name(path)} is a submodule, which --to cannot replace")
            if path != argument.path and not argument.is_folder:
                raise PathRefused(
                    f"{shown} is a folder in git's index, and what is added a file: "
                    f"name the file in it too, as in --to {shown}/NAME"
                )


def _targets(argument: Argument) -> tuple[Target, ...]:
    status = argument.status
    if argument.is_folder or (status is not None and stat.S_ISREG(status.st_mode)):
        return (Target(argument.path, argument.is_folder),)
    return ()
