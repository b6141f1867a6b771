"""`add`: files become staged packs, pointers in git's objects, entries in its index.

In this order: packs (synced), blobs, `.gitattributes`, index. Whatever stops the work before the
last step leaves git's index as it was. Here belong the plan, however it was made, and what it does;
`plan_add` makes one for files where they stand in the work tree.
"""

import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store.attributes_file import AttributesFile
from store.chunking import ChunkingParameters
from store.collector import without_collector
from store.errors import PathNotFound, StoreError
from store.file_staging import FileStager, require_known_pointer
from store.git import GitRepository
from store.git_index import IndexChange, IndexedBlob, mode_of
from store.ignore_rules import NOTHING_IGNORED, Ignored, load_ignored, load_refusals
from store.kept_by_git import load_kept_by_git
from store.known_chunks import KnownChunks
from store.local_store import LocalStore
from store.pieces import LoadKnown
from store.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer
from store.progress import ByteProgress, StepProgress
from store.read_files import read_link, read_small
from store.shown_names import escape_name
from store.staging import Staging
from store.standing_files import take_away
from store.starting_index import StartingIndex, load_starting_index
from store.stat_cache import StatCache, same_file_state
from store.tracked_patterns import Target, add_patterns
from store.walk import (
    Argument,
    FoundFile,
    OutsideWorkTree,
    Refuse,
    find_files,
    raise_refusal,
    resolve_arguments,
)

# Files are stamped from a clock that lags by up to a tick of 10 ms.
_CLOCK_GRAIN_SECONDS = 0.02
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AddContext:
    """What `add` works with. `load_known` tells chunks that are staged or in the remote."""

    repository: GitRepository
    work_tree: Path
    staging: Staging
    stat_cache: StatCache
    chunking: ChunkingParameters
    load_known: LoadKnown

    @staticmethod
    def of(local: LocalStore, work_tree: Path) -> "AddContext":
        """What there is to add with in a store that is open to write. Raises GitError."""
        assert local.staging is not None
        return AddContext(
            repository=local.repository,
            work_tree=work_tree,
            staging=local.staging,
            stat_cache=local.open_stat_cache(),
            chunking=local.load_chunking(),
            load_known=KnownChunks(local).load,
        )

    @property
    def top(self) -> bytes:
        """The top of the work tree."""
        return os.fsencode(self.work_tree)


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What was done: counts of files (`kept` by git itself and passed over), and bytes read and
    newly staged (as stored)."""

    added: int
    unchanged: int
    removed: int
    read_bytes: int
    staged_bytes: int
    kept: int = 0


@dataclass(frozen=True, slots=True)
class SortedFiles:
    """Files to read, files whose pointer is known from their stat, and symbolic links."""

    to_read: tuple[FoundFile, ...]
    unchanged: tuple[tuple[FoundFile, Pointer], ...]
    links: tuple[FoundFile, ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What an add of data from outside the work tree has besides: the path that the data is to have
    in git's index, and files of the work tree below it to take away."""

    target: bytes
    standing: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AddPlan:
    """What is to be done: with the files that were found, the index entries whose file is gone, and
    the paths to mark in `.gitattributes`.

    `refused` is empty but where a plan was asked for that goes on after what cannot be added; such
    a plan is for showing.
    """

    context: AddContext
    files: SortedFiles
    gone: tuple[bytes, ...]
    targets: tuple[Target, ...]
    index: StartingIndex
    ignored: Ignored = NOTHING_IGNORED
    refused: tuple[StoreError, ...] = ()
    # Files of git's own that were passed over.
    kept: tuple[bytes, ...] = ()
    # None where the files stand in the work tree.
    elsewhere: Elsewhere | None = None

    @property
    def bytes_to_read(self) -> int:
        """The sizes of all files to read."""
        return sum(file.status.st_size for file in self.files.to_read)

    def load_refused(self) -> list[StoreError]:
        """Why files cannot be added, also those that only their content tells; reads what is small
        enough to be the text of a pointer."""
        refused = list(self.refused)
        for file in self.files.to_read:
            if 0 < file.status.st_size <= MAX_POINTER_BYTES:
                try:
                    content = read_small(file)
                    if parse_pointer(content) is not None:
                        require_known_pointer(file, content, self.index.entries)
                except StoreError as error:
                    refused.append(error)
        return refused

    @without_collector()
    def execute(self, progress: StepProgress, jobs: int) -> AddSummary:
        """Do it. Raises StoreError naming the file at fault; git's index is then as it was."""
        if self.refused:
            raise self.refused[0]
        context = self.context
        stager = FileStager(context.staging, context.load_known, self.index.entries, progress)
        stager.read(self.files.to_read, context.chunking, jobs)
        progress.describe("add (remembering files)")
        context.stat_cache.keep(
            (file.place, file.status, kept)
            for file, kept in stager.contents
            if isinstance(kept, Pointer)
        )
        progress.describe("add (writing pointers)")
        changes = self._write_pointers(stager.contents)
        # All that is still needed of it is in the changes.
        stager.contents.clear()
        progress.describe("add (writing git's index)")
        self._write_index(changes)
        return AddSummary(
            added=len(self.files.to_read) + len(self.files.links),
            unchanged=len(self.files.unchanged),
            removed=len(self.gone),
            read_bytes=self.bytes_to_read,
            staged_bytes=stager.staged_bytes,
            kept=len(self.kept),
        )

    def _write_pointers(
        self, read: Sequence[tuple[FoundFile, Pointer | bytes]]
    ) -> list[IndexChange]:
        links = [(file, read_link(file)) for file in self.files.links]
        contents = [*read, *self.files.unchanged, *links]
        ids = self.context.repository.write_blobs(
            (kept if isinstance(kept, bytes) else kept.to_bytes() for _, kept in contents),
            known={entry.blob for entry in self.index.entries.values()},
        )
        return [self._change(file, blob) for (file, _), blob in zip(contents, ids, strict=True)]

    def _write_index(self, changes: list[IndexChange]) -> None:
        context = self.context
        attributes = AttributesFile(context.repository, context.work_tree, self.index.entries)
        with attributes.rewritten(lambda text: add_patterns(text, self.targets)) as staged:
            if self.elsewhere is None:
                settled = wait_for_git(context.top, changes)
                settled += [_unless_racy(change) for change in staged]
                context.repository.index.write(self.index.with_first(settled, self.gone), self.gone)
            else:
                self._write_elsewhere(self.elsewhere, [*changes, *staged])

    def _change(self, file: FoundFile, blob: bytes) -> IndexChange:
        skipped = self.elsewhere is not None
        status = None if skipped else file.status
        return IndexChange(file.path, mode_of(file.status), blob, status, skipped)

    def _write_elsewhere(self, elsewhere: Elsewhere, changes: Sequence[IndexChange]) -> None:
        index = self.context.repository.index
        if elsewhere.standing:
            # First not missed by git, then gone: whatever stops the work in between, no file is
            # there that git would call deleted or changed.
            unmissed = [_skipped(path, self.index.entries[path]) for path in elsewhere.standing]
            index.write(self.index.with_first(unmissed, ()))
            take_away(self.context.top, elsewhere.target, elsewhere.standing, self.index.entries)
        entries = self.index.entries
        new = [c for c in changes if not _is_as_indexed(c, entries.get(c.path))]
        wanted = self.index.with_first(new, self.gone)
        if wanted or self.gone:
            index.write(wanted, self.gone)


