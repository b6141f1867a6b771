"""`verify --cache`: every cached range against its chunks' hashes, the tables against the files.

What is wrong is dropped: it can be fetched again. Other processes may use the cache meanwhile.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from store import byte_ranges
from store.cache_index import CacheIndex
from store.cache_rows import PACK_ROW_HASH_BYTES, is_pack_row
from store.errors import IntegrityError, MalformedObject
from store.ids import PACK_NAME_BYTES, PackName
from store.pack_cache import PackCache
from store.packs import PackEntry, PackTable, unpack_chunk
from store.progress import ByteProgress

# One read of neighbouring small chunks.
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class CacheReport:
    """What was looked at, and what was dropped: packs with something cached, and their bytes;
    damaged chunks; packs whose file is gone; packs of which no table tells what is in them, which
    are left alone; rows of directories and pack tables that are no good."""

    packs: int = 0
    checked_bytes: int = 0
    damaged_chunks: int = 0
    dropped_bytes: int = 0
    lost_files: int = 0
    unknown_packs: int = 0
    bad_rows: int = 0
    damaged_packs: list[PackName] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing had to be dropped but what nobody can tell anything of."""
        return not (self.damaged_chunks or self.lost_files or self.bad_rows)


def verify_cache(cache: PackCache, index: CacheIndex, progress: ByteProgress) -> CacheReport:
    """Look at the whole cache, of all repositories, and drop what is wrong with it. Raises
    StoreError where the tables cannot be read or written."""
    return _Check(cache, index, progress).run()


class _Check:
    def __init__(self, cache: PackCache, index: CacheIndex, progress: ByteProgress) -> None:
        self._cache = cache
        self._index = index
        self._progress = progress
        self._report = CacheReport()
        # By raw name of the pack; it is used once in all stores.
        self._keys: dict[bytes, bytes] = {}

    def run(self) -> CacheReport:
        self._cache.flush()
        self._report.bad_rows = _drop_damaged_rows(self._index)
        keys = self._index.tables.scan_keys("packs")
        self._keys = {key[-PACK_NAME_BYTES:]: key for key in keys}
        for pack in sorted(set(self._index.load_cached_packs()) | set(self._cache.packs_on_disk())):
            self._look_at(pack)
        return self._report

    def _look_at(self, pack: PackName) -> None:
        ranges = byte_ranges.pairs(self._index.load_ranges(pack))
        table = self._load_table(pack)
        try:
            descriptor = os.open(self._cache.path_of(pack), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            # Evicted a moment ago, by another process, its row would be gone by now.
            if self._index.load_ranges(pack):
                self._index.forget_cached([pack])
                self._report.lost_files += 1
            return
        try:
            self._report.packs += 1
            if table is None:
                # It may be all that is left of a pack that a remote lost; eviction takes it.
                self._report.unknown_packs += 1
            else:
                self._look_into(pack, table, ranges, descriptor)
        finally:
            os.close(descriptor)

    def _load_table(self, pack: PackName) -> PackTable | None:
        key = self._keys.get(bytes.fromhex(pack))
        raw = None if key is None else self._index.tables.get("packs", key)
        return None if raw is None else PackTable.trusted(raw[PACK_ROW_HASH_BYTES:])

    def _look_into(
        self, pack: PackName, table: PackTable, ranges: list[tuple[int, int]], descriptor: int
    ) -> None:
        damaged = 0
        for entries in _runs(table, ranges):
            start = entries[0].offset
            block = os.pread(descriptor, entries[-1].end - start, start)
            self._report.checked_bytes += len(block)
            self._progress.advance(len(block), items=len(entries))
            for entry in entries:
                if not _is_sound(entry, block[entry.offset - start : entry.end - start]):
                    self._cache.drop(pack, entry.offset, entry.stored_length)
                    self._report.dropped_bytes += entry.stored_length
                    damaged += 1
        for start, end in _outside(table, ranges):
            self._cache.drop(pack, start, end - start)
        if damaged:
            self._report.damaged_chunks += damaged
            self._report.damaged_packs.append(pack)


def _drop_damaged_rows(index: CacheIndex) -> int:
    """Drop rows that show by themselves that they are no good: directories by their checksum, pack
    tables by their form. How many there were."""
    tables = index.tables
    trees = tables.scan_keys("directories")
    directories = [tree for tree in trees if index.load_directory(tree) is None]
    tables.delete_many("directories", directories)
    keys = tables.scan_keys("packs")
    packs = [key for key in keys if not _is_whole_table(tables.get("packs", key))]
    if packs:
        # What they said comes back with their index objects.
        tables.delete_many("indexes", tables.scan_keys("indexes"))
        tables.delete_many("packs", packs)
    return len(directories) + len(packs)


def _is_whole_table(row: bytes | None) -> bool:
    if row is None or not is_pack_row(row):
        return False
    table = PackTable.trusted(row[PACK_ROW_HASH_BYTES:])
    try:
        PackTable.checked(table.raw, table.pack_size)
    except MalformedObject:
        return False
    return True


def _runs(table: PackTable, ranges: list[tuple[int, int]]) -> Iterator[list[PackEntry]]:
    """The entries that the ranges hold whole, in runs of neighbours."""
    held = (entry for entry in table if byte_ranges.covered_by(ranges, entry.offset, entry.end))
    run: list[PackEntry] = []
    for entry in held:
        if run and (entry.offset != run[-1].end or entry.end - run[0].offset > _READ_BYTES):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def _outside(table: PackTable, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of ranges that lie beyond the pack's end, which no reader ever asks for."""
    size = table.pack_size
    return [(max(start, size), end) for start, end in ranges if end > size]


def _is_sound(entry: PackEntry, stored: bytes) -> bool:
    try:
        unpack_chunk(entry, stored)
    except (IntegrityError, MalformedObject):
        return False
    return True
