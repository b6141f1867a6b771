"""Tables: the one door to LMDB, opened and used by the rules that keep it whole.

An environment belongs to one process and is opened after any fork. Reads and writes are plain
functions: a transaction never outlives the call, bytes are copied out, nothing waits inside one,
and long writes are split so that no other process waits for a lock longer than a blink.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import lmdb

from store.errors import CacheUnusable, LocalDiskFull, StoreError

log = logging.getLogger(__name__)

# Address space, not disk: one constant for ever, since growing at run time is where LMDB is weak.
_MAP_BYTES = 64 << 30
_MAX_READERS = 1024
_READER_CHECK_SECONDS = 300.0
# About 20 ms of puts: the most that another writer may have to wait for one batch.
_ROWS_PER_TRANSACTION = 8192
_BYTES_PER_TRANSACTION = 4 << 20

_DAMAGES = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)

Row = tuple[bytes, bytes]
T = TypeVar("T")


class Tables:
    """Named tables of byte keys (1 to 511 bytes) and byte values in one LMDB environment.

    A process may hold a folder open only once, and never across a fork.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Open or create. Raises CacheUnusable where LMDB finds files that are not its own."""
        self._folder = folder
        try:
            self._environment = lmdb.open(
                str(folder),
                lib_version=0,
                map_size=_MAP_BYTES,
                max_readers=_MAX_READERS,
                max_dbs=len(names),
                mode=0o600,
                writemap=False,
                metasync=False,
            )
        except lmdb.Error as error:
            raise _translate(error, folder) from error
        try:
            _fill_up(self._environment, folder)
            self._tables = {name: self._environment.open_db(name.encode()) for name in names}
            self._free_dead_readers()
        except lmdb.Error as error:
            self._environment.close()
            raise _translate(error, folder) from error

    def close(self) -> None:
        """Let go of the environment; no call may follow."""
        self._environment.close()

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of one key, or None."""
        handle = self._tables[table]
        try:
            # Asked for every chunk that is read: without the calls that the general way makes.
            with self._environment.begin() as txn:
                return _copied(txn.get(key, db=handle))
        except lmdb.Error:
            return self._read(lambda txn: _copied(txn.get(key, db=handle)))

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys, in one transaction and in the order of the keys."""
        handle = self._tables[table]
        return self._read(lambda txn: [_copied(txn.get(key, db=handle)) for key in keys])

    def scan(self, table: str, prefix: bytes = b"") -> list[Row]:
        """All rows whose key begins with `prefix`, in order of key."""
        return self._read(lambda txn: list(_rows_from(txn, self._tables[table], prefix)))

    def scan_keys(self, table: str, prefix: bytes = b"") -> list[bytes]:
        """The keys that begin with `prefix`, in order."""

        def keys(txn: lmdb.Transaction) -> list[bytes]:
            cursor = txn.cursor(db=self._tables[table])
            if not cursor.set_range(prefix):
                return []
            found = []
            for raw in cursor.iternext(keys=True, values=False):
                key = bytes(raw)
                if not key.startswith(prefix):
                    break
                found.append(key)
            return found

        return self._read(keys)

    def scan_many(self, table: str, prefixes: Sequence[bytes]) -> list[list[Row]]:
        """As `scan`, for many prefixes in one transaction, in their order."""

        def rows(txn: lmdb.Transaction) -> list[list[Row]]:
            cursor = txn.cursor(db=self._tables[table])
            return [list(_rows_at(cursor, prefix)) for prefix in prefixes]

        return self._read(rows)

    def put_many(self, table: str, rows: Iterable[Row]) -> None:
        """Write rows, in as many transactions as keep each short; sorted keys are the fastest.

        Raises LocalDiskFull; rows of earlier transactions then stay."""
        handle = self._tables[table]
        for batch in _row_batches(rows):
            self._write(partial(_put_batch, handle, batch))

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """Remove rows; keys that are not there are no error."""
        handle = self._tables[table]
        for batch in _batches(keys):
            self._write(partial(_delete_batch, handle, batch))

    def update(
        self, table: str, change: Callable[[bytes | None], bytes | None], key: bytes
    ) -> None:
        """Replace the value of one key by `change(value)`; None stands for no row. One step for
        everybody: nobody can write in between."""
        self.update_many(table, {key: change})

    def update_many(
        self, table: str, changes: dict[bytes, Callable[[bytes | None], bytes | None]]
    ) -> None:
        """As `update`, for a few keys in one transaction."""
        handle = self._tables[table]

        def apply(txn: lmdb.Transaction) -> None:
            for key, change in changes.items():
                value = change(_copied(txn.get(key, db=handle)))
                if value is None:
                    txn.delete(key, db=handle)
                else:
                    txn.put(key, value, db=handle)

        self._write(apply)

    def _read(self, action: Callable[[lmdb.Transaction], T]) -> T:
        return self._attempt(lambda: self._run(action, write=False))

    def _write(self, action: Callable[[lmdb.Transaction], object]) -> None:
        if time.monotonic() - self._reader_checked > _READER_CHECK_SECONDS:
            self._free_dead_readers()
        self._attempt(lambda: self._run(action, write=True))

    def _run(self, action: Callable[[lmdb.Transaction], T], *, write: bool) -> T:
        with self._environment.begin(write=write) as txn:
            return action(txn)

    def _attempt(self, call: Callable[[], T]) -> T:
        try:
            try:
                return call()
            except lmdb.MapResizedError:
                self._environment.set_mapsize(0)
                return call()
            except lmdb.ReadersFullError:
                self._free_dead_readers()
                return call()
        except lmdb.Error as error:
            raise _translate(error, self._folder) from error

    def _free_dead_readers(self) -> None:
        # A killed reader keeps its slot, and while it does no page it saw is used again.
        self._environment.reader_check()
        self._reader_checked = time.monotonic()


def _fill_up(environment: lmdb.Environment, folder: Path) -> None:
    """Make a file that was cut short as long as its pages in use. They are read through a memory
    map, where a page of zeros is an error and a page beyond the end kills the process."""
    path = folder / "data.mdb"
    # Under the writers' lock, so that the file and what is said of it belong together.
    with environment.begin(write=True):
        used_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if path.stat().st_size < used_bytes:
            # By its name: to open and close it here would drop the locks of this process.
            os.truncate(path, used_bytes)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _ROWS_PER_TRANSACTION)):
        yield batch


def _row_batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    batch_bytes = 0
    for row in rows:
        batch.append(row)
        batch_bytes += len(row[1])
        if len(batch) >= _ROWS_PER_TRANSACTION or batch_bytes >= _BYTES_PER_TRANSACTION:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


def _put_batch(handle: lmdb._Database, batch: list[Row], txn: lmdb.Transaction) -> None:
    txn.cursor(db=handle).putmulti(batch)


def _delete_batch(handle: lmdb._Database, batch: list[bytes], txn: lmdb.Transaction) -> None:
    for key in batch:
        txn.delete(key, db=handle)


def _copied(value: bytes | memoryview | None) -> bytes | None:
    # Already a copy, since transactions here hand out bytes; for the type checker's sake.
    assert not isinstance(value, memoryview)
    return value


def _rows_from(txn: lmdb.Transaction, handle: lmdb._Database, prefix: bytes) -> Iterator[Row]:
    yield from _rows_at(txn.cursor(db=handle), prefix)


def _rows_at(cursor: lmdb.Cursor, prefix: bytes) -> Iterator[Row]:
    if not cursor.set_range(prefix):
        return
    for raw_key, value in cursor.iternext(keys=True, values=True):
        key = bytes(raw_key)
        if not key.startswith(prefix):
            return
        yield key, bytes(value)


def _translate(error: lmdb.Error, folder: Path) -> StoreError:
    text = str(error)
    # LMDB reports a full disk at commit as EIO, and hands over the system's text for the rest.
    full = ("Input/output error", "No space left", "Disk quota", "No such device")
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError) or any(word in text for word in full):
        return LocalDiskFull(f"no room to write in {folder} ({text})")
    advice = "; remove that folder, it is made anew" if isinstance(error, _DAMAGES) else ""
    return CacheUnusable(f"the tables in {folder} cannot be used ({text}){advice}")


def is_no_space(error: OSError) -> bool:
    """Whether a failed write means that the disk or the quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
