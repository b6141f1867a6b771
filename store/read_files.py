"""Reading files for `add`: read, cut, hash and compress on all cores, hand over in order.

Small files go to the threads in batches, large ones are cut here and their chunks go to the
threads; what comes out is in the order of the files, with a bounded number of bytes under way.
"""

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from typing import NamedTuple

from store.chunking import ChunkingParameters, read_chunks
from store.errors import PathNotFound, PathRefused
from store.pieces import IsKnown, Piece, prepare_piece
from store.pointer import begins_like_pointer, parse_pointer
from store.shown_names import escape_name
from store.stat_cache import same_file_state, wait_until_settled
from store.walk import FoundFile

_BATCH_FILES = 64
_BATCH_BYTES = 4 << 20
_BYTES_UNDER_WAY = 128 << 20


class FileEnd(NamedTuple):
    """All pieces of `file` were handed over; `file.status` is of what was read, not of what was
    walked. A file of no pieces is kept as `content` by git itself: it is empty, or the text of a
    pointer."""

    file: FoundFile
    content: bytes = b""


Event = Piece | FileEnd


class FileReader:
    """Reads files; `is_known` tells chunks that need no bytes, from any thread."""

    def __init__(self, parameters: ChunkingParameters, is_known: IsKnown) -> None:
        self._parameters = parameters
        self._is_known = is_known

    def read(self, files: Sequence[FoundFile], jobs: int) -> Iterator[Event]:
        """Pieces and ends of the files, in their order. Raises PathNotFound or PathRefused naming
        the file that cannot be read or changed meanwhile."""
        with ThreadPoolExecutor(jobs, thread_name_prefix="add") as pool:
            under_way: deque[tuple[Future[list[Event]], int]] = deque()
            total = 0
            try:
                for future, size in self._submit(files, pool):
                    under_way.append((future, size))
                    total += size
                    while total > _BYTES_UNDER_WAY:
                        first, freed = under_way.popleft()
                        total -= freed
                        yield from first.result()
                while under_way:
                    yield from under_way.popleft()[0].result()
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
                yield pool.submit(self._prepare_all, [chunk]), len(chunk)
            end: Future[list[Event]] = Future()
            end.set_result([FileEnd(file._replace(status=opened.check_unchanged()))])
            yield end, 0

    def _read_batch(self, batch: Sequence[FoundFile]) -> list[Event]:
        events: list[Event] = []
        for file in batch:
            with _opened(file) as opened:
                content = opened.stream.readall()
                status = opened.check_unchanged()
            found = file._replace(status=status)
            if not content or parse_pointer(content) is not None:
                events.append(FileEnd(found, content))
                continue
            if begins_like_pointer(content):
                raise PathRefused(
                    f"{escape_name(file.path)} begins like a pointer but is none: if a pointer was "
                    "edited, git restore brings it back, and revfs pull its data"
                )
            chunks = [content]
            if len(content) > self._parameters.least_bytes:
                chunks = list(read_chunks(BytesIO(content), self._parameters))
            events += self._prepare_all(chunks)
            events.append(FileEnd(found))
        return events

    def _prepare_all(self, chunks: Iterable[bytes]) -> list[Event]:
        return [self._prepare(chunk) for chunk in chunks]

    def _prepare(self, raw: bytes) -> Piece:
        return prepare_piece(raw, self._is_known)


def read_small(file: FoundFile) -> bytes:
    """The contents of one file, whole. Raises as FileReader.read does."""
    with _opened(file) as opened:
        return opened.stream.readall()


class _opened:  # noqa: N801 - reads as the context that it is
    """One file, open and settled: any change from here on shows in its stat."""

    def __init__(self, file: FoundFile) -> None:
        self._path = file.path
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self.stream = open(  # noqa: SIM115 - closed by __exit__
                file.place, "rb", buffering=0, opener=lambda path, _: os.open(path, flags)
            )
        except OSError as error:
            raise PathNotFound(f"{self._shown} cannot be read: {error.strerror}") from error
        self._status = os.fstat(self.stream.fileno())
        if not stat.S_ISREG(self._status.st_mode):
            self.stream.close()
            raise PathRefused(f"{self._shown} is not a plain file any more")
        if wait_until_settled(self._status):
            self._status = os.fstat(self.stream.fileno())

    def __enter__(self) -> "_opened":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.stream.close()
        if isinstance(error, OSError):
            raise PathNotFound(f"{self._shown} cannot be read: {error.strerror}") from error

    def check_unchanged(self) -> os.stat_result:
        """The stat of what was read. Raises PathRefused if it changed under the reading."""
        if not same_file_state(self._status, os.fstat(self.stream.fileno())):
            raise PathRefused(
                f"{self._shown} changed while it was read; add it again when it rests"
            )
        return self._status

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
