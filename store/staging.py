"""Staged packs: what `add` wrote and no remote has yet. The only copy, so never evicted.

A pack is written under a temporary name (`store.staged_writer`), synced, renamed into place, and
only then named in the tables; whoever finds a pack without rows reads its own table and adds them,
and whoever finds one that a killed writer left with its journal saves what is in it. `staged/` is
the truth, the tables are an index to it.
"""

import logging
import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from store.cache_rows import PackPlace, PackSpan, is_place, parse_place, parse_span
from store.errors import Busy, IntegrityError, MalformedObject, StoreError
from store.ids import (
    PACK_NAME_BYTES,
    ChunkId,
    PackName,
    is_pack_name,
    pack_name_from_bytes,
)
from store.local_folders import make_private_folder, sync_folder, try_lock
from store.packs import PackKind, PackTable, load_pack_table, unpack_chunk
from store.staged_writer import (
    JOURNAL_SUFFIX,
    TEMPORARY_SUFFIX,
    StagedPackWriter,
    disk_errors,
    read_unfinished,
    read_unfinished_kind,
)
from store.tables import Tables

log = logging.getLogger(__name__)

# What is done anew for the sake of one chunk that is nowhere need not be done for the next.
_NAME_ANEW_SECONDS = 60.0
_PACK = struct.Struct("<Q")
_TABLE_NAMES = ("chunks", "packs", "files")
# How often a pack that is relied on again and again is marked as used.
_FRESHEN_SECONDS = 60.0


def open_repository_tables(state_dir: Path, doubtful: str = "") -> Tables:
    """The tables of one repository: staged chunks, staged packs, and the stat cache; made anew
    where they are `doubtful`. Raises CacheUnusable where they cannot be kept safely."""
    make_private_folder(state_dir)
    return Tables(make_private_folder(state_dir / "index"), _TABLE_NAMES, doubtful=doubtful)


def has_staged_packs(state_dir: Path) -> bool:
    """Whether anything is staged, without opening a table; also what a killed writer left."""
    folder = state_dir / "staged"
    return folder.is_dir() and any(
        is_pack_name(path.name) or path.name.endswith(JOURNAL_SUFFIX) for path in folder.iterdir()
    )


@dataclass(frozen=True, slots=True)
class StagedPack:
    """A staged pack and its size in bytes."""

    name: PackName
    size: int


