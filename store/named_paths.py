"""What the words behind a verb name: a revision and paths in it, or two revisions to compare.

`REV PATH…`, `REV:PATH` or, where the first word is no revision, paths of HEAD. Paths are taken from
the top of the repository; one that begins with `./` or `../` from the current folder, as git has it
in `REV:./path`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.directory_loader import DirectoryLoader
from store.errors import PathNotFound, PathRefused, RevisionNotFound
from store.git import GitRepository, Revision
from store.git_command import RepositoryPaths
from store.paths import load_path
from store.shown_names import escape_name

_HEAD = "HEAD"


@dataclass(frozen=True, slots=True)
class NamedPaths:
    """A revision, and paths from its top; whether they are there is still to be seen."""

    revision: Revision
    paths: list[bytes]


@dataclass(frozen=True, slots=True)
class NamedComparison:
    """Two revisions, and the path to compare below, empty for all."""

    old: Revision
    new: Revision
    path: bytes


def folder_from_top(paths: RepositoryPaths, folder: Path) -> bytes:
    """Where a folder lies in the work tree; the top, where it lies in none."""
    if paths.work_tree is None:
        return b""
    try:
        inside = folder.resolve().relative_to(paths.work_tree.resolve())
    except (ValueError, OSError):
        return b""
    return b"" if inside == Path() else os.fsencode(inside)


def path_from_top(text: str, folder: bytes) -> bytes:
    """The path that `text` means to somebody in `folder`: without slashes at its ends, empty for
    the top itself. Raises PathRefused for one that leads out of the repository."""
    words = os.fsencode(text).split(b"/")
    parts = folder.split(b"/") if folder and words[0] in (b".", b"..") else []
    for word in words:
        if word == b".." and not parts:
            raise PathRefused(f"{escape_name(text)} lies outside of the repository")
        if word == b"..":
            parts.pop()
        elif word not in (b"", b"."):
            parts.append(word)
    return b"/".join(parts)


class NameResolver:
    """Resolves words in one repository, for somebody in one of its folders."""

    def __init__(
        self, repository: GitRepository, directories: DirectoryLoader, folder: bytes
    ) -> None:
        self._repository = repository
        self._directories = directories
        self._folder = folder

    def paths(self, words: Sequence[str]) -> NamedPaths:
        """`[REV] [PATH…]` or `REV:PATH [PATH…]`; without words the top of HEAD.

        A word that names both a revision and a path is the revision. Raises RevisionNotFound where
        the first word is neither, and PathRefused.
        """
        if not words:
            return NamedPaths(self._repository.resolve(_HEAD), [])
        first, rest = words[0], [path_from_top(word, self._folder) for word in words[1:]]
        if (revision := self._find(first)) is not None:
            return NamedPaths(revision, rest)
        text, path = split_at_colon(first)
        if path is not None and (revision := self._find(text or _HEAD)) is not None:
            return NamedPaths(revision, [path_from_top(path, self._folder), *rest])
        head = self._repository.resolve(_HEAD)
        named = path_from_top(first, self._folder)
        if not self._has(head, named):
            # Raises, in the words for the part that was meant as a revision.
            self._repository.resolve(text)
        return NamedPaths(head, [named, *rest])

    def comparison(self, words: Sequence[str]) -> NamedComparison:
        """`V1 [V2] [PATH]` or `V1..V2 [PATH]`; V2 is HEAD where it is left out, and so is V1.

        Raises RevisionNotFound, PathRefused, and PathNotFound for a path that neither has.
        """
        left, dots, right = words[0].partition("..")
        old = self._repository.resolve((left if dots else words[0]) or _HEAD)
        new = self._repository.resolve(right) if right else None
        rest = list(words[1:])
        if not dots and rest and (new := self._find(rest[0])) is not None:
            rest.pop(0)
        new = new or self._repository.resolve(_HEAD)
        path = path_from_top(rest[0], self._folder) if rest else b""
        if not self._has(old, path) and not self._has(new, path):
            shown = escape_name(path)
            raise PathNotFound(
                f"{shown} is neither a revision nor a path of {old.text} or {new.text}"
            )
        return NamedComparison(old, new, path)

    def _find(self, text: str) -> Revision | None:
        try:
            return self._repository.resolve(text)
        except RevisionNotFound:
            return None

    def _has(self, revision: Revision, path: bytes) -> bool:
        try:
            load_path(self._directories, revision.tree, path)
        except PathNotFound:
            return False
        return True


def split_at_colon(word: str) -> tuple[str, str | None]:
    """Revision and path of `REV:PATH`: at the first colon outside of braces, in which a date or a
    text to search for may hold one. The path is None where there is no such colon."""
    depth = 0
    for place, character in enumerate(word):
        if character in "{}":
            depth += 1 if character == "{" else -1
        elif character == ":" and depth <= 0:
            return word[:place], word[place + 1 :]
    return word, None
