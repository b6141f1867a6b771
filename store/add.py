"""`add`: files of the work tree become staged packs, pointers in git's objects, entries in its
index.

In this order: packs (synced), blobs, `.gitattributes`, index. Whatever stops the work before the
last step leaves git's index as it was.
"""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from store.chunk_list import encode_chunk_list
from store.chunking import ChunkingParameters
from store.codec import compress_chunk
from store.errors import PathNotFound, PathRefused
from store.git import GitRepository, blob_id
from store.git_index import MODE_FILE, IndexChange, mode_of
from store.ids import ChunkId, chunk_id
from store.pack_sink import PackSink
from store.packs import PackKind
from store.pointer import Pointer
from store.progress import ByteProgress
from store.read_files import FileEnd, FileReader, Piece
from store.shown_names import escape_name
from store.staging import Staging
from store.stat_cache import StatCache, same_file_state
from store.tracked_patterns import ATTRIBUTES_FILE, Target, add_patterns
from store.walk import Argument, FoundFile, resolve_arguments, walk

# Files are stamped from a clock that lags by up to a tick of 10 ms.
_CLOCK_GRAIN_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class AddContext:
    """What `add` works with. `is_known` tells chunks that are staged or in the remote."""

    repository: GitRepository
    work_tree: Path
    staging: Staging
    stat_cache: StatCache
    chunking: ChunkingParameters
    is_known: Callable[[ChunkId], bool]


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What was done: counts of files, and bytes read and newly staged (as stored)."""

    added: int
    unchanged: int
    removed: int
    read_bytes: int
    staged_bytes: int


@dataclass(frozen=True, slots=True)
class AddPlan:
    """What is to be done: files to read, files whose pointer is known from their stat, symbolic
    links, index entries whose file is gone, and the paths to mark in `.gitattributes`."""

    context: AddContext
    to_read: tuple[FoundFile, ...]
    unchanged: tuple[tuple[FoundFile, Pointer], ...]
    links: tuple[FoundFile, ...]
    gone: tuple[bytes, ...]
    targets: tuple[Target, ...]
    # path → blob, as git's index has it before.
    indexed: Mapping[bytes, bytes]

    @property
    def bytes_to_read(self) -> int:
        """The sizes of all files to read."""
        return sum(file.status.st_size for file in self.to_read)

    def execute(self, progress: ByteProgress, jobs: int) -> AddSummary:
        """Do it. Raises StoreError naming the file at fault; git's index is then as it was."""
        reading = _Reading(self.context, self.indexed, progress)
        reading.read(self.to_read, jobs)
        self._write(reading.pointers)
        return AddSummary(
            added=len(self.to_read) + len(self.links),
            unchanged=len(self.unchanged),
            removed=len(self.gone),
            read_bytes=self.bytes_to_read,
            staged_bytes=reading.staged_bytes,
        )

    def _write(self, read: Sequence[tuple[FoundFile, bytes]]) -> None:
        top = os.fsencode(self.context.work_tree)
        contents = {file.path: (file.status, content) for file, content in read}
        contents |= {file.path: (file.status, p.to_bytes()) for file, p in self.unchanged}
        contents |= {file.path: (file.status, _read_link(top, file)) for file in self.links}
        changes = [
            IndexChange(path, mode_of(status), blob_id(content), status)
            for path, (status, content) in contents.items()
        ]
        wanted = {change.blob for change in changes} - set(self.indexed.values())
        new = {blob_id(content): content for _, content in contents.values()}
        self.context.repository.write_blobs([new[blob] for blob in sorted(wanted)])
        with _put_back_on_error(self._attributes, self.context.repository.paths.git_dir):
            changes += self._write_attributes()
            settled = wait_for_git(top, changes)
            self.context.repository.index.write(settled, self.gone)

    @property
    def _attributes(self) -> Path:
        return self.context.work_tree / os.fsdecode(ATTRIBUTES_FILE)

    def _write_attributes(self) -> list[IndexChange]:
        """Mark the targets, and have the file staged with the rest."""
        path = self._attributes
        if path.is_symlink():
            raise PathRefused(".gitattributes is a symbolic link, which git does not read either")
        existing = path.read_bytes() if path.exists() else b""
        text = add_patterns(existing, self.targets)
        if not text:
            return []
        if text != existing:
            _replace_file(path, text, self.context.repository.paths.git_dir)
        (blob,) = self.context.repository.write_blobs([text])
        return [IndexChange(ATTRIBUTES_FILE, MODE_FILE, blob, path.lstat())]


