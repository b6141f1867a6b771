"""Which files a path in the work tree stands for, and what may not be among them."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from store.directories import MAX_DEPTH, refusal_of_name
from store.errors import PathNotFound, PathRefused
from store.local_folders import MOUNT_TYPE, mounted_file_systems
from store.shown_names import escape_name
from store.tracked_patterns import UNTRACKED_NAMES


class FoundFile(NamedTuple):
    """A file or symbolic link: its path from the top of the work tree, and its stat."""

    path: bytes
    status: os.stat_result


class Argument(NamedTuple):
    """A path that the user named, from the top of the work tree; `status` is None if it is gone."""

    path: bytes
    status: os.stat_result | None


def resolve_arguments(work_tree: Path, cwd: Path, paths: Sequence[Path]) -> list[Argument]:
    """The user's paths as git sees them. Raises PathRefused for one that is not in this work tree,
    is inside a git directory, or lies beyond a symbolic link."""
    top = os.fsencode(work_tree)
    mounts = _mounted_revisions()
    return [_resolve(top, cwd, path, mounts) for path in paths]


def _resolve(top: bytes, cwd: Path, path: Path, mounts: frozenset[bytes]) -> Argument:
    # The folder is resolved, the last name is not: a link named by the user is meant itself.
    absolute = os.path.normpath(os.fsencode(cwd / path))
    inside = _relative(top, absolute)
    if inside is None:
        parent = os.path.realpath(os.path.dirname(absolute))
        inside = _relative(top, os.path.join(parent, os.path.basename(absolute)))
    if inside is None:
        inside = b"" if os.path.realpath(absolute) == top else None
    if inside is None:
        raise PathRefused(f"{path} is outside the work tree {os.fsdecode(top)}")
    parts = inside.split(b"/") if inside else []
    _require_own_path(top, parts, path, mounts)
    try:
        return Argument(inside, os.lstat(os.path.join(top, inside)))
    except FileNotFoundError:
        return Argument(inside, None)
    except OSError as error:
        raise PathNotFound(f"{path}: {error.strerror}") from error


def _require_own_path(
    top: bytes, parts: Sequence[bytes], path: Path, mounts: frozenset[bytes]
) -> None:
    """Refuse what git would not see as a file of this work tree."""
    if b".git" in parts:
        raise PathRefused(f"{path} is inside a git directory")
    for depth in range(1, len(parts)):
        if os.path.islink(os.path.join(top, *parts[:depth])):
            raise PathRefused(f"{path} lies beyond a symbolic link; add the link or its target")
    place = top
    for part in parts:
        _require_name(part, path)
        place = os.path.join(place, part)
        if place in mounts:
            raise PathRefused(f"{path} is in a mounted revision")
        if not os.path.islink(place) and os.path.lexists(os.path.join(place, b".git")):
            raise PathRefused(f"{path} is in a git repository of its own")


def _require_name(name: bytes, path: Path | str) -> None:
    reason = refusal_of_name(name)
    if reason is not None:
        raise PathRefused(f"{path} cannot be added: its name {reason}, as git sees it")


def _require_depth(path: bytes) -> None:
    """Refuse what could be committed and then neither pushed nor shown."""
    if path.count(b"/") >= MAX_DEPTH:
        raise PathRefused(
            f"{escape_name(path)} lies in {MAX_DEPTH} folders or more, which is too deep"
        )


def _relative(top: bytes, absolute: bytes) -> bytes | None:
    if absolute == top:
        return b""
    return absolute[len(top) + 1 :] if absolute.startswith(top.rstrip(b"/") + b"/") else None


def walk(top: bytes, argument: Argument) -> Iterator[FoundFile]:
    """Every file and link below an argument, in order of path, links not followed.

    Git's own files, git directories and mounted revisions are passed over where they are met on the
    way. Raises PathRefused for one that is named itself, for a socket, device or pipe, and for a
    repository inside the repository; PathNotFound for what cannot be read.
    """
    status = argument.status
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _walk_folder(top, argument.path, _mounted_revisions())
        return
    name = os.path.basename(argument.path)
    if name in UNTRACKED_NAMES:
        raise PathRefused(f"{escape_name(argument.path)} is git's own to read: use git add")
    _require_depth(argument.path)
    _require_file(argument.path, status)
    yield FoundFile(argument.path, status)


def _walk_folder(top: bytes, folder: bytes, mounts: frozenset[bytes]) -> Iterator[FoundFile]:
    for path, entry in _scan(top, folder):
        if entry.name in UNTRACKED_NAMES or entry.name == b".git":
            continue
        _require_name(entry.name, escape_name(path))
        _require_depth(path)
        status = _stat(path, entry)
        if stat.S_ISDIR(status.st_mode):
            absolute = os.path.join(top, path)
            if absolute in mounts:
                continue
            if os.path.lexists(os.path.join(absolute, b".git")):
                raise PathRefused(f"{escape_name(path)} is a git repository of its own")
            yield from _walk_folder(top, path, mounts)
        else:
            _require_file(path, status)
            yield FoundFile(path, status)


def _scan(top: bytes, folder: bytes) -> list[tuple[bytes, "os.DirEntry[bytes]"]]:
    try:
        with os.scandir(os.path.join(top, folder)) as entries:
            return sorted(
                ((os.path.join(folder, entry.name), entry) for entry in entries),
                key=lambda pair: pair[0],
            )
    except OSError as error:
        raise PathNotFound(f"{escape_name(folder)} cannot be listed: {error.strerror}") from error


def _stat(path: bytes, entry: "os.DirEntry[bytes]") -> os.stat_result:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError as error:
        raise PathNotFound(f"{escape_name(path)} cannot be read: {error.strerror}") from error


def _require_file(path: bytes, status: os.stat_result) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise PathRefused(f"{escape_name(path)} is {kind}, which cannot be added")


def _mounted_revisions() -> frozenset[bytes]:
    return frozenset(
        os.fsencode(place) for place, kind in mounted_file_systems() if kind == MOUNT_TYPE
    )
