"""SparedTables: tables on a disk, and others in memory for what the disk has no room for.

Without what it learns of a remote a mount can fetch nothing. So where the disk of the cache is
full, rows of such tables go to tables of the same form in /dev/shm, which all processes that use
that cache share; until there is room again, and at the longest until the machine is started anew.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from store.errors import LocalDiskFull, StoreError
from store.ids import hash_bytes
from store.local_folders import make_private_folder
from store.row_batches import Row
from store.tables import Tables

log = logging.getLogger(__name__)

_MEMORY = Path("/dev/shm")
_MOST_BYTES = 256 << 20
_ROWS_AT_ONCE = 8192
_PROBE = b"is there room?"


class SparedTables:
    """As Tables. `spared` are those that memory takes; a row of another that has no room raises
    LocalDiskFull."""

    def __init__(self, folder: Path, names: Sequence[str], spared: Sequence[str]) -> None:
        self._main = Tables(folder, names, watched=True)
        self._spared = spared
        self._folder = folder
        self._place = spare_place(folder)
        self._spare: Tables | None = None
        self._lock = threading.Lock()
        if self._place.exists() and self._has_room():
            shutil.rmtree(self._place, ignore_errors=True)
        self._find_spare()

    def close(self) -> None:
        """Let go of both; no call may follow."""
        self._main.close()
        if self._spare is not None:
            self._spare.close()

    @property
    def generation(self) -> int:
        """See Tables."""
        return self._main.generation

    def get(self, table: str, key: bytes) -> bytes | None:
        """See Tables."""
        if self._spare is not None and table in self._spared:
            newer = self._spare.get(table, key)
            return self._main.get(table, key) if newer is None else newer
        found = self._main.get(table, key)
        if found is None and table in self._spared and (spare := self._find_spare()) is not None:
            return spare.get(table, key)
        return found

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See Tables."""
        found = self._main.get_many(table, keys)
        if table in self._spared and (spare := self._find_spare()) is not None:
            newer = spare.get_many(table, keys)
            return [old if new is None else new for old, new in zip(found, newer, strict=True)]
        return found

    def scan(self, table: str, prefix: bytes = b"") -> list[Row]:
        """See Tables."""
        rows = self._main.scan(table, prefix)
        if table in self._spared and (spare := self._find_spare()) is not None:
            return sorted((dict(rows) | dict(spare.scan(table, prefix))).items())
        return rows

    def scan_keys(self, table: str, prefix: bytes = b"") -> list[bytes]:
        """See Tables."""
        keys = self._main.scan_keys(table, prefix)
        if table in self._spared and (spare := self._find_spare()) is not None:
            return sorted({*keys, *spare.scan_keys(table, prefix)})
        return keys

    def put_many(self, table: str, rows: Iterable[Row]) -> None:
        """See Tables. Once memory is in use it takes all that it may, so that no row on the disk
        says of others that they are here when they are in memory, and gone with it."""
        if table not in self._spared:
            return self._main.put_many(table, rows)
        remaining = iter(rows)
        while batch := list(islice(remaining, _ROWS_AT_ONCE)):
            spare = self._find_spare()
            try:
                (spare or self._main).put_many(table, batch)
            except LocalDiskFull as error:
                if spare is not None:
                    raise
                self._make_spare(error).put_many(table, batch)
        return None

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """See Tables."""
        keys = list(keys)
        if table in self._spared and (spare := self._find_spare()) is not None:
            spare.delete_many(table, keys)
        self._main.delete_many(table, keys)

    def update(
        self, table: str, change: Callable[[bytes | None], bytes | None], key: bytes
    ) -> None:
        """See Tables; for those that are not spared."""
        self._main.update(table, change, key)

    def update_many(
        self, table: str, changes: dict[bytes, Callable[[bytes | None], bytes | None]]
    ) -> None:
        """See Tables; for those that are not spared."""
        self._main.update_many(table, changes)

    def _find_spare(self) -> Tables | None:
        """The tables in memory, where there are any."""
        if self._spare is None and self._place.exists():
            with suppress(StoreError, OSError):
                self._open_spare()
        return self._spare

    def _make_spare(self, cause: LocalDiskFull) -> Tables:
        try:
            make_private_folder(self._place)
            spare = self._open_spare()
        except (StoreError, OSError) as error:
            log.debug("memory cannot be used in place of the disk: %s", error)
            raise cause from error
        log.warning("%s; what is learnt of a remote is kept in memory", cause)
        return spare

    def _open_spare(self) -> Tables:
        with self._lock:
            if self._spare is None:
                folder = make_private_folder(make_private_folder(self._place) / "index")
                self._spare = Tables(folder, self._spared, most_bytes=_MOST_BYTES)
            return self._spare

    def _has_room(self) -> bool:
        try:
            self._main.put_many(self._spared[0], [(_PROBE, b"")])
            self._main.delete_many(self._spared[0], [_PROBE])
        except StoreError:
            return False
        return True


def spare_place(folder: Path) -> Path:
    """The folder in memory that stands in for the tables in `folder`."""
    name = hash_bytes(os.fsencode(os.path.realpath(folder))).hex()[:32]
    return _MEMORY / f"revfs-{os.geteuid()}-{name}"
