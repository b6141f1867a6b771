"""What stands in the work tree where paths are to have no file: for `add` of data from elsewhere.

Only what git's index can give back is taken away: the text of the very pointer that it has, an
empty file, a link. Symbolic links are never followed, so what seems to lie beyond one is not there.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress

from store.errors import PathRefused
from store.git import blob_id
from store.git_index import IndexedBlob
from store.pointer import MAX_POINTER_BYTES, parse_pointer
from store.shown_names import escape_name


class WorkTreeFolders:
    """The folders of a work tree, each looked at once."""

    def __init__(self, top: bytes) -> None:
        self._top = top
        # Whether a folder is there, and a folder itself, as are all above it.
        self._real: dict[bytes, bool] = {b"": True}

    def load_status(self, path: bytes) -> os.stat_result | None:
        """The stat of what stands at a path; None for nothing, and beyond a link."""
        folder = os.path.dirname(path)
        if not self._is_real(folder):
            return None
        with suppress(OSError):
            return os.lstat(os.path.join(self._top, path))
        return None

    def _is_real(self, folder: bytes) -> bool:
        known = self._real.get(folder)
        if known is None:
            status = self.load_status(folder)
            known = status is not None and stat.S_ISDIR(status.st_mode)
            self._real[folder] = known
        return known


def find_standing(
    top: bytes, paths: Iterable[bytes], indexed: Mapping[bytes, IndexedBlob]
) -> tuple[list[bytes], list[PathRefused]]:
    """Which of these paths have a file or link that may be taken away, and why others may not."""
    folders = WorkTreeFolders(top)
    standing: list[bytes] = []
    refused: list[PathRefused] = []
    for path in paths:
        status = folders.load_status(path)
        if status is None or stat.S_ISDIR(status.st_mode):
            continue
        entry = indexed.get(path)
        if entry is not None and _load_kept_content(os.path.join(top, path)) == entry.blob:
            standing.append(path)
        else:
            refused.append(
                PathRefused(
                    f"{escape_name(path)} stands in the work tree, and not as a pointer that git's "
                    "index has: add it in place with revfs add, or remove it first"
                )
            )
    return standing, refused


def take_away(
    top: bytes, above: bytes, paths: Iterable[bytes], indexed: Mapping[bytes, IndexedBlob]
) -> None:
    """Remove files that `find_standing` found and that are still as they were, and folders up to
    `above` that this leaves empty. Raises PathRefused for one that has changed."""
    for path in paths:
        standing, refused = find_standing(top, [path], indexed)
        if refused:
            raise refused[0]
        for found in standing:
            os.unlink(os.path.join(top, found))
            _remove_empty_folders(top, os.path.dirname(found), above)


def _load_kept_content(place: bytes) -> bytes | None:
    """The id of the blob that git would keep for a pointer text, an empty file or a link as it
    stands there; None for any other file."""
    try:
        status = os.lstat(place)
        if stat.S_ISLNK(status.st_mode):
            return blob_id(os.readlink(place))
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_POINTER_BYTES:
            return None
        with open(place, "rb", opener=_open_itself) as file:
            content = file.read(MAX_POINTER_BYTES + 1)
    except OSError:
        return None
    return blob_id(content) if not content or parse_pointer(content) is not None else None


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _remove_empty_folders(top: bytes, folder: bytes, above: bytes) -> None:
    while folder == above or folder.startswith(above + b"/"):
        try:
            os.rmdir(os.path.join(top, folder))
        except OSError:
            return
        folder = os.path.dirname(folder)
