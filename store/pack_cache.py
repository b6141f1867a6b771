"""PackCache: ranges of remote packs as sparse files on the local disk, under a budget.

A pack's file has the remote's own layout. Bytes go to the file first, what the tables say of them
follows later; a lost row costs a fetch, and a row without its bytes is found out by their hash.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from store import byte_ranges
from store.cache_index import CacheIndex
from store.cache_rows import PackUse
from store.errors import LocalDiskFull, StoreError
from store.ids import PackName, is_pack_name
from store.local_folders import make_private_folder, try_lock

log = logging.getLogger(__name__)

# What stays free on the disk where no budget is given.
_FREE_SHARE = 0.10
# Evict to a little under the budget, so that not every pack that follows evicts again.
_SLACK_SHARE = 0.02
_BYTES_BETWEEN_CHECKS = 64 << 20
# How long a failed write makes the next one unlikely.
_FULL_SECONDS = 10.0
# The unit of st_blocks, whatever the file system's own (stat(2)).
_STAT_BLOCK_BYTES = 512
# What is forgotten of these costs a question.
_MOST_NOTED = 4096
# A file in more parts than this is not looked through.
_MOST_FOUND = 64


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
    freed = 0
    for use in sorted(uses, key=lambda use: (use.last_use_seconds, use.pack)):
        if freed >= excess + slack:
            break
        dropped.append(use)
        freed += use.cached_bytes
    return dropped


class PackCache:
    """The pack files of one cache folder. Safe from any thread; shared with other processes."""

    def __init__(self, folder: Path, index: CacheIndex, budget_bytes: int | None) -> None:
        self._folder = make_private_folder(folder)
        self._index = index
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        # Ranges that are in files but may not be in the tables yet, packed; under the lock.
        self._unrecorded: dict[PackName, bytes] = {}
        # Ranges that another process has put into files, by its word, until the tables say so too.
        self._noted: dict[PackName, bytes] = {}
        # Ranges that came into files since they were last asked for; None where nobody asks.
        self._news: dict[PackName, bytes] | None = None
        # Packs that were used since the last flush.
        self._used: set[PackName] = set()
        # Some for each check, and not so many that a small budget is overdrawn several times.
        self._bytes_between_checks = _BYTES_BETWEEN_CHECKS
        if budget_bytes is not None:
            self._bytes_between_checks = min(_BYTES_BETWEEN_CHECKS, budget_bytes // 8)
        self._bytes_until_check = 0
        self.kept_bytes = 0
        self._full_warned = False
        # Until then, by the steady clock, writing is not expected to work.
        self._full_until = 0.0

    def path_of(self, pack: PackName) -> Path:
        """Where a pack's ranges lie."""
        return self._folder / pack[:2] / pack

    @property
    def lock_path(self) -> Path:
        """The file by whose locks the processes that use this cache tell what each is fetching."""
        return self._folder / ".fetching"

    def is_written(self, pack: PackName, start: int, end: int) -> bool:
        """Whether bytes that the tables need not know of are likely to be in a pack's file: what
        a process has written a moment ago, or before it was killed."""
        return self._written_until(pack, start) >= end

    def find_written(self, pack: PackName, start: int, end: int) -> list[tuple[int, int]]:
        """Which ranges between `start` and `end` are likely to be in a pack's file, in order."""
        found: list[tuple[int, int]] = []
        # Nothing lies behind the last of them, or the file system cannot tell.
        with suppress(OSError), self.path_of(pack).open("rb", buffering=0) as file:
            while start < end and len(found) < _MOST_FOUND:
                low = os.lseek(file.fileno(), start, os.SEEK_DATA)
                start = os.lseek(file.fileno(), low, os.SEEK_HOLE)
                if low < end:
                    found.append((low, min(start, end)))
        return found

    def load_written(self, pack: PackName, start: int, end: int) -> bytes:
        """What is in a pack's file from `start` on, up to `end` or the first hole. Nothing of it is
        proven."""
        stop = min(end, self._written_until(pack, start))
        with suppress(OSError), self.path_of(pack).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), max(0, stop - start), start)
        return b""

    def note_written(self, pack: PackName, start: int, length: int) -> None:
        """Have the tables know of bytes that were found in a pack's file and proven."""
        with suppress(OSError), self.path_of(pack).open("rb", buffering=0) as file:
            self._note_kept(pack, start, length, file.fileno())

    def _written_until(self, pack: PackName, start: int) -> int:
        try:
            descriptor = os.open(self.path_of(pack), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return start
        try:
            if os.lseek(descriptor, start, os.SEEK_DATA) != start:
                return start
            return os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError:
            # Nothing lies behind that place, or the file system cannot tell.
            return start
        finally:
            os.close(descriptor)

    def covers(self, pack: PackName, start: int, end: int) -> bool:
        """Whether the cache says that it has these bytes; asking counts as using the pack."""
        return byte_ranges.covered_by(self.load_ranges(pack), start, end)

    def load_ranges(self, pack: PackName) -> list[tuple[int, int]]:
        """The ranges that the cache says it has, as byte_ranges.pairs gives them; asking counts as
        using the pack."""
        self._used.add(pack)
        # In this order: what a flush takes from the one is in the other already.
        more = [part for part in (self._unrecorded.get(pack), self._noted.get(pack)) if part]
        row = self._index.load_ranges(pack)
        for part in more:
            row = byte_ranges.union(row, part)
        return byte_ranges.pairs(row)

    def take_news(self) -> dict[PackName, bytes]:
        """The ranges (packed) that this process has put into files since it was last asked; none
        the first time."""
        with self._lock:
            news, self._news = self._news, {}
            return news or {}

    def note_ranges(self, pack: PackName, ranges: bytes) -> None:
        """Take it from the process that keeps them that these ranges (packed) are in the file."""
        with self._lock:
            noted = self._noted.get(pack, byte_ranges.EMPTY)
            self._noted[pack] = byte_ranges.union(noted, ranges)

    def can_keep(self) -> bool:
        """Whether what is fetched is likely to stay: False for some seconds after a failed write,
        in which getting more than is asked for would be for nothing."""
        return time.monotonic() >= self._full_until

    def keep(self, pack: PackName, start: int, content: bytes | memoryview) -> bool:
        """Write verified bytes. False where there is no room: they are then served uncached."""
        path = self.path_of(pack)
        try:
            # With its parents: somebody may have removed the folder to make room.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                _write_all(descriptor, start, content)
                return self._note_kept(pack, start, len(content), descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._say_full(error.strerror or str(error))
            return False

    def _note_kept(self, pack: PackName, start: int, length: int, descriptor: int) -> bool:
        with self._lock:
            if os.fstat(descriptor).st_nlink == 0:
                # Evicted while it was being written: the bytes went with the file.
                return False
            row = self._unrecorded.get(pack, byte_ranges.EMPTY)
            self._unrecorded[pack] = byte_ranges.add(row, start, start + length)
            if self._news is not None:
                new = self._news.get(pack, byte_ranges.EMPTY)
                self._news[pack] = byte_ranges.add(new, start, start + length)
            self.kept_bytes += length
            self._bytes_until_check -= length
            self._full_until = 0.0
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
            if pack in self._noted:
                self._noted[pack] = byte_ranges.remove(self._noted[pack], start, start + length)
        try:
            self._index.drop_range(pack, start, start + length)
        except StoreError as error:
            self._say_full(str(error))

    def flush(self) -> None:
        """Bring the tables up to date with the files, and evict if the budget is used up. Where
        the disk does not let it, nobody suffers but the cache."""
        with self._lock:
            added = dict(self._unrecorded)
            used, self._used = self._used - added.keys(), set()
            check = self._bytes_until_check <= 0
            if check:
                self._bytes_until_check = self._bytes_between_checks
        try:
            self._forget_noted()
            self._record(added, used, int(time.time()))
            if check:
                self.evict()
        except (StoreError, OSError) as error:
            self._say_full(str(error))

    def _forget_noted(self) -> None:
        """Drop what the tables say by now, or say no more."""
        for pack in list(self._noted):
            row = self._index.load_ranges(pack)
            with self._lock:
                noted = self._noted.get(pack)
                if noted is not None and byte_ranges.union(row, noted) == row:
                    del self._noted[pack]
        with self._lock:
            while len(self._noted) > _MOST_NOTED:
                del self._noted[next(iter(self._noted))]

    def _record(self, added: dict[PackName, bytes], used: set[PackName], now_seconds: int) -> None:
        try:
            if added:
                self._index.keep_ranges(added, now_seconds)
            if used:
                self._index.touch_uses(used, now_seconds)
        except LocalDiskFull as error:
            # Still in memory, and written by a later flush; until then evicting is what helps.
            self._say_full(str(error))
            return
        with self._lock:
            for pack, row in added.items():
                # What was kept or dropped meanwhile stays for the next time.
                if self._unrecorded.get(pack) == row:
                    del self._unrecorded[pack]

    def evict(self) -> list[PackUse]:
        """Drop the least recently used packs until the cache fits; what was dropped."""
        with (self._folder / ".evicting").open("w") as lock:
            if not try_lock(lock):
                return []
            plan = self.plan_evict()
            self._remove(use.pack for use in plan)
        return plan

    def packs_on_disk(self) -> list[PackName]:
        """The packs that have a file here."""
        names = (path.name for path in self._folder.glob("??/*"))
        return [PackName(name) for name in names if is_pack_name(name)]

    def plan_evict(self) -> list[PackUse]:
        """What `evict` would drop now."""
        return plan_eviction(self.load_uses(), self._budget_bytes, self._disk())

    def evict_packs(self, packs: Iterable[PackName]) -> None:
        """Drop these packs, whoever uses them: what is needed of them is fetched again."""
        with (self._folder / ".evicting").open("w") as lock:
            # Whoever evicts is done soon.
            flock(lock, LOCK_EX)
            self._remove(packs)

    def load_uses(self) -> list[PackUse]:
        """Every pack on the disk, also those that a crash left there before they had rows."""
        uses = self._index.load_uses()
        known = {use.pack for use in uses}
        for pack in self.packs_on_disk():
            if pack not in known:
                with suppress(FileNotFoundError):
                    status = self.path_of(pack).stat()
                    size = status.st_blocks * _STAT_BLOCK_BYTES
                    uses.append(PackUse(pack, int(status.st_mtime), size))
        return uses

    def _remove(self, packs: Iterable[PackName]) -> None:
        gone = []
        for pack in packs:
            with self._lock:
                self.path_of(pack).unlink(missing_ok=True)
                self._unrecorded.pop(pack, None)
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
        self._full_until = time.monotonic() + _FULL_SECONDS


def _write_all(descriptor: int, start: int, content: bytes | memoryview) -> None:
    view = memoryview(content)
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], start + written)
