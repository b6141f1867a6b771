"""PlaceBook: every place of every chunk that a remote has, sound or not, while `verify` runs.

Other than the cache index it holds all the places of a chunk, and nothing but what this run has
seen in the remote. It lies in a folder of its own, since a large remote does not fit into memory.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from store.cache_rows import PackPlace, pack_place, parse_place
from store.ids import CHUNK_ID_BYTES, ChunkId, PackName
from store.local_folders import make_private_folder, try_lock
from store.packs import PackEntry, PackTable
from store.row_batches import Row
from store.tables import Tables

_PREFIX = "verify-"
_SOUND = b"+"
_DAMAGED = b"-"
# Sorted in memory and written together, so that neighbours share the pages of the tables.
_ROWS_AT_ONCE = 200_000


class Places(NamedTuple):
    """Where a chunk lies: where its bytes are what they should be (as far as was looked), and where
    they are not, or no reader would find them."""

    sound: Sequence[PackPlace]
    damaged: Sequence[PackPlace]


class PlaceBook:
    """The tables of packs and the places of chunks of one remote."""

    def __init__(self, folder: Path) -> None:
        self._tables = Tables(folder, ("tables", "places"))
        self._rows: list[Row] = []

    def close(self) -> None:
        """Let go of the tables."""
        self._tables.close()

    def keep_tables(self, tables: Iterable[tuple[PackName, PackTable]]) -> None:
        """Remember tables of packs."""
        rows = sorted((bytes.fromhex(name), table.raw) for name, table in tables)
        self._tables.put_many("tables", rows)

    def load_table(self, pack: PackName) -> PackTable | None:
        """The table of a pack, if it was seen."""
        raw = self._tables.get("tables", bytes.fromhex(pack))
        return None if raw is None else PackTable.trusted(raw)

    def add(self, pack: PackName, entries: Iterable[tuple[PackEntry, bool]]) -> None:
        """Take in the entries of a pack, and of each whether its bytes are sound. `finish` has to
        follow the last pack."""
        raw_name = bytes.fromhex(pack)
        self._rows += [
            (entry.chunk + raw_name, (_SOUND if sound else _DAMAGED) + pack_place(pack, entry))
            for entry, sound in entries
        ]
        if len(self._rows) >= _ROWS_AT_ONCE:
            self.finish()

    def finish(self) -> None:
        """Write what was added."""
        rows, self._rows = sorted(self._rows), []
        self._tables.put_many("places", rows)

    def load(self, chunks: Sequence[ChunkId]) -> list[Places]:
        """The places of each chunk, in the order asked."""
        return [_places(rows) for rows in self._tables.scan_many("places", list(chunks))]


def _places(rows: Sequence[Row]) -> Places:
    sound: list[PackPlace] = []
    damaged: list[PackPlace] = []
    for key, value in rows:
        place = parse_place(ChunkId(key[:CHUNK_ID_BYTES]), value[1:])
        if place is not None:
            (sound if value[:1] == _SOUND else damaged).append(place)
    return Places(sound, damaged)


@contextmanager
def open_place_book(cache_directory: Path) -> Iterator[PlaceBook]:
    """An empty book in a folder of its own, which goes with it; those that killed runs have left
    behind go too."""
    _sweep(cache_directory)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=cache_directory))
    try:
        with (folder / "lock").open("w") as lock:
            try_lock(lock)
            book = PlaceBook(make_private_folder(folder / "tables"))
            try:
                yield book
            finally:
                book.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(cache_directory: Path) -> None:
    for left in cache_directory.glob(f"{_PREFIX}*"):
        # One without a lock file is being made just now, or is nearly nothing.
        with suppress(OSError), (left / "lock").open() as lock:
            if try_lock(lock):
                shutil.rmtree(left, ignore_errors=True)
