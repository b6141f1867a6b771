"""A repository whose data revfs tracks, and a twin whose files git tracks itself, treated alike."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tests.mounted.repositories import Clone, make_repository

# What only the one side has, in the work tree and in git's words.
OWN_FILES = (b".gitattributes", b".revfsconfig")
TIMES = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}


def contents_of(top: Path) -> dict[bytes, tuple[int, bytes]]:
    """path → (kind and executable bit, content or target) of every file and link of a work tree."""
    found: dict[bytes, tuple[int, bytes]] = {}
    raw_top = os.fsencode(top)
    for folder, folders, names in os.walk(raw_top):
        if b".git" in folders:
            folders.remove(b".git")
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*names, *links]:
            place = os.path.join(folder, name)
            path = os.path.relpath(place, raw_top)
            if path in OWN_FILES or path == b".git":
                continue
            mode = os.lstat(place).st_mode
            if stat.S_ISLNK(mode):
                found[path] = (stat.S_IFLNK, os.readlink(place))
            else:
                found[path] = (mode & 0o100, Path(os.fsdecode(place)).read_bytes())
    return found


@dataclass
class Twins:
    """The two repositories."""

    ours: Clone
    twin: Clone

    def write(self, path: str, content: bytes) -> None:
        """The same file in both work trees."""
        for clone in (self.ours, self.twin):
            place = clone.top / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def link(self, path: str, target: str) -> None:
        """A link at that path in both."""
        for clone in (self.ours, self.twin):
            (clone.top / path).unlink(missing_ok=True)
            (clone.top / path).symlink_to(target)

    def delete(self, path: str) -> None:
        """The file gone from both work trees."""
        for clone in (self.ours, self.twin):
            (clone.top / path).unlink()

    def chmod(self, path: str, mode: int) -> None:
        """The same mode in both."""
        for clone in (self.ours, self.twin):
            (clone.top / path).chmod(mode)

    def git(self, *arguments: str, fails: bool = False, may_fail: bool = False) -> None:
        """The same git command in both; it must end alike, and leave alike."""
        first, second = (
            clone.run("git", *arguments, ok=not (fails or may_fail)).returncode
            for clone in (self.ours, self.twin)
        )
        assert first == second, arguments
        assert first or not fails
        self.check(arguments)

    def check(self, after: object) -> None:
        """Both work trees are equal, and git says the same of both."""
        assert contents_of(self.ours.top) == contents_of(self.twin.top), after
        assert self.status(self.ours) == self.status(self.twin), after

    def status(self, clone: Clone) -> list[str]:
        """What git says of a work tree, without the files that only one side has."""
        own = {os.fsdecode(name) for name in OWN_FILES}
        lines = clone.git("status", "--porcelain").splitlines()
        return [line for line in lines if line[3:] not in own]

    def commit_ids_differ(self) -> bool:
        """Whether the two sides are two kinds of repository at all."""
        return self.ours.git("rev-parse", "HEAD^{tree}") != self.twin.git(
            "rev-parse", "HEAD^{tree}"
        )


def make_twins(folder: Path) -> Twins:
    """Both, empty but for what revfs needs: folder `data` is tracked from its first file on."""
    ours = make_repository(folder / "ours", None)
    ours.environment |= TIMES
    twin = Clone(folder / "twin", folder / "twin-home")
    twin.environment |= TIMES
    twin.top.mkdir()
    twin.git("init", "--quiet")
    twins = Twins(ours, twin)
    twins.write("plain.txt", b"kept by git itself\n")
    twins.write("data/first", bytes(range(256)) * 40)
    ours.revfs("add", "data")
    twins.git("add", "plain.txt", "data")
    ours.git("add", "--all")
    twins.git("commit", "--quiet", "-m", "first")
    return twins
