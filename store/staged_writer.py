"""Writing one staged pack, and what can be saved of one whose writer was killed.

A pack grows under a temporary name, locked by its writer. Where a killed writer must not lose what
it has already answered for, it keeps a journal beside the pack: the rows of the table so far. From
the two the pack is written anew, each chunk proven, since the journal is a hint like any row.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import BinaryIO

from store.errors import IntegrityError, LocalDiskFull, StoreError
from store.ids import ChunkId, PackName, new_pack_name
from store.local_folders import sync_folder
from store.packs import (
    PACK_HEADER_BYTES,
    PackEntry,
    PackKind,
    PackSummary,
    PackTable,
    PackWriter,
    parse_pack_header,
    unpack_chunk,
)
from store.tables import is_no_space

TEMPORARY_SUFFIX = ".part"
JOURNAL_SUFFIX = ".journal"

TakeIn = Callable[[PackName, PackTable, int], None]


class StagedPackWriter:
    """A staged pack being written; see packs.PackWriter for `fits` and `append`."""

    def __init__(self, folder: Path, kind: PackKind, take_in: TakeIn) -> None:
        """`take_in` is told name, table and size in bytes of the pack once it lasts."""
        self.name = new_pack_name()
        self.kind = kind
        self._folder = folder
        self._take_in = take_in
        self._file = self._create()
        self._journal: BinaryIO | None = None
        self._saved_bytes = 0
        # Set once a write failed: the file may end in half a chunk, and nothing may follow it.
        self._failure: StoreError | None = None
        self._writer = PackWriter(self._file, kind)

    def __len__(self) -> int:
        return len(self._writer)

    @property
    def _temporary(self) -> Path:
        return self._folder / f"{self.name}{TEMPORARY_SUFFIX}"

    @property
    def _journal_path(self) -> Path:
        return self._folder / f"{self.name}{JOURNAL_SUFFIX}"

    def _create(self) -> BinaryIO:
        with disk_errors(self._folder):
            while True:
                file = self._temporary.open("xb", buffering=1 << 20)
                flock(file, LOCK_EX)
                # Whoever clears up may have taken it for a dead one's before it was locked.
                if os.fstat(file.fileno()).st_nlink:
                    return file
                file.close()

    def fits(self, stored_length: int) -> bool:
        """Whether a chunk of that stored length still fits."""
        return self._writer.fits(stored_length)

    def append(self, chunk: ChunkId, codec: int, stored: bytes, raw_length: int) -> None:
        """Write one chunk. Raises LocalDiskFull, as every call after it then does."""
        with self._writing():
            self._writer.append(chunk, codec, stored, raw_length)

    def add(self, chunk: ChunkId, codec: int, stored: bytes, raw_length: int) -> None:
        """Take one chunk in; `write` writes it, or `finish`."""
        self._writer.add(chunk, codec, stored, raw_length)

    def take_added(self) -> list[bytes]:
        """See packs.PackWriter."""
        return self._writer.take_added()

    def write(self, added: Sequence[bytes]) -> None:
        """See packs.PackWriter. Raises LocalDiskFull, as every call after it then does."""
        with self._writing():
            self._writer.write(added)

    def save(self) -> None:
        """Have what was appended so far outlive this process (a power cut only `finish` does).
        Raises LocalDiskFull."""
        with self._writing():
            rows = self._writer.rows_from(self._saved_bytes)
            if not rows:
                return
            self._file.flush()
            if self._journal is None:
                self._journal = self._journal_path.open("xb", buffering=0)
            self._journal.write(rows)
            self._saved_bytes += len(rows)

    def finish(self) -> PackSummary:
        """Make the pack last: table, sync, rename, sync of the folder, rows."""
        with self._writing():
            summary = self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            # Still locked: nobody takes it for a dead one's.
            self._temporary.rename(self._folder / self.name)
            sync_folder(self._folder)
            self._file.close()
        self._drop_journal()
        self._take_in(self.name, summary.table, summary.size)
        return summary

    def discard(self) -> None:
        """Close and remove what was neither finished nor saved; what was saved is left for whoever
        opens the staged packs next, as if this process had been killed."""
        if not self._file.closed:
            if self._journal is None:
                self._temporary.unlink(missing_ok=True)
            else:
                self._journal.close()
            # The buffer of an unfinished pack may not fit on the disk; it is not wanted either.
            with suppress(OSError):
                self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._failure is not None:
            raise self._failure
        try:
            with disk_errors(self._folder):
                yield
        except StoreError as error:
            self._failure = error
            raise

    def _drop_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal_path.unlink(missing_ok=True)
            self._journal = None


def read_unfinished(part: BinaryIO, journal: bytes) -> Iterator[tuple[PackEntry, bytes]]:
    """The proven entries of an unfinished pack with their stored bytes, by the rows of its journal,
    up to the first that is not whole. Raises MalformedObject for what does not begin like a pack.
    """
    end = PACK_HEADER_BYTES
    for entry in PackTable.unfinished(journal):
        if entry.offset != end:
            return
        part.seek(end)
        stored = part.read(entry.stored_length)
        try:
            unpack_chunk(entry, stored)
        except IntegrityError:
            return
        end = entry.end
        yield entry, stored


def read_unfinished_kind(part: BinaryIO) -> PackKind:
    """The kind of an unfinished pack. Raises MalformedObject."""
    part.seek(0)
    return parse_pack_header(part.read(PACK_HEADER_BYTES))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say what a failed write in the folder of staged packs means. Raises LocalDiskFull,
    StoreError."""
    try:
        yield
    except OSError as error:
        if is_no_space(error):
            message = f"the disk of {folder} is full; make room and run it again"
            raise LocalDiskFull(message) from error
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
