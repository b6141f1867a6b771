"""Which files a path that the user named stands for, and what may not be among them.

A path has two sides here: where git's index has it, and where the file lies. They differ only for
data that is added from outside the work tree.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from store.directories import MAX_DEPTH, refusal_of_name
from store.errors import PathNotFound, PathRefused, StoreError
from store.file_state import FileState, Status
from store.ignore_rules import NOTHING_IGNORED, Ignored
from store.local_folders import MOUNT_TYPE, mounted_file_systems
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.tracked_patterns import UNTRACKED_NAMES

Refuse = Callable[[StoreError], None]
_FILES_BETWEEN_NEWS = 1000
_name_of = attrgetter("name")


def raise_refusal(error: StoreError) -> None:
    """The Refuse of all that ends with the first path that cannot be added."""
    raise error


class OutsideWorkTree(PathRefused):
    """A path that is not in this work tree."""


class FoundFile(NamedTuple):
    """A file or symbolic link: its path in git's index, where it lies (absolute), and its stat."""

    path: bytes
    place: bytes
    status: Status


class Argument(NamedTuple):
    """What the user named: its path in git's index, where it lies (absolute), and its stat; None if
    nothing is there."""

    path: bytes
    place: bytes
    status: os.stat_result | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder now."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


def resolve_arguments(work_tree: Path, cwd: Path, paths: Sequence[Path]) -> list[Argument]:
    """The user's paths as git sees them. Raises OutsideWorkTree, and PathRefused for one that is
    inside a git directory or lies beyond a symbolic link."""
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
        raise OutsideWorkTree(f"{path} is outside the work tree {os.fsdecode(top)}")
    parts = inside.split(b"/") if inside else []
    _require_own_path(top, parts, path, mounts)
    place = os.path.join(top, inside) if inside else top
    try:
        return Argument(inside, place, os.lstat(place))
    except FileNotFoundError:
        return Argument(inside, place, None)
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


def walk(
    argument: Argument,
    ignored: Ignored = NOTHING_IGNORED,
    refuse: Refuse = raise_refusal,
) -> Iterator[FoundFile]:
    """Every file and link below an argument, in order of path, links not followed.

    Git's own files, git directories, mounted revisions and what is ignored are passed over where
    they are met on the way; an ignored folder is not looked into. PathRefused says of one that is
    named itself, of a socket, device or pipe, and of a repository inside the repository why it is
    not added, PathNotFound of what cannot be read: each is handed to `refuse`, and the walk goes on
    where that does not raise it.
    """
    return _Walk(ignored, refuse).below(argument)


def find_files(
    arguments: Iterable[Argument], ignored: Ignored, refuse: Refuse, progress: ByteProgress | None
) -> dict[bytes, FoundFile]:
    """What `walk` finds below the arguments, by path; `progress` is told as it goes on."""
    found: dict[bytes, FoundFile] = {}
    for argument in arguments:
        for file in walk(argument, ignored, refuse):
            found[file.path] = file
            if progress is not None and not len(found) % _FILES_BETWEEN_NEWS:
                progress.advance(0, items=_FILES_BETWEEN_NEWS)
    return found


class _Walk:
    """One walk: what it passes over, and whom it tells of what cannot be added."""

    def __init__(self, ignored: Ignored, refuse: Refuse) -> None:
        self._ignored = ignored
        self._refuse = refuse
        self._mounts = _mounted_revisions()

    def below(self, argument: Argument) -> Iterator[FoundFile]:
        """The files of an argument, as `walk` has it."""
        path, place, status = argument
        if status is None:
            return
        if argument.is_folder:
            yield from self._folder(path, place)
            return
        try:
            _require_addable(path, status)
        except StoreError as error:
            self._refuse(error)
            return
        yield FoundFile(path, place, FileState.of(status))

    def _folder(self, folder: bytes, place: bytes) -> Iterator[FoundFile]:
        try:
            entries = _scan(folder, place)
        except StoreError as error:
            self._refuse(error)
            return
        above = folder + b"/" if folder else b""
        for entry in entries:
            name = entry.name
            path = above + name
            if name in UNTRACKED_NAMES or name == b".git" or path in self._ignored:
                continue
            try:
                status = self._look_at(path, entry)
            except StoreError as error:
                self._refuse(error)
                continue
            if not stat.S_ISDIR(status.st_mode):
                yield FoundFile(path, entry.path, FileState.of(status))
            elif entry.path not in self._mounts:
                yield from self._folder(path, entry.path)

    def _look_at(self, path: bytes, entry: "os.DirEntry[bytes]") -> os.stat_result:
        """The stat of a file, link or folder that may be added."""
        if refusal_of_name(entry.name) is not None:
            _require_name(entry.name, escape_name(path))
        _require_depth(path)
        status = _stat(path, entry)
        if stat.S_ISDIR(status.st_mode):
            if entry.path not in self._mounts and _is_repository(entry.path):
                raise PathRefused(f"{escape_name(path)} is a git repository of its own")
        elif not stat.S_ISREG(status.st_mode):
            _require_file(path, status)
        return status


def _is_repository(folder: bytes) -> bool:
    return os.path.lexists(os.path.join(folder, b".git"))


def _require_addable(path: bytes, status: os.stat_result) -> None:
    """Refuse a file that was named itself and cannot be added."""
    if os.path.basename(path) in UNTRACKED_NAMES:
        raise PathRefused(f"{escape_name(path)} is git's own to read: use git add")
    _require_depth(path)
    _require_file(path, status)


def _scan(folder: bytes, place: bytes) -> list["os.DirEntry[bytes]"]:
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=_name_of)
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
