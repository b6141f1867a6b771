"""Reading files for `add`: read, cut, hash and compress on all cores, hand over in order.

Small files go to the threads in batches, large ones are cut here and their chunks go to the
threads; what comes out is in the order of the files, with a bounded number of bytes under way. What
is done for each of a million files is done in few steps: most of their time is Python's own.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO, FileIO
from itertools import chain, islice
from typing import NamedTuple

from store.chunking import ChunkingParameters, read_chunks
from store.errors import PathNotFound, PathRefused
from store.file_state import FileState
from store.pieces import LoadKnown, Piece, prepare_pieces
from store.pointer import begins_like_pointer, parse_pointer
from store.shown_names import escape_name
from store.stat_cache import wait_until_settled
from store.walk import FoundFile

_BATCH_FILES = 64
_BATCH_BYTES = 4 << 20
_BYTES_UNDER_WAY = 128 << 20
# Of tiny files, so many batches already hold a second of work and some megabytes of small values.
_BATCHES_UNDER_WAY = 256
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class FileEnd(NamedTuple):
    """All pieces of `file` were handed over; `file.status` is of what was read, not of what was
    walked. A file of no pieces is kept as `content` by git itself: it is empty, or the text of a
    pointer."""

    file: FoundFile
    content: bytes = b""


Event = Piece | FileEnd


class FileReader:
    """Reads files; `load_known` tells chunks that need no bytes, from any thread."""

    def __init__(self, parameters: ChunkingParameters, load_known: LoadKnown) -> None:
        self._parameters = parameters
        self._load_known = load_known

    def read(self, files: Sequence[FoundFile], jobs: int) -> Iterator[Event]:
        """Pieces and ends of the files, in their order. Raises PathNotFound or PathRefused naming
        the file that cannot be read or changed meanwhile."""
        for batch in self.read_batches(files, jobs):
            yield from batch

    def read_batches(self, files: Sequence[FoundFile], jobs: int) -> Iterator[list[Event]]:
        """As `read`, some at a time."""
        with ThreadPoolExecutor(jobs, thread_name_prefix="add") as pool:
            under_way: deque[tuple[Future[list[Event]], int]] = deque()
            total = 0
            try:
                for future, size in self._submit(files, pool):
                    under_way.append((future, size))
                    total += size
                    while total > _BYTES_UNDER_WAY or len(under_way) > _BATCHES_UNDER_WAY:
                        first, freed = under_way.popleft()
                        total -= freed
                        yield first.result()
                while under_way:
                    yield under_way.popleft()[0].result()
            finally:
                for future, _ in under_way:
                    future.cancel()

    def _submit(
        self, files: Sequence[FoundFile], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Future[list[Event]], int]]:
        for batch in _batches(files):
            size = sum(file.status.st_size for file in batch)
            if size <= _BATCH_BYTES:
                yield pool.submit(self._read_batch, batch), size
            else:
                (file,) = batch
                yield from self._submit_large(file, pool)

    def _submit_large(
        self, file: FoundFile, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Future[list[Event]], int]]:
        with _opened(file) as opened:
            for chunk in read_chunks(opened.stream, self._parameters):
                yield pool.submit(self._prepare, [chunk]), len(chunk)
            end: Future[list[Event]] = Future()
            end.set_result([FileEnd(file._replace(status=opened.check_unchanged()))])
            yield end, 0

    def _read_batch(self, batch: Sequence[FoundFile]) -> list[Event]:
        """The events of some small files: all are read first, then all is hashed and looked up."""
        ends: list[FileEnd] = []
        pieces_of: list[list[bytes]] = []
        for file in batch:
            with _opened(file) as opened:
                content = opened.read_all()
                status = opened.check_unchanged()
            # As a rule the state is the very one that was walked, and need not be held twice.
            found = file if status == file.status else FoundFile(file.path, file.place, status)
            if is_kept_by_git(found, content):
                ends.append(FileEnd(found, content))
                pieces_of.append([])
            else:
                ends.append(FileEnd(found))
                pieces_of.append(self._cut(content))
        prepared = iter(self._prepare(list(chain.from_iterable(pieces_of))))
        events: list[Event] = []
        for end, raw_pieces in zip(ends, pieces_of, strict=True):
            events += islice(prepared, len(raw_pieces))
            events.append(end)
        return events

    def _cut(self, content: bytes) -> list[bytes]:
        if len(content) <= self._parameters.least_bytes:
            return [content]
        return list(read_chunks(BytesIO(content), self._parameters))

    def _prepare(self, chunks: Sequence[bytes]) -> list[Event]:
        return [*prepare_pieces(chunks, self._load_known)]


def is_kept_by_git(file: FoundFile, content: bytes) -> bool:
    """Whether git keeps a file of this content itself: it is empty, or the text of a pointer.
    Raises PathRefused for what begins like one and is none."""
    if not content.startswith(b"revfs 1\n"):
        return not content
    if parse_pointer(content) is not None:
        return True
    if begins_like_pointer(content):
        raise PathRefused(
            f"{escape_name(file.path)} begins like a pointer but is none: if a pointer was "
            "edited, git restore brings it back, and revfs pull its data"
        )
    return False


def read_small(file: FoundFile) -> bytes:
    """The contents of one file, whole. Raises as FileReader.read does."""
    with _opened(file) as opened:
        return opened.read_all()


def read_link(file: FoundFile) -> bytes:
    """The target of a symbolic link. Raises PathNotFound naming it where it is none any more."""
    try:
        return os.readlink(file.place)
    except OSError as error:
        shown = escape_name(file.path)
        raise PathNotFound(f"{shown} is no link any more: {error.strerror}") from error


class _opened:  # noqa: N801 - reads as the context that it is
    """One file, open and settled: any change from here on shows in its stat."""

    def __init__(self, file: FoundFile) -> None:
        self._path = file.path
        try:
            self._descriptor = os.open(file.place, _OPEN_FLAGS)
        except OSError as error:
            raise PathNotFound(f"{self._shown} cannot be read: {error.strerror}") from error
        self._status = os.fstat(self._descriptor)
        if not stat.S_ISREG(self._status.st_mode):
            os.close(self._descriptor)
            raise PathRefused(f"{self._shown} is not a plain file any more")
        if wait_until_settled(self._status):
            self._status = os.fstat(self._descriptor)

    def __enter__(self) -> "_opened":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        os.close(self._descriptor)
        if isinstance(error, OSError):
            raise PathNotFound(f"{self._shown} cannot be read: {error.strerror}") from error

    @property
    def stream(self) -> FileIO:
        """The file as a stream, which does not close it."""
        return FileIO(self._descriptor, "rb", closefd=False)

    def read_all(self) -> bytes:
        """All that is in the file."""
        size = self._status.st_size
        content = os.read(self._descriptor, min(size, _BATCH_BYTES) + 1)
        if len(content) == size:
            return content
        # It changed meanwhile; or this is one of the file systems that give less than was asked.
        blocks = [content]
        while blocks[-1]:
            blocks.append(os.read(self._descriptor, _BATCH_BYTES))
        return b"".join(blocks)

    def check_unchanged(self) -> FileState:
        """The state that was read. Raises PathRefused if it changed under the reading."""
        before, now = self._status, os.fstat(self._descriptor)
        if (
            now.st_ctime_ns != before.st_ctime_ns
            or now.st_mtime_ns != before.st_mtime_ns
            or now.st_size != before.st_size
        ):
            raise PathRefused(
                f"{self._shown} changed while it was read; add it again when it rests"
            )
        return FileState.of(before)

    @property
    def _shown(self) -> str:
        return escape_name(self._path)


def _batches(files: Sequence[FoundFile]) -> Iterator[list[FoundFile]]:
    """Neighbouring files in batches of at most _BATCH_FILES and _BATCH_BYTES; a larger file is a
    batch of its own."""
    batch: list[FoundFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) >= _BATCH_FILES or size + file.status.st_size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.status.st_size
    if batch:
        yield batch