def plan_add(context: AddContext, cwd: Path, paths: Sequence[Path]) -> AddPlan:
    """Look at the files below `paths` and decide what is to be read; changes nothing.

    Raises PathRefused or PathNotFound naming the first path that cannot be added.
    """
    top = os.fsencode(context.work_tree)
    arguments = resolve_arguments(context.work_tree, cwd, paths)
    entries = context.repository.index.load_entries()
    indexed = {path: entry.blob for path, entry in entries.items()}
    found = {file.path: file for argument in arguments for file in walk(top, argument)}
    gone = _gone_paths(top, arguments, (p for p, entry in entries.items() if not entry.skipped))
    for argument in arguments:
        if argument.status is None and not any(_is_below(path, argument.path) for path in gone):
            raise PathNotFound(f"{escape_name(argument.path)} is not there")
    files = [found[path] for path in sorted(found)]
    regular = [file for file in files if stat.S_ISREG(file.status.st_mode)]
    links = tuple(file for file in files if stat.S_ISLNK(file.status.st_mode))
    to_read, unchanged = _split_by_stat(context, top, regular)
    return AddPlan(
        context=context,
        to_read=tuple(to_read),
        unchanged=tuple(unchanged),
        links=links,
        gone=tuple(sorted(gone)),
        targets=tuple(_targets(arguments, files)),
        indexed=indexed,
    )


def _gone_paths(top: bytes, arguments: Sequence[Argument], indexed: Iterable[bytes]) -> set[bytes]:
    """Index entries below the arguments that have no file any more, as `git add` drops them."""
    folders = tuple(a.path + b"/" if a.path else b"" for a in arguments)
    named = {a.path for a in arguments}
    below = (path for path in indexed if path in named or path.startswith(folders))
    # What now lies beyond a link seems to be there; the link's own entry displaces it.
    return {path for path in below if not os.path.lexists(os.path.join(top, path))}


def _is_below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place + b"/")


def _split_by_stat(
    context: AddContext, top: bytes, files: Sequence[FoundFile]
) -> tuple[list[FoundFile], list[tuple[FoundFile, Pointer]]]:
    known = context.stat_cache.load([(os.path.join(top, f.path), f.status) for f in files])
    to_read: list[FoundFile] = []
    unchanged: list[tuple[FoundFile, Pointer]] = []
    for file, pointer in zip(files, known, strict=True):
        # A pointer whose data went away meanwhile is no longer good for anything.
        if pointer is not None and context.is_known(pointer.content):
            unchanged.append((file, pointer))
        else:
            to_read.append(file)
    return to_read, unchanged


def _targets(arguments: Sequence[Argument], files: Sequence[FoundFile]) -> Iterable[Target]:
    for argument in arguments:
        if argument.path and argument.status is not None:
            is_folder = stat.S_ISDIR(argument.status.st_mode)
            if is_folder or stat.S_ISREG(argument.status.st_mode):
                yield Target(argument.path, is_folder)
        elif not argument.path:
            # The top itself is marked entry by entry, so that git's own files stay unmarked.
            for file in files:
                name, slash, _ = file.path.partition(b"/")
                yield Target(name, bool(slash))


def _replace_file(path: Path, content: bytes, git_dir: Path) -> None:
    # Made in the git directory: a kill in between must leave nothing in the work tree.
    temporary = git_dir / f"revfs-{path.name.lstrip('.')}"
    temporary.write_bytes(content)
    if path.exists():
        shutil.copymode(path, temporary)
    shutil.move(temporary, path)


@contextmanager
def _put_back_on_error(path: Path, git_dir: Path) -> Iterator[None]:
    """Have a file be as it was if the work fails."""
    before = path.read_bytes() if path.exists() else None
    try:
        yield
    except BaseException:
        if before is None:
            path.unlink(missing_ok=True)
        elif path.read_bytes() != before:
            _replace_file(path, before, git_dir)
        raise


