"""Tables: the one door to LMDB, opened and used by the rules that keep it whole.

An environment belongs to one process and is opened after any fork. Reads and writes are plain
functions: a transaction never outlives the call, bytes are copied out, nothing waits inside one,
and long writes are split so that no other process waits for a lock longer than a blink.

Every row is a hint that can be had again. So tables that are damaged, or gone, are made anew by
whoever finds that out, also in the middle of work; others that have the old ones open see it within
a second and follow (`store.tables_folder`).
"""

import errno
import logging
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import lmdb

from store.crash_marks import crashed_in_index, watch_for_crashes
from store.errors import CacheUnusable, LocalDiskFull, StoreError
from store.local_folders import make_private_folder
from store.row_batches import Row, batches, row_batches
from store.tables_folder import FileIdentity, holding, load_identity, reserve_locks, set_aside

log = logging.getLogger(__name__)

# Address space, not disk: one constant for ever, since growing at run time is where LMDB is weak.
_MAP_BYTES = 64 << 30
_MAX_READERS = 1024
_READER_CHECK_SECONDS = 300.0

# How often it is looked whether somebody has made the tables anew.
_LOOK_SECONDS = 1.0

# What LMDB says of files that no LMDB has written so.
_DAMAGES = (
    lmdb.BadDbiError,
    lmdb.BadTxnError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageFullError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)

T = TypeVar("T")
_Action = Callable[[lmdb.Transaction, lmdb._Database], T]


class _Opened(NamedTuple):
    """An environment with its tables, and which file on the disk it is."""

    environment: lmdb.Environment
    handles: Mapping[str, lmdb._Database]
    identity: FileIdentity | None


class Tables:
    """Named tables of byte keys (1 to 511 bytes) and byte values in one LMDB environment.

    A process may hold a folder open only once, and never across a fork.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        watched: bool = False,
        doubtful: str = "",
        most_bytes: int | None = None,
    ) -> None:
        """Open or create; damaged tables are made anew, and so are `doubtful` ones (what of). A
        process that `watched` ones take down leaves a mark there. Raises CacheUnusable, and
        LocalDiskFull where there is no room to make them."""
        self._folder = folder
        self._map_bytes = most_bytes or _MAP_BYTES
        self._names = names
        self._watched = watched
        # Counts how often the tables were replaced since, so that others learn anew what was lost.
        self.generation = 0
        self._renewed: Callable[[], None] | None = None
        self._lock = threading.RLock()
        self._opened = self._open(doubtful)
        self._look_at = time.monotonic() + _LOOK_SECONDS

    def when_renewed(self, call: Callable[[], None]) -> None:
        """Have `call` called, in the thread that finds out, whenever the tables were lost and
        replaced by others, in which there may be nothing yet."""
        self._renewed = call

    def close(self) -> None:
        """Let go of the environment; no call may follow."""
        self._opened.environment.close()

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of one key, or None."""
        opened = self._current()
        try:
            # Asked for every chunk that is read: without the calls that the general way makes.
            with opened.environment.begin() as txn:
                return _copied(txn.get(key, db=opened.handles[table]))
        except lmdb.Error:
            return self._read(table, lambda txn, handle: _copied(txn.get(key, db=handle)))

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys, in one transaction and in the order of the keys."""
        return self._read(
            table, lambda txn, handle: [_copied(txn.get(key, db=handle)) for key in keys]
        )

    def scan(self, table: str, prefix: bytes = b"") -> list[Row]:
        """All rows whose key begins with `prefix`, in order of key."""
        return self._read(table, lambda txn, handle: list(_rows_from(txn, handle, prefix)))

    def scan_keys(self, table: str, prefix: bytes = b"") -> list[bytes]:
        """The keys that begin with `prefix`, in order."""

        def keys(txn: lmdb.Transaction, handle: lmdb._Database) -> list[bytes]:
            cursor = txn.cursor(db=handle)
            if not cursor.set_range(prefix):
                return []
            found = []
            for raw in cursor.iternext(keys=True, values=False):
                key = bytes(raw)
                if not key.startswith(prefix):
                    break
                found.append(key)
            return found

        return self._read(table, keys)

    def scan_many(self, table: str, prefixes: Sequence[bytes]) -> list[list[Row]]:
        """As `scan`, for many prefixes in one transaction, in their order."""

        def rows(txn: lmdb.Transaction, handle: lmdb._Database) -> list[list[Row]]:
            cursor = txn.cursor(db=handle)
            return [list(_rows_at(cursor, prefix)) for prefix in prefixes]

        return self._read(table, rows)

    def put_many(self, table: str, rows: Iterable[Row]) -> None:
        """Write rows, in as many transactions as keep each short; sorted keys are the fastest.

        Raises LocalDiskFull; rows of earlier transactions then stay."""
        for batch in row_batches(rows):
            self._write(table, partial(_put_batch, batch))

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """Remove rows; keys that are not there are no error."""
        for batch in batches(keys):
            self._write(table, partial(_delete_batch, batch))

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

        def apply(txn: lmdb.Transaction, handle: lmdb._Database) -> None:
            for key, change in changes.items():
                value = change(_copied(txn.get(key, db=handle)))
                if value is None:
                    txn.delete(key, db=handle)
                else:
                    txn.put(key, value, db=handle)

        self._write(table, apply)

    def _read(self, table: str, action: _Action[T]) -> T:
        return self._attempt(lambda opened: _run(opened, table, action, write=False))

    def _write(self, table: str, action: _Action[object]) -> None:
        if time.monotonic() - self._reader_checked > _READER_CHECK_SECONDS:
            self._free_dead_readers(self._opened)
        self._attempt(lambda opened: _run(opened, table, action, write=True))

    def _attempt(self, call: Callable[[_Opened], T]) -> T:
        opened = self._current()
        try:
            try:
                return call(opened)
            except lmdb.MapResizedError:
                opened.environment.set_mapsize(0)
                return call(opened)
            except lmdb.ReadersFullError:
                self._free_dead_readers(opened)
                return call(opened)
            except _DAMAGES as error:
                return call(self._replace(opened, str(error)))
        except lmdb.Error as error:
            raise _translate(error, self._folder) from error

    def _free_dead_readers(self, opened: _Opened) -> None:
        # A killed reader keeps its slot, and while it does no page it saw is used again.
        opened.environment.reader_check()
        self._reader_checked = time.monotonic()

    def _open(self, doubtful: str) -> _Opened:
        with holding(self._folder, alone=False):
            found = load_identity(self._folder)
            damage = doubtful or self._find_crash()
            if not damage:
                try:
                    return self._open_environment()
                except _Damaged as error:
                    damage = str(error)
        self._set_aside(found, damage)
        with holding(self._folder, alone=False):
            try:
                return self._open_environment()
            except _Damaged as error:
                raise CacheUnusable(
                    f"the tables in {self._folder} cannot be used ({error}), not even new ones"
                ) from error

    def _find_crash(self) -> str:
        crashed = self._watched and crashed_in_index(self._folder)
        return "a process crashed while it read them" if crashed else ""

    def _open_environment(self) -> _Opened:
        environment = None
        try:
            environment = _open_lmdb(self._folder, len(self._names), self._map_bytes)
            _require_whole(environment, self._folder)
            handles = {name: environment.open_db(name.encode()) for name in self._names}
            opened = _Opened(environment, handles, load_identity(self._folder))
            self._free_dead_readers(opened)
        except OSError as error:
            raise translate_os_error(error, self._folder) from error
        except lmdb.Error as error:
            if environment is not None:
                environment.close()
            if isinstance(error, _DAMAGES) or _is_damage_of_map(error):
                raise _Damaged(str(error).removeprefix(f"{self._folder}: ")) from error
            raise _translate(error, self._folder) from error
        if self._watched:
            watch_for_crashes(self._folder)
        return opened

    def _set_aside(self, identity: FileIdentity | None, damage: str) -> None:
        if set_aside(self._folder, identity):
            log.warning("the damaged tables in %s are made anew (%s)", self._folder, damage)

    def _current(self) -> _Opened:
        """What is open; now and then, whether that is still what stands in the folder."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            opened = self._opened
            if load_identity(self._folder) != opened.identity:
                try:
                    self._follow(opened)
                except (StoreError, OSError) as error:
                    log.debug("the tables in %s cannot be opened anew: %s", self._folder, error)
        return self._opened

    def _replace(self, opened: _Opened, damage: str) -> _Opened:
        """Other tables for those that turned out to be damaged, made by us or by another."""
        with self._lock:
            if self._opened is opened:
                self._set_aside(opened.identity, damage)
        return self._follow(opened)

    def _follow(self, opened: _Opened) -> _Opened:
        """Open what stands in the folder in place of what was open."""
        with self._lock:
            if self._opened is not opened:
                return self._opened
            make_private_folder(self._folder.parent)
            make_private_folder(self._folder)
            # The old ones are closed with the last transaction that somebody has open.
            self._opened = self._open("")
            self.generation += 1
        if self._renewed is not None:
            self._renewed()
        return self._opened