class Staging:
    """The staged packs of one repository."""

    def __init__(self, state_dir: Path, tables: Tables) -> None:
        """Takes in packs that a crash left without rows, saves what a killed writer left, and drops
        rows of packs that are gone."""
        self._state_dir = state_dir
        self._folder = _make_lasting(state_dir)
        self._tables = tables
        # When packs were last marked as used here, by raw name and the steady clock.
        self._freshened: dict[bytes, float] = {}
        self._name_anew_at = 0.0
        self._reconcile()
        self._save_unfinished()
        tables.when_renewed(self._reconcile)

    @contextmanager
    def locked(self, verb: str) -> Iterator[None]:
        """Be the only one at this verb in this repository. Raises Busy."""
        with (self._state_dir / f"{verb}.lock").open("w") as lock:
            if not try_lock(lock):
                raise Busy(f"another revfs {verb} is at work in this repository; wait for its end")
            self._save_unfinished()
            for leftover in self.find_leftovers():
                leftover.unlink(missing_ok=True)
            yield

    def find_leftovers(self) -> Iterator[Path]:
        """What killed writers have left of packs, and nothing can be made of. Nobody takes up such
        a file while it is handed out."""
        for leftover in self._folder.glob(f"*{TEMPORARY_SUFFIX}"):
            with suppress(FileNotFoundError), leftover.open("rb") as file:
                # Whoever is writing it holds its lock; one with a journal could not be saved now.
                if try_lock(file) and not leftover.with_suffix(JOURNAL_SUFFIX).exists():
                    yield leftover

    def _save_unfinished(self) -> None:
        """Make whole packs of those that a killed writer left with a journal."""
        for journal in sorted(self._folder.glob(f"*{JOURNAL_SUFFIX}")):
            part = journal.with_suffix(TEMPORARY_SUFFIX)
            try:
                with part.open("rb") as file:
                    if try_lock(file):
                        self._save(file, journal.read_bytes())
                        part.unlink(missing_ok=True)
                        journal.unlink(missing_ok=True)
            except FileNotFoundError:
                # It was finished, and only its journal is left; or somebody else is at it.
                if not part.exists():
                    journal.unlink(missing_ok=True)
            except (StoreError, OSError) as error:
                log.warning("what a killed command left staged is not saved yet: %s", error)

    def _save(self, part: BinaryIO, journal: bytes) -> None:
        with self.new_pack(read_unfinished_kind(part)) as writer:
            for entry, stored in read_unfinished(part, journal):
                writer.append(entry.chunk, entry.codec, stored, entry.raw_length)
            if len(writer):
                writer.finish()

    def path_of(self, pack: PackName) -> Path:
        """Where a staged pack lies."""
        return self._folder / pack

    def load_place(self, chunk: ChunkId) -> PackPlace | None:
        """Where a chunk is staged, or None."""
        return parse_place(chunk, self._tables.get("chunks", chunk))

    def load_places(self, chunks: Sequence[ChunkId]) -> list[PackPlace | None]:
        """As `load_place`, for many, in the order asked."""
        values = self._tables.get_many("chunks", list(chunks))
        return [parse_place(chunk, value) for chunk, value in zip(chunks, values, strict=True)]

    def load_spans(self, chunks: Sequence[ChunkId]) -> list[PackSpan | None]:
        """As `load_places`, of each only where its stored bytes lie."""
        values = self._tables.get_many("chunks", list(chunks))
        return [parse_span(value) if is_place(value) else None for value in values]

    def load_present(self, chunks: Sequence[ChunkId]) -> list[bool]:
        """Whether each chunk is staged, in the order asked: for whoever only counts."""
        return [is_place(value) for value in self._tables.get_many("chunks", list(chunks))]

    def rely_on(self, chunks: Sequence[ChunkId]) -> list[bool]:
        """As `load_present`, for whoever stages nothing where that is said. The packs count as used
        just now, so that none is dropped before git has the pointers that need it."""
        values = self._tables.get_many("chunks", list(chunks))
        names = {value[:PACK_NAME_BYTES] for value in values if is_place(value)}
        there = {name for name in names if self._freshen(name)}
        return [is_place(value) and value[:PACK_NAME_BYTES] in there for value in values]

    def _freshen(self, raw_name: bytes) -> bool:
        """Mark a pack as used; whether it is there."""
        now = time.monotonic()
        last = self._freshened.get(raw_name)
        if last is None or now - last > _FRESHEN_SECONDS:
            try:
                os.utime(self.path_of(pack_name_from_bytes(raw_name)))
            except FileNotFoundError:
                return False
            self._freshened[raw_name] = now
        return True

    def packs(self) -> list[StagedPack]:
        """Every staged pack."""
        rows = self._tables.scan("packs")
        return [StagedPack(PackName(key.hex()), *_PACK.unpack(value)) for key, value in rows]

    def load_table(self, pack: PackName) -> tuple[PackKind, PackTable]:
        """Kind and table of a staged pack, from its own end. Raises StoreError."""
        return load_pack_table(self.path_of(pack))

    @contextmanager
    def new_pack(self, kind: PackKind) -> Iterator[StagedPackWriter]:
        """A pack to write; nothing of it remains unless it is finished."""
        writer = StagedPackWriter(self._folder, kind, self.take_in)
        try:
            yield writer
        finally:
            writer.discard()

    def take_in(self, name: PackName, table: PackTable, size: int) -> None:
        """Name a pack that stands in the folder in the tables."""
        # A place is the pack's name and what the table says of the chunk, as it says it.
        raw_name = bytes.fromhex(name)
        rows = sorted((chunk, raw_name + place) for chunk, place in table.rows())
        self._tables.put_many("chunks", rows)
        self._tables.put_many("packs", [(bytes.fromhex(name), _PACK.pack(size))])

    def remove(self, pack: PackName, table: PackTable | None = None) -> None:
        """Forget a pack that a remote now has. Its file may have been moved away already; with its
        table at hand only the rows of its chunks are looked at, not all."""
        raw_name = bytes.fromhex(pack)
        self._tables.delete_many("packs", [raw_name])
        if table is None:
            rows = self._tables.scan("chunks")
        else:
            chunks = [entry.chunk for entry in table]
            places = self._tables.get_many("chunks", list(chunks))
            rows = [(key, value or b"") for key, value in zip(chunks, places, strict=True)]
        # Another pack may hold the same chunk and have the row: only our own rows go.
        self._tables.delete_many("chunks", [key for key, row in rows if row.startswith(raw_name)])
        self.path_of(pack).unlink(missing_ok=True)

    def name_anew(self) -> None:
        """Bring the rows of every staged pack back from its own table, once in a while: some may
        have been lost, or say what is not so."""
        if time.monotonic() < self._name_anew_at:
            return
        self._name_anew_at = time.monotonic() + _NAME_ANEW_SECONDS
        for path in sorted(self._folder.iterdir()):
            if is_pack_name(path.name):
                self._name(path)

    def forget_damaged_chunks(self, pack: PackName) -> None:
        """Drop the rows of those chunks of a pack whose bytes are not what they should be, so that
        `add` stages them anew; the sound ones stay, for they may be the only copy."""
        raw_name = bytes.fromhex(pack)
        rows = [row for row in self._tables.scan("chunks") if row[1].startswith(raw_name)]
        # Of a pack that is gone the rows go when the tables are next opened.
        with suppress(FileNotFoundError), self.path_of(pack).open("rb") as file:
            damaged = [key for key, row in rows if not _is_sound(file, ChunkId(key), row)]
            self._tables.delete_many("chunks", damaged)

    def forget_file_stats(self) -> None:
        """Have the next `add` read every file again, whatever its stat says."""
        self._tables.delete_many("files", self._tables.scan_keys("files"))

    def _reconcile(self) -> None:
        # The rows first: a pack is named in them after it stands in the folder, so one that another
        # process finishes meanwhile never looks like one that is gone.
        known = {staged.name for staged in self.packs()}
        present = {path.name for path in self._folder.iterdir() if is_pack_name(path.name)}
        for name in sorted(present - known):
            self._name(self._folder / name)
        for name in sorted(known - present):
            self.remove(PackName(name))

    def _name(self, path: Path) -> None:
        # Another process may have pushed it meanwhile.
        with suppress(FileNotFoundError):
            try:
                _, table = load_pack_table(path)
                self.take_in(PackName(path.name), table, path.stat().st_size)
            except MalformedObject as error:
                log.warning("a staged pack is damaged and not used: %s", error)


def _make_lasting(state_dir: Path) -> Path:
    """The folder of staged packs. Made just now, its own name has to last, and that of the folder
    above: what is synced into it would be gone with it."""
    folder = state_dir / "staged"
    is_new = not folder.exists()
    make_private_folder(folder)
    if is_new:
        with disk_errors(folder):
            sync_folder(state_dir)
            sync_folder(state_dir.parent)
    return folder


def _is_sound(file: BinaryIO, chunk: ChunkId, row: bytes) -> bool:
    place = parse_place(chunk, row)
    if place is None:
        return False
    file.seek(place.entry.offset)
    try:
        unpack_chunk(place.entry, file.read(place.entry.stored_length))
    except IntegrityError:
        return False
    return True