def _skipped(path: bytes, entry: IndexedBlob) -> IndexChange:
    return IndexChange(path, entry.mode, entry.blob, None, skipped=True)


def _is_as_indexed(change: IndexChange, entry: IndexedBlob | None) -> bool:
    return change.status is None and entry == (change.blob, change.mode, change.skipped)


@without_collector()
def plan_add(
    context: AddContext,
    cwd: Path,
    paths: Sequence[Path],
    *,
    force: bool = False,
    keep_going: bool = False,
    progress: ByteProgress | None = None,
) -> AddPlan:
    """Look at the files below `paths` and decide what is to be read; changes nothing. What is
    ignored is passed over where it is met on the way, and refused where it was named, but with
    `force`. `progress` is told of files that were found.

    Raises PathRefused or PathNotFound naming the first path that cannot be added; with
    `keep_going`, those are in the plan.
    """
    refused: list[StoreError] = []
    refuse = refused.append if keep_going else raise_refusal
    arguments = _resolve(context, cwd, paths)
    index = load_starting_index(context.repository)
    ignored = NOTHING_IGNORED
    if not force:
        ignored = load_ignored(context.repository.paths, [a.path for a in arguments])
        arguments = _without_ignored(context, arguments, ignored, refuse)
    found = find_files(arguments, ignored, refuse, progress)
    kept = set() if force else _kept_by_git(context, arguments, found, index)
    gone = _gone_paths(context, arguments, index.entries, found)
    _refuse_missing(arguments, gone, refuse)
    files = [found[path] for path in sorted(found.keys() - kept)]
    return AddPlan(
        context=context,
        files=sort_files(context, files),
        gone=tuple(sorted(gone)),
        targets=tuple(_targets(arguments, files)),
        index=index,
        ignored=ignored,
        refused=tuple(refused),
        kept=tuple(sorted(kept)),
    )


def _refuse_missing(arguments: Sequence[Argument], gone: set[bytes], refuse: Refuse) -> None:
    for argument in arguments:
        if argument.status is None and not any(_is_below(path, argument.path) for path in gone):
            refuse(PathNotFound(f"{escape_name(argument.path)} is not there"))


