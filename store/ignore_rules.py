"""What `add` passes over: files that git's own ignore rules, or `.revfsignore`, name.

Git decides, for both kinds of rules: it is run over the paths that are to be added, once for its
own rules and once for ours, and lists what they name. A file that is in git's index is never
ignored. Each run looks at every folder below the paths that is not ignored, some 0.1 s for 100,000
files.
"""

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.errors import PathRefused
from store.git_command import RepositoryPaths, run_git
from store.git_index import GitIndex, IndexChange, IndexedBlob
from store.shown_names import escape_name

IGNORE_FILE = b".revfsignore"
_OUR_RULES = f"--exclude-per-directory={os.fsdecode(IGNORE_FILE)}"
_LIST = ("ls-files", "--others", "--ignored", "--directory", "-z")
# Paths that nobody has. With them all paths have no folder in common: git begins to look at the
# top, where it sees that a folder above a path is ignored; else it fails over such a path.
_NO_PATHS = (b"\x01", b"\x02")


@dataclass(frozen=True, slots=True)
class Ignored:
    """Paths in git's index's spelling that are ignored: files, and folders with all that is in
    them."""

    files: frozenset[bytes] = frozenset()
    folders: frozenset[bytes] = frozenset()

    def __contains__(self, path: bytes) -> bool:
        """Whether this very path was named by a rule."""
        return path in self.files or path in self.folders

    def covers(self, path: bytes) -> bool:
        """Whether this path, or a folder above it, was named by a rule."""
        return path in self or any(folder in self.folders for folder in _folders_above(path))

    def holds_some_below(self, folder: bytes) -> bool:
        """Whether anything in this folder was named by a rule."""
        above = folder + b"/"
        return any(path.startswith(above) for path in (*self.files, *self.folders))

    def shown(self) -> list[bytes]:
        """All of them in order, folders with a slash at their end."""
        return sorted([*self.files, *(folder + b"/" for folder in self.folders)])


NOTHING_IGNORED = Ignored()


def load_ignored(paths: RepositoryPaths, named: Sequence[bytes]) -> Ignored:
    """What is ignored of these paths of the work tree (`b""` for its top) and of all below them, by
    git's rules or ours; also a folder above them. Two runs of git. Raises GitError."""
    places = [*(path or b"." for path in named), *_NO_PATHS]
    found: set[bytes] = set()
    for rules in ("--exclude-standard", _OUR_RULES):
        command: list[str | bytes] = ["--literal-pathspecs", *_LIST, rules, "--", *places]
        found |= _without_empty_shells(run_git(command, cwd=paths.top).split(b"\0")[:-1])
    return _parse(found)


def load_ignored_outside(
    source: Path, target: bytes, indexed: Mapping[bytes, IndexedBlob]
) -> Ignored:
    """What is ignored of a folder outside the work tree, by the `.revfsignore` in it, spelt as it
    would be in git's index where `target` is what the folder becomes. One run of git; a second
    where files are ignored that the index has. Raises GitError."""
    with tempfile.TemporaryDirectory(prefix="revfs-ignore-") as folder:
        # A repository that knows nothing of those files, as the real one knows them by other names.
        empty = Path(folder)
        (empty / "HEAD").write_text("ref: refs/heads/none\n")
        for name in ("objects", "refs"):
            (empty / name).mkdir()
        command = [f"--git-dir={empty}", f"--work-tree={source}", *_LIST, _OUR_RULES]

        def run() -> Ignored:
            lines = run_git(command, cwd=source).split(b"\0")[:-1]
            return _parse(_without_empty_shells(lines))

        found = run()
        known = _known_below(target, found, indexed) if found != NOTHING_IGNORED else []
        if known:
            GitIndex(empty / "index").write(known)
            found = run()
    return _below(found, target)


def load_refusals(
    paths: RepositoryPaths, named: Iterable[bytes], ignored: Ignored
) -> dict[bytes, PathRefused]:
    """Why which of the paths that the user named are not added, with the rule: those that are
    ignored, and ignored folders of files that git's index has, where the new ones would be left out
    in silence. At most one run of git. Raises GitError."""
    suspect = [p for p in named if p and (ignored.covers(p) or ignored.holds_some_below(p))]
    rules = _load_rules(paths, suspect) if suspect else {}
    refusals = {}
    for path in suspect:
        if path in rules or ignored.covers(path):
            rule = rules.get(path, f"a rule in {os.fsdecode(IGNORE_FILE)}")
            refusals[path] = PathRefused(
                f"{escape_name(path)} is ignored by {rule}: take that rule away (dvc add wrote one "
                "for each of its paths), or add it all the same with --force"
            )
    return refusals


def _load_rules(paths: RepositoryPaths, named: Sequence[bytes]) -> dict[bytes, str]:
    """The rule of git's by which a path, or a folder above it, is ignored, in words."""
    command = ["check-ignore", "--verbose", "--no-index", "-z", "--stdin"]
    stdin = b"".join(path + b"\0" for path in named)
    words = run_git(command, cwd=paths.top, stdin=stdin, ok_codes=(0, 1)).split(b"\0")
    found = zip(words[0::4], words[1::4], words[2::4], words[3::4], strict=False)
    return {
        path: f"the rule {escape_name(rule)} in {escape_name(source)}, line {escape_name(line)}"
        for source, line, rule, path in found
        # A rule that takes back another is named, too.
        if not rule.startswith(b"!")
    }


def _known_below(
    target: bytes, found: Ignored, indexed: Mapping[bytes, IndexedBlob]
) -> list[IndexChange]:
    start = len(target) + 1
    return [
        IndexChange(path[start:], entry.mode, entry.blob, None)
        for path, entry in indexed.items()
        if path.startswith(target + b"/") and found.covers(path[start:])
    ]


def _without_empty_shells(lines: Collection[bytes]) -> set[bytes]:
    """Without folders that git lists only since nothing but ignored files is in them, which it
    lists too."""
    above = {folder + b"/" for line in lines for folder in _folders_above(line.rstrip(b"/"))}
    return set(lines) - above


def _parse(lines: Iterable[bytes]) -> Ignored:
    folders = {line for line in lines if line.endswith(b"/")}
    files = frozenset(set(lines) - folders)
    return Ignored(files, frozenset(folder.rstrip(b"/") for folder in folders))


def _below(found: Ignored, target: bytes) -> Ignored:
    def join(names: frozenset[bytes]) -> frozenset[bytes]:
        return frozenset(target + b"/" + name for name in names)

    return Ignored(join(found.files), join(found.folders))


def _folders_above(path: bytes) -> Iterable[bytes]:
    slash = path.find(b"/")
    while slash >= 0:
        yield path[:slash]
        slash = path.find(b"/", slash + 1)