class _Reading:
    """The reading half of one `add`: events of the reader into packs and pointer texts."""

    def __init__(
        self, context: AddContext, indexed: Mapping[bytes, bytes], progress: ByteProgress
    ) -> None:
        self._context = context
        self._indexed = indexed
        self._progress = progress
        self._top = os.fsencode(context.work_tree)
        # (file, what git keeps for it), in order of path.
        self.pointers: list[tuple[FoundFile, bytes]] = []
        self._remembered: list[tuple[bytes, os.stat_result, Pointer]] = []
        self._chunks: list[tuple[ChunkId, int]] = []
        self.staged_bytes = 0

    def read(self, files: Sequence[FoundFile], jobs: int) -> None:
        """Read the files, stage what is new, remember their stats."""
        if not files:
            return
        context = self._context
        with (
            PackSink(context.staging, PackKind.DATA) as data,
            PackSink(context.staging, PackKind.LISTS) as lists,
        ):
            reader = FileReader(self._top, context.chunking, context.is_known)
            for event in reader.read(files, jobs):
                if isinstance(event, FileEnd):
                    self._end_file(event, lists)
                else:
                    self._take_piece(event, data)
            data.finish()
            lists.finish()
            self.staged_bytes = data.stored_bytes + lists.stored_bytes
        context.stat_cache.keep(self._remembered)

    def _take_piece(self, piece: Piece, data: PackSink) -> None:
        self._chunks.append((piece.chunk, piece.raw_length))
        if piece.stored is not None:
            data.append(piece.chunk, piece.codec, piece.stored, piece.raw_length)
        self._progress.advance(piece.raw_length)

    def _end_file(self, end: FileEnd, lists: PackSink) -> None:
        chunks, self._chunks = self._chunks, []
        self._progress.advance(0, items=1)
        if not chunks:
            self._require_known_pointer(end.file, end.content)
            self.pointers.append((end.file, end.content))
            return
        pointer = self._pointer(chunks, lists)
        self.pointers.append((end.file, pointer.to_bytes()))
        absolute = os.path.join(self._top, end.file.path)
        self._remembered.append((absolute, end.file.status, pointer))

    def _pointer(self, chunks: list[tuple[ChunkId, int]], lists: PackSink) -> Pointer:
        size = sum(length for _, length in chunks)
        if len(chunks) == 1:
            return Pointer(chunks[0][0], size)
        raw = encode_chunk_list(chunks)
        content = chunk_id(raw)
        if not self._context.is_known(content):
            codec, stored = compress_chunk(raw)
            lists.append(content, codec, stored, len(raw))
        return Pointer(content, size, len(chunks))

    def _require_known_pointer(self, file: FoundFile, content: bytes) -> None:
        """A pointer text in the work tree stands for data that is not here; it is taken only where
        git's index has that very pointer."""
        if content and self._indexed.get(file.path) != blob_id(content):
            raise PathRefused(
                f"{escape_name(file.path)} holds the text of a pointer, not data; "
                "git checkout it, or put the data there"
            )


def _read_link(top: bytes, file: FoundFile) -> bytes:
    try:
        return os.readlink(os.path.join(top, file.path))
    except OSError as error:
        shown = escape_name(file.path)
        raise PathNotFound(f"{shown} is no link any more: {error.strerror}") from error


def wait_for_git(top: bytes, changes: Sequence[IndexChange]) -> list[IndexChange]:
    """Have no entry look racy to git: one changed within the second in which the index is written
    is read again by every `git status`. Waits that second out; an entry whose file changed in it
    keeps no stat, so that git looks for itself."""
    now = time.time()
    seconds = {int(c.status.st_mtime) for c in changes if c.status}
    # Files from the future are not waited for, nor do they hide the others.
    newest = max((second for second in seconds if second <= now), default=0)
    if now >= newest + 1 + _CLOCK_GRAIN_SECONDS:
        return list(changes)
    time.sleep(newest + 1 + _CLOCK_GRAIN_SECONDS - now)
    settled = []
    for change in changes:
        if change.status is not None and int(change.status.st_mtime) == newest:
            change = _settled(top, change)
        settled.append(change)
    return settled


def _settled(top: bytes, change: IndexChange) -> IndexChange:
    with suppress(OSError):
        now = os.lstat(os.path.join(top, change.path))
        if change.status is not None and same_file_state(change.status, now):
            return change
    return IndexChange(change.path, change.mode, change.blob, None)