def _kept_by_git(
    context: AddContext,
    arguments: Sequence[Argument],
    found: Mapping[bytes, FoundFile],
    index: StartingIndex,
) -> set[bytes]:
    """Files that git keeps itself and that nobody named: an add of everything, `.` at the top, is
    not meant to make data of the code beside it."""
    if not any(argument.path == b"" for argument in arguments):
        return set()
    named = [argument.path for argument in arguments if argument.path]
    unnamed = [p for p in found if not any(_is_below(p, name) for name in named)]
    return load_kept_by_git(context.repository, unnamed, index.entries)


def _resolve(context: AddContext, cwd: Path, paths: Sequence[Path]) -> list[Argument]:
    try:
        return resolve_arguments(context.work_tree, cwd, paths)
    except OutsideWorkTree as error:
        hint = "revfs add SRC --to PATH makes a version of data that lies elsewhere"
        raise OutsideWorkTree(f"{error}; {hint}") from error


def sort_files(context: AddContext, files: Sequence[FoundFile]) -> SortedFiles:
    """Files by what is to be done with them; the stat cache is asked, no file is opened."""
    regular = [file for file in files if stat.S_ISREG(file.status.st_mode)]
    pointers = context.stat_cache.load([(file.place, file.status) for file in regular])
    # A pointer whose data went away meanwhile is no longer good for anything.
    known = iter(context.load_known([p.content for p in pointers if p is not None]))
    to_read: list[FoundFile] = []
    unchanged: list[tuple[FoundFile, Pointer]] = []
    for file, pointer in zip(regular, pointers, strict=True):
        if pointer is not None and next(known):
            unchanged.append((file, pointer))
        else:
            to_read.append(file)
    links = tuple(file for file in files if stat.S_ISLNK(file.status.st_mode))
    return SortedFiles(tuple(to_read), tuple(unchanged), links)


def _without_ignored(
    context: AddContext, arguments: Sequence[Argument], ignored: Ignored, refuse: Refuse
) -> list[Argument]:
    named = [argument.path for argument in arguments]
    refusals = load_refusals(context.repository.paths, named, ignored)
    for error in refusals.values():
        refuse(error)
    return [argument for argument in arguments if argument.path not in refusals]


def _gone_paths(
    context: AddContext,
    arguments: Sequence[Argument],
    indexed: Mapping[bytes, IndexedBlob],
    found: Mapping[bytes, FoundFile],
) -> set[bytes]:
    """Paths of git's index below the arguments that have no file any more, as `git add` drops them,
    also those in conflict."""
    missed = [path for path, entry in indexed.items() if not entry.skipped]
    missed += context.repository.index.load_conflicts()
    folders = tuple(a.path + b"/" if a.path else b"" for a in arguments)
    named = {a.path for a in arguments}
    missed = [path for path in missed if path not in found]
    below = (path for path in missed if path in named or path.startswith(folders))
    # What now lies beyond a link seems to be there; the link's own entry displaces it.
    return {path for path in below if not os.path.lexists(os.path.join(context.top, path))}


def _is_below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place + b"/")


def _targets(arguments: Sequence[Argument], files: Sequence[FoundFile]) -> Iterable[Target]:
    for argument in arguments:
        if argument.path and argument.status is not None:
            if argument.is_folder or stat.S_ISREG(argument.status.st_mode):
                yield Target(argument.path, argument.is_folder)
        elif not argument.path:
            # The top itself is marked entry by entry, so that git's own files stay unmarked.
            parts = {file.path.partition(b"/")[:2] for file in files}
            yield from (Target(name, bool(slash)) for name, slash in parts)


def wait_for_git(top: bytes, changes: Sequence[IndexChange]) -> list[IndexChange]:
    """Have no entry look racy to git: one changed within the second in which the index is written
    is read again by every `git status`. Waits that second out; an entry whose file changed in it
    keeps no stat, so that git looks for itself."""
    now = time.time()
    seconds = {c.status.st_mtime_ns // _SECOND_NS for c in changes if c.status}
    # Files from the future are not waited for, nor do they hide the others.
    newest = max((second for second in seconds if second <= now), default=0)
    if now >= newest + 1 + _CLOCK_GRAIN_SECONDS:
        return list(changes)
    time.sleep(newest + 1 + _CLOCK_GRAIN_SECONDS - now)
    settled = []
    for change in changes:
        if change.status is not None and change.status.st_mtime_ns // _SECOND_NS == newest:
            change = _settled(top, change)
        settled.append(change)
    return settled


def _unless_racy(change: IndexChange) -> IndexChange:
    """Without its stat where it would look racy. For `.gitattributes`, which was written just now:
    a look of git's at that one costs less than to wait the second out."""
    if change.status is None:
        return change
    second = change.status.st_mtime_ns // _SECOND_NS
    is_over = time.time() >= second + 1 + _CLOCK_GRAIN_SECONDS
    return change if is_over else change._replace(status=None)


def _settled(top: bytes, change: IndexChange) -> IndexChange:
    with suppress(OSError):
        now = os.lstat(os.path.join(top, change.path))
        if change.status is not None and same_file_state(change.status, now):
            return change
    return IndexChange(change.path, change.mode, change.blob, None)
