"""`remove`: tracked files leave git's index, and their lines `.gitattributes`; nothing of the work
tree is touched.

Both in one step each, the attributes first: whatever stops the work leaves git's index as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.attributes_file import AttributesFile
from store.errors import PathNotFound, PathRefused
from store.git import GitRepository
from store.git_index import IndexedBlob
from store.marked_paths import load_marked
from store.shown_names import escape_name
from store.starting_index import load_starting_index
from store.tracked_patterns import remove_patterns
from store.walk import Argument


@dataclass(frozen=True, slots=True)
class RemovePlan:
    """What is to be tracked no longer, in order of path; `indexed` is what git's index has."""

    repository: GitRepository
    work_tree: Path
    paths: tuple[bytes, ...]
    indexed: Mapping[bytes, IndexedBlob]

    def execute(self) -> None:
        """Do it. Raises StoreError; git's index is then as it was."""
        attributes = AttributesFile(self.repository, self.work_tree, self.indexed)
        kept = self.indexed.keys() - set(self.paths)
        with attributes.rewritten(lambda text: remove_patterns(text, self.paths, kept)) as staged:
            self.repository.index.write(staged, self.paths)


def plan_remove(
    repository: GitRepository, work_tree: Path, arguments: Sequence[Argument]
) -> RemovePlan:
    """Look for what is tracked at and below the arguments; changes nothing. Raises PathNotFound for
    one that has nothing tracked, PathRefused for what git keeps itself or is in conflict."""
    index = load_starting_index(repository)
    if index.is_new:
        # Git finds no attributes either, where neither index nor work tree has them.
        raise PathRefused("this clone has no git index yet; run git reset, and then this again")
    indexed = index.entries
    in_conflict = sorted(_below(repository.index.load_conflicts(), arguments))
    if in_conflict:
        raise PathRefused(
            f"{escape_name(in_conflict[0])} is in conflict: end that first, with revfs resolve"
        )
    asked = _below(indexed, arguments)
    marked = load_marked(repository.paths, sorted(asked))
    for argument in arguments:
        if not _below(marked, [argument]):
            _refuse(argument, has_others=bool(_below(asked, [argument])))
    return RemovePlan(repository, work_tree, tuple(sorted(marked)), indexed)


def _below(paths: Mapping[bytes, object] | set[bytes], arguments: Sequence[Argument]) -> set[bytes]:
    named = {argument.path for argument in arguments}
    folders = tuple(a.path + b"/" if a.path else b"" for a in arguments)
    return {path for path in paths if path in named or path.startswith(folders)}


def _refuse(argument: Argument, *, has_others: bool) -> None:
    shown = escape_name(argument.path or b".")
    if has_others:
        raise PathRefused(f"{shown} is kept by git itself, not by revfs: use git rm --cached")
    raise PathNotFound(f"{shown} is not tracked: git's index has nothing of it")
