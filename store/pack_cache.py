"""PackCache: ranges of remote packs as sparse files on the local disk, under a budget.

A pack's file has the remote's own layout. Bytes go to the file first, what the tables say of them
follows later; a lost row costs a fetch, and a row without its bytes is found out by their hash.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from store import byte_ranges
from store.cache_index import CacheIndex, PackUse
from store.errors import LocalDiskFull
from store.ids import PackName
from store.local_folders import make_private_folder

log = logging.getLogger(__name__)

# What stays free on the disk where no budget is given.
_FREE_SHARE = 0.10
# Evict to a little under the budget, so that not every pack that follows evicts again.
_SLACK_SHARE = 0.02
_BYTES_BETWEEN_CHECKS = 64 << 20


@dataclass(frozen=True, slots=True)
class DiskState:
    """What eviction has to know of a disk: bytes in all, and bytes free for us."""

    total_bytes: int
    free_bytes: int


def plan_eviction(
    uses: Sequence[PackUse], budget_bytes: int | None, disk: DiskState
) -> list[PackUse]:
    """The packs to drop, least recently used first, until the cache fits. Pure.

    With a budget the cache fits when its bytes are within it; without, when a tenth of the disk is
    free. Nothing is dropped when it fits already.
    """
    cached = sum(use.cached_bytes for use in uses)
    if budget_bytes is None:
        wanted_free = int(disk.total_bytes * _FREE_SHARE)
        excess, slack = wanted_free - disk.free_bytes, int(disk.total_bytes * _SLACK_SHARE)
    else:
        excess, slack = cached - budget_bytes, int(budget_bytes * _SLACK_SHARE)
    if excess <= 0:
        return []
    dropped: list[PackUse] = []
    for use in sorted(uses, key=lambda use: (use.last_use_seconds, use.pack)):
        if excess + slack <= sum(done.cached_bytes for done in dropped):
            break
        dropped.append(use)
    return dropped


class PackCache:
    """The pack files of one cache folder. Safe from any thread; shared with other processes."""

    def __init__(self, folder: Path, index: CacheIndex, budget_bytes: int | None) -> None:
        self._folder = make_private_folder(folder)
        self._index = index
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        # Ranges that are in files but not yet in the tables, packed; under the lock.
        self._unrecorded: dict[PackName, bytes] = {}
        # Packs that were used since the last flush.
        self._used: set[PackName] = set()
        self._bytes_until_check = 0
        self.kept_bytes = 0
        self._full_warned = False

    def path_of(self, pack: PackName) -> Path:
        """Where a pack's ranges lie."""
        return self._folder / pack[:2] / pack

    def covers(self, pack: PackName, start: int, end: int) -> bool:
        """Whether the cache says that it has these bytes; asking counts as using the pack."""
        self._used.add(pack)
        unrecorded = self._unrecorded.get(pack)
        if unrecorded is not None and byte_ranges.covers(unrecorded, start, end):
            return True
        row = self._index.load_ranges(pack)
        if unrecorded is not None:
            row = byte_ranges.union(row, unrecorded)
        return byte_ranges.covers(row, start, end)

    def keep(self, pack: PackName, start: int, content: bytes | memoryview) -> bool:
        """Write verified bytes. False where there is no room: they are then served uncached."""
        path = self.path_of(pack)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                _write_all(descriptor, start, content)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._say_full(error.strerror or str(error))
            return False
        with self._lock:
            row = self._unrecorded.get(pack, byte_ranges.EMPTY)
            self._unrecorded[pack] = byte_ranges.add(row, start, start + len(content))
            self.kept_bytes += len(content)
            self._bytes_until_check -= len(content)
        return True

    def adopt(self, pack: PackName, source: Path) -> None:
        """Make a whole pack, which a remote now has, part of the cache: renamed where it can be,
        else left alone (it can be fetched)."""
        size = source.stat().st_size
        target = self.path_of(pack)
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            source.rename(target)
        except OSError as error:
            log.debug("pack %s is not taken into the cache: %s", pack, error)
            return
        with self._lock:
            self._unrecorded[pack] = byte_ranges.add(byte_ranges.EMPTY, 0, size)
            self._bytes_until_check -= size

    def drop(self, pack: PackName, start: int, length: int) -> None:
        """Forget bytes that turned out not to be what their hash says."""
        with self._lock:
            if pack in self._unrecorded:
                rest = byte_ranges.remove(self._unrecorded[pack], start, start + length)
                self._unrecorded[pack] = rest
        try:
            self._index.drop_range(pack, start, start + length)
        except LocalDiskFull as error:
            self._say_full(str(error))

    def flush(self) -> None:
        """Bring the tables up to date with the files, and evict if the budget is used up."""
        with self._lock:
            added, self._unrecorded = self._unrecorded, {}
            used, self._used = self._used - added.keys(), set()
            check = self._bytes_until_check <= 0
            if check:
                self._bytes_until_check = _BYTES_BETWEEN_CHECKS
        now = int(time.time())
        try:
            if added:
                self._index.keep_ranges(added, now)
            if used:
                self._index.keep_uses(used, now)
        except LocalDiskFull as error:
            # The ranges are lost to the tables, not to anybody's eyes: they are fetched again.
            self._say_full(str(error))
        if check:
            self.evict()

    def evict(self) -> list[PackUse]:
        """Drop the least recently used packs until the cache fits; what was dropped."""
        with (self._folder / ".evicting").open("w") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                return []
            plan = plan_eviction(self._index.load_uses(), self._budget_bytes, self._disk())
            self._remove(use.pack for use in plan)
        return plan

    def _remove(self, packs: Iterable[PackName]) -> None:
        gone = []
        for pack in packs:
            self.path_of(pack).unlink(missing_ok=True)
            gone.append(pack)
        self._index.forget_cached(gone)

    def _disk(self) -> DiskState:
        status = os.statvfs(self._folder)
        block = status.f_frsize
        return DiskState(status.f_blocks * block, status.f_bavail * block)

    def _say_full(self, cause: str) -> None:
        if not self._full_warned:
            self._full_warned = True
            log.warning("the cache cannot be written (%s); reads go on from the remote", cause)
        # The next flush looks whether something can be evicted.
        self._bytes_until_check = 0


def _write_all(descriptor: int, start: int, content: bytes | memoryview) -> None:
    view = memoryview(content)
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], start + written)
