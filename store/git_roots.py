"""From where git may come back to an object, as far as `git rev-list` does not say it by itself;
what hides such places; and whether anything has moved since they were looked at.

Whoever takes data away asks here first. What cannot be read for certain is a GitError, never a
place less.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from store.errors import GitError
from store.git_command import RepositoryPaths, run_git
from store.git_index import OWN_FRESH_INDEX, remove_stale_lock

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
# ORIG_HEAD, FETCH_HEAD, MERGE_HEAD, AUTO_MERGE, BISECT_START and their like (gitrevisions(7)).
_STATE_FILE = re.compile(r"[A-Z][A-Z_]+")
# What a rebase, am, cherry-pick or revert of several commits has still to come back to.
_STATE_FOLDERS = ("rebase-merge", "rebase-apply", "sequencer")
_LOOSE_REF = re.compile(rb"[0-9a-f]{40}\s*|ref: .*\s*", re.DOTALL)
_REFLOG_LINE = re.compile(rb"[0-9a-f]{40} [0-9a-f]{40} .*\n?")
# Far above any list of ids; a file that is larger is not read as one.
_MOST_BYTES = 64 << 20
_PROMISOR = r"^(extensions\.partialclone|remote\..*\.promisor)$"

Stamp = tuple[object, ...]


def load_git_dirs(paths: RepositoryPaths) -> list[Path]:
    """The git directory of each worktree of a repository, also of those whose folder is gone."""
    linked = paths.common_dir / "worktrees"
    found = sorted(linked.iterdir()) if linked.is_dir() else []
    return [paths.common_dir, *(folder for folder in found if folder.is_dir())]


def require_all_in_sight(paths: RepositoryPaths) -> None:
    """Raise GitError where git cannot see all of its history from here, where a ref or a reflog is
    damaged, and where a git command is in the middle of its work."""
    common = paths.common_dir
    if _is_filled(common / "shallow"):
        raise GitError(
            "this clone is shallow: git fetch --unshallow brings the rest of its history"
        )
    if _is_filled(common / "info" / "grafts"):
        raise GitError(f"{common / 'info' / 'grafts'} hides a part of the history")
    if run_git(["config", "--get-regexp", _PROMISOR], cwd=paths.top, ok_codes=(0, 1)):
        raise GitError("this is a partial clone, which has not all of its objects")
    for folder in load_git_dirs(paths):
        _require_rest(folder)
        for place in _walk(folder / "refs"):
            _require_sound_ref(place)
        for place in _walk(folder / "logs"):
            _require_sound_reflog(place)


def load_more_roots(paths: RepositoryPaths) -> set[str]:
    """Ids of objects that git may come back to: what the refs of every worktree name, and the
    records of merges, rebases and the like that are under way or were the last. Some may name
    nothing that is there. Raises GitError."""
    found: set[str] = set()
    for folder in load_git_dirs(paths):
        listed = run_git(
            [f"--git-dir={folder}", "for-each-ref", "--format=%(objectname)"], cwd=paths.top
        )
        found.update(listed.decode("ascii").split())
        for place in _state_files(folder):
            found.update(name.decode("ascii") for name in _ID.findall(_load(place)))
    return found


def load_full_stamp(paths: RepositoryPaths) -> Stamp:
    """Something that is another whenever a ref, a reflog, an index or such a record has changed."""
    places = []
    for folder in load_git_dirs(paths):
        places += [place for place in folder.iterdir() if not place.is_dir()]
        for name in ("refs", "logs", "reftable", *_STATE_FOLDERS):
            places += _walk(folder / name)
    return tuple((str(place), _file_stamp(place)) for place in places)


def _require_rest(folder: Path) -> None:
    """What a running git, or one that was killed, writes: an index that is to be, above all."""
    for place in sorted(folder.iterdir()):
        if place.name == OWN_FRESH_INDEX or remove_stale_lock(place):
            continue
        if place.name.startswith(("index.", "next-index-")):
            raise GitError(
                f"git is at work in this repository ({place} is there); if none is, delete that"
            )


def _require_sound_ref(place: Path) -> None:
    if not place.name.endswith(".lock") and not _LOOSE_REF.fullmatch(_load(place)):
        raise GitError(f"the ref {place} is damaged; git fsck tells more")


def _require_sound_reflog(place: Path) -> None:
    if place.name.endswith(".lock"):
        return
    with suppress(FileNotFoundError), place.open("rb") as lines:
        # Git passes over what it cannot read there, and so over what that named.
        if not all(map(_REFLOG_LINE.fullmatch, lines)):
            raise GitError(f"the reflog {place} is damaged: put it in order, or remove it")


def _state_files(folder: Path) -> Iterator[Path]:
    for place in folder.iterdir():
        if _STATE_FILE.fullmatch(place.name) and place.is_file():
            yield place
    for name in _STATE_FOLDERS:
        yield from _walk(folder / name)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in no order; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _load(place: Path) -> bytes:
    try:
        if place.stat().st_size > _MOST_BYTES:
            raise GitError(f"{place} is larger than any file of its kind")
        return place.read_bytes()
    except FileNotFoundError:
        # Gone since it was listed; the stamp tells.
        return b""
    except OSError as error:
        raise GitError(f"{place} cannot be read: {error.strerror}") from error


def _is_filled(place: Path) -> bool:
    return place.is_file() and place.stat().st_size > 0


def _file_stamp(place: Path) -> object:
    try:
        status = place.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