class _Damaged(Exception):
    """These tables cannot be what was written here."""


def _run(opened: _Opened, table: str, action: _Action[T], *, write: bool) -> T:
    with opened.environment.begin(write=write) as txn:
        return action(txn, opened.handles[table])


def _open_lmdb(folder: Path, table_count: int, map_bytes: int) -> lmdb.Environment:
    reserve_locks(folder)
    return lmdb.open(
        str(folder),
        lib_version=0,
        map_size=map_bytes,
        max_readers=_MAX_READERS,
        max_dbs=table_count,
        mode=0o600,
        writemap=False,
        metasync=False,
    )


def _is_damage_of_map(error: lmdb.Error) -> bool:
    """Whether the map that a damaged file asks for is what there is no room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return isinstance(error, lmdb.MemoryError) and limit == resource.RLIM_INFINITY


def _require_whole(environment: lmdb.Environment, folder: Path) -> None:
    """Raise _Damaged for a file that is shorter than its pages in use. They are read through a
    memory map, where a page beyond the end kills the process."""
    # Under the writers' lock, so that the file and what is said of it belong together.
    length = 0
    with environment.begin(write=True), suppress(FileNotFoundError):
        used_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        length = (folder / "data.mdb").stat().st_size
    if length < used_bytes:
        environment.close()
        raise _Damaged(f"{length} of {used_bytes} bytes are left")


def _put_batch(batch: list[Row], txn: lmdb.Transaction, handle: lmdb._Database) -> None:
    txn.cursor(db=handle).putmulti(batch)


def _delete_batch(batch: list[bytes], txn: lmdb.Transaction, handle: lmdb._Database) -> None:
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
    return CacheUnusable(f"the tables in {folder} cannot be used ({text})")


def translate_os_error(error: OSError, folder: Path) -> StoreError:
    """What it means that the system refuses something in a folder of tables."""
    if is_no_space(error):
        return LocalDiskFull(f"no room to write in {folder} ({error.strerror})")
    return CacheUnusable(f"the tables in {folder} cannot be used ({error.strerror})")


def is_no_space(error: OSError) -> bool:
    """Whether a failed write means that the disk or the quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
