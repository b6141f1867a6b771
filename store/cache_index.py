"""CacheIndex: what the user's cache knows, shared by all repositories and mounts.

Every row is a hint. Chunks are proven by their hash wherever they are loaded from; directory rows,
which nothing else proves, carry a checksum of their own. A lost row costs a fetch, never a byte.

    table        key                              value
    formats      remote url                       the remote's `format` object
    chunks       store (8) + chunk id (32)        pack (16), u32 offset, stored, raw; u8 codec
    packs        store (8) + pack (16)            index hash (32), the pack's table as in the pack
    indexes      store (8) + index hash (32)      nothing: the object is loaded
    manifests    store (8) + repository/commit    the manifest as in the remote; empty: not read
    ranges       pack (16)                        packed byte ranges that the pack cache holds
    uses         pack (16)                        u64 time of last use in seconds, u64 bytes on disk
    directories  tree id (20)                     checksum (16) and the packed directory
"""

import logging
import os
import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from store import byte_ranges
from store.cache_rows import (
    PACK_ROW_HASH_BYTES,
    PackPlace,
    PackSpan,
    PackUse,
    is_pack_row,
    is_place,
    parse_place,
    parse_span,
)
from store.directories import PACKED_VERSION
from store.errors import MalformedObject
from store.ids import (
    PACK_NAME_BYTES,
    ChunkId,
    GitId,
    PackName,
    hash_bytes,
    pack_name_from_bytes,
)
from store.packs import PackTable
from store.remote_format import RemoteFormat, parse_remote_format
from store.remote_index import IndexedPack, iterate_places, sorted_places
from store.spared_tables import SparedTables

log = logging.getLogger(__name__)

_USE = struct.Struct("<QQ")
_CHECKSUM_BYTES = 16
_NAMES = (
    "formats",
    "chunks",
    "packs",
    "indexes",
    "manifests",
    "ranges",
    "uses",
    "directories",
)


# Without these nothing can be fetched.
_SPARED = ("formats", "chunks", "packs", "indexes", "manifests")


class CacheIndex:
    """The tables of one cache folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` must be private to the user and on a disk that can lock."""
        self.folder = folder
        self._tables = SparedTables(folder, _NAMES, _SPARED)
        # Of packs that were found to be gone: an index object may tell of them still, and must not
        # hide the other places of their chunks.
        self._gone: set[bytes] = set()

    @property
    def tables(self) -> SparedTables:
        """The tables themselves, for whoever checks them row by row."""
        return self._tables

    def close(self) -> None:
        """Let go of the tables; no call may follow."""
        self._tables.close()

    @property
    def generation(self) -> int:
        """Counts how often the tables were lost, with all that was in them, since opened."""
        return self._tables.generation

    # Remotes and what they hold

    def load_format(self, url: str) -> bytes | None:
        """The `format` object of the remote with that url, as last seen."""
        return self._tables.get("formats", _format_key(url))

    def load_remote_format(self, url: str) -> RemoteFormat | None:
        """As `load_format`, parsed. A damaged row says nothing: the next one who asks the remote
        replaces it."""
        raw = self.load_format(url)
        try:
            return None if raw is None else parse_remote_format(raw)
        except MalformedObject as error:
            log.debug("what is kept of the remote %s cannot be used: %s", url, error)
            return None

    def keep_format(self, url: str, raw: bytes) -> None:
        """Remember a remote's `format` object."""
        self._tables.put_many("formats", [(_format_key(url), raw)])

    def loaded_indexes(self, store: str) -> set[str]:
        """The hashes (hex) of the index objects of a store that are in the tables."""
        prefix = _store_prefix(store)
        keys = self._tables.scan_keys("indexes", prefix)
        return {key[len(prefix) :].hex() for key in keys}

    def keep_index(
        self, store: str, index_hash: str, packs: Sequence[IndexedPack], raw: bytes | None = None
    ) -> None:
        """Take an index object in: chunks and pack tables first, the fact that it is here last.

        `packs` are what `parse_index` makes of `raw`; the bytes themselves, where the caller has
        them, are sorted as the rows have to be, which saves half the work.
        """
        prefix, raw_hash = _store_prefix(store), bytes.fromhex(index_hash)
        gone = [pack for pack in packs if prefix + bytes.fromhex(pack.name) in self._gone]
        if gone:
            self._put_where_none_is(sorted_places(gone, prefix))
            there = [pack for pack in packs if pack not in gone]
            self._tables.put_many("chunks", sorted_places(there, prefix))
        else:
            places = sorted_places(packs, prefix) if raw is None else iterate_places(raw, prefix)
            self._tables.put_many("chunks", places)
        tables = ((prefix + bytes.fromhex(pack.name), raw_hash + pack.table.raw) for pack in packs)
        self._tables.put_many("packs", tables)
        self._tables.put_many("indexes", [(prefix + raw_hash, b"")])

    def _put_where_none_is(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        known = self._tables.get_many("chunks", [key for key, _ in rows])
        new = [row for row, value in zip(rows, known, strict=True) if value is None]
        self._tables.put_many("chunks", new)

    def forget_pack(self, store: str, pack: PackName) -> None:
        """Drop what the tables say of a pack that the remote no longer has. Its index objects no
        longer count as loaded, so that the chunks' other places can come back."""
        self._gone.add(_store_prefix(store) + bytes.fromhex(pack))
        # First: a crash behind this costs a reload, one before it would hide the chunks for good.
        self.forget_indexes(store)
        self.forget_chunks(store, pack)
        self._tables.delete_many("packs", [_store_prefix(store) + bytes.fromhex(pack)])

    def forget_indexes(self, store: str) -> None:
        """Have every index object of a store count as not loaded. What they said stays."""
        self._tables.delete_many("indexes", self._tables.scan_keys("indexes", _store_prefix(store)))

    def forget_chunks(self, store: str, pack: PackName) -> None:
        """Drop the places that lie in one pack."""
        table = self.load_pack_table(store, pack)
        if table is None:
            return
        keys = [_store_prefix(store) + entry.chunk for entry in table]
        raw_name = bytes.fromhex(pack)
        rows = zip(keys, self._tables.get_many("chunks", keys), strict=True)
        stale = [key for key, row in rows if row is not None and row.startswith(raw_name)]
        self._tables.delete_many("chunks", stale)

    def move_chunks(
        self, store: str, away_from: Iterable[PackName], to: Iterable[PackName]
    ) -> None:
        """Have chunks whose place is known in the packs `away_from` be known where they lie in the
        packs `to`, as far as these have them."""
        prefix = _store_prefix(store)
        moving: set[bytes] = set()
        for pack in away_from:
            table = self.load_pack_table(store, pack)
            chunks = [] if table is None else [chunk for chunk, _ in table.rows()]
            raw_name = bytes.fromhex(pack)
            spans = self.load_spans(store, chunks)
            moving.update(
                chunk
                for chunk, span in zip(chunks, spans, strict=True)
                if span is not None and span.pack == raw_name
            )
        for pack in to if moving else ():
            table = self.load_pack_table(store, pack)
            raw_name = bytes.fromhex(pack)
            rows = () if table is None else table.rows()
            found = {prefix + c: raw_name + place for c, place in rows if c in moving}
            self._tables.put_many("chunks", sorted(found.items()))
            moving.difference_update(key[len(prefix) :] for key in found)

    def load_place(self, store: str, chunk: ChunkId) -> PackPlace | None:
        """Where the remote of that store has a chunk, as far as known here."""
        value = self._tables.get("chunks", _store_prefix(store) + chunk)
        return parse_place(chunk, value)

    def load_places(self, store: str, chunks: Sequence[ChunkId]) -> list[PackPlace | None]:
        """As `load_place`, for many, in the order asked."""
        prefix = _store_prefix(store)
        values = self._tables.get_many("chunks", [prefix + chunk for chunk in chunks])
        return [parse_place(chunk, value) for chunk, value in zip(chunks, values, strict=True)]

    def load_spans(self, store: str, chunks: Sequence[ChunkId]) -> list[PackSpan | None]:
        """As `load_places`, of each only where its stored bytes lie: for whoever only counts,
        at half the cost."""
        prefix = _store_prefix(store)
        values = self._tables.get_many("chunks", [prefix + chunk for chunk in chunks])
        return [parse_span(value) if is_place(value) else None for value in values]

    def load_pack_table(self, store: str, pack: PackName) -> PackTable | None:
        """The table of a pack of that store, as far as known here."""
        raw = self._tables.get("packs", _store_prefix(store) + bytes.fromhex(pack))
        if raw is None or not is_pack_row(raw):
            return None
        return PackTable.trusted(raw[PACK_ROW_HASH_BYTES:])

    def load_known_packs(self, store: str) -> list[PackName]:
        """The packs of that store whose tables are known here."""
        prefix = _store_prefix(store)
        keys = self._tables.scan_keys("packs", prefix)
        return [pack_name_from_bytes(key[len(prefix) :]) for key in keys]

    def load_packs_of_remotes(self) -> set[PackName]:
        """The packs of every store whose tables are known here: what can be fetched again, as far
        as this machine knows."""
        # Keys are a prefix for the store and the pack's raw name.
        keys = self._tables.scan_keys("packs")
        return {pack_name_from_bytes(key[-PACK_NAME_BYTES:]) for key in keys}

    def load_index_of_pack(self, store: str, pack: PackName) -> str | None:
        """The hash (hex) of an index object that lists a pack, as far as known here."""
        raw = self._tables.get("packs", _store_prefix(store) + bytes.fromhex(pack))
        return None if raw is None else raw[:PACK_ROW_HASH_BYTES].hex()

    def load_manifest(self, store: str, repository: str, commit: GitId) -> bytes | None:
        """A manifest of the commit, as last seen in the remote."""
        return self._tables.get("manifests", _manifest_key(store, repository, commit)) or None

    def knows_commit(self, store: str | None, repository: str | None, commit: GitId) -> bool:
        """Whether a manifest of the commit was ever seen; where the store or the repository has no
        id yet, none was."""
        if store is None or repository is None:
            return False
        return self.load_manifest(store, repository, commit) is not None

    def keep_manifest(self, store: str, repository: str, commit: GitId, raw: bytes) -> None:
        """Remember a manifest of the commit."""
        self._tables.put_many("manifests", [(_manifest_key(store, repository, commit), raw)])

    def keep_pushed_commits(self, store: str, repository: str, commits: set[GitId]) -> None:
        """Remember which commits of a repository have a manifest, by the remote's own list: rows of
        others go, and those that are new here stand empty until their manifest is read."""
        known = self.load_pushed_commits(store, repository)
        gone = [_manifest_key(store, repository, commit) for commit in known - commits]
        new = [(_manifest_key(store, repository, commit), b"") for commit in commits - known]
        self._tables.delete_many("manifests", gone)
        self._tables.put_many("manifests", sorted(new))

    def load_pushed_commits(self, store: str, repository: str) -> set[GitId]:
        """The commits of a repository that are known to have a manifest."""
        prefix = _manifest_prefix(store, repository)
        keys = self._tables.scan_keys("manifests", prefix)
        return {GitId(key[len(prefix) :].hex()) for key in keys}

    # What the pack cache holds

    def load_ranges(self, pack: PackName) -> bytes:
        """The cached ranges of a pack, packed as in byte_ranges."""
        return self._tables.get("ranges", bytes.fromhex(pack)) or byte_ranges.EMPTY

    def load_cached_packs(self) -> list[PackName]:
        """The packs of which some ranges are said to be here."""
        keys = self._tables.scan_keys("ranges")
        return [pack_name_from_bytes(key) for key in keys if len(key) == PACK_NAME_BYTES]

    def keep_ranges(self, added: dict[PackName, bytes], now_seconds: int) -> None:
        """Add cached ranges (packed) to packs, and note their use."""

        def adder(more: bytes) -> Callable[[bytes | None], bytes]:
            return lambda row: byte_ranges.union(row or byte_ranges.EMPTY, more)

        self._tables.update_many(
            "ranges", {bytes.fromhex(pack): adder(more) for pack, more in added.items()}
        )
        self.keep_uses(added, now_seconds)

    def drop_range(self, pack: PackName, start: int, end: int) -> None:
        """Take a range back whose bytes turned out not to be what they should."""
        self._tables.update(
            "ranges",
            lambda row: byte_ranges.remove(row or byte_ranges.EMPTY, start, end) or None,
            bytes.fromhex(pack),
        )

    def keep_uses(self, packs: Iterable[PackName], now_seconds: int) -> None:
        """Note that packs were used just now, and how many bytes of each are here. One of which
        nothing is here is no cached pack, and has no row."""
        rows, gone = [], []
        for pack in sorted(packs):
            cached = byte_ranges.total(self.load_ranges(pack))
            if cached:
                rows.append((bytes.fromhex(pack), _USE.pack(now_seconds, cached)))
            else:
                gone.append(bytes.fromhex(pack))
        self._tables.put_many("uses", rows)
        self._tables.delete_many("uses", gone)

    def touch_uses(self, packs: Iterable[PackName], now_seconds: int) -> None:
        """Note that packs were used just now. How many bytes of them are here is left to whoever
        puts them there: what this process knows of that may be old."""

        def touch(row: bytes | None) -> bytes | None:
            if row is None or len(row) != _USE.size:
                return None
            return _USE.pack(now_seconds, _USE.unpack(row)[1])

        keys = sorted(bytes.fromhex(pack) for pack in packs)
        self._tables.update_many("uses", dict.fromkeys(keys, touch))

    def load_uses(self) -> list[PackUse]:
        """Every cached pack with its last use and size."""
        rows = self._tables.scan("uses")
        return [
            PackUse(pack_name_from_bytes(key), *_USE.unpack(value))
            for key, value in rows
            if (len(key), len(value)) == (PACK_NAME_BYTES, _USE.size)
        ]

    def forget_cached(self, packs: Iterable[PackName]) -> None:
        """Drop the rows of packs whose files are gone."""
        keys = [bytes.fromhex(pack) for pack in packs]
        self._tables.delete_many("ranges", keys)
        self._tables.delete_many("uses", keys)

    # Directories by tree id

    def load_directory(self, tree: bytes) -> bytes | None:
        """A packed directory, or None where there is no row or it was damaged."""
        value = self._tables.get("directories", tree)
        if value is None or value[:_CHECKSUM_BYTES] != _checksum(tree, value[_CHECKSUM_BYTES:]):
            return None
        return value[_CHECKSUM_BYTES:]

    def keep_directories(self, directories: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember packed directories by tree id."""
        rows = [(tree, _checksum(tree, packed) + packed) for tree, packed in directories]
        self._tables.put_many("directories", sorted(rows))


def _format_key(url: str) -> bytes:
    # The path of a folder need not be UTF-8.
    return hash_bytes(os.fsencode(url))


@lru_cache(maxsize=64)
def _store_prefix(store: str) -> bytes:
    # Half of a random uuid tells stores apart; a clash would cost fetches that fail their hash.
    return uuid.UUID(store).bytes[:8]


def _manifest_prefix(store: str, repository: str) -> bytes:
    return _store_prefix(store) + uuid.UUID(repository).bytes


def _manifest_key(store: str, repository: str, commit: GitId) -> bytes:
    return _manifest_prefix(store, repository) + bytes.fromhex(commit)


def _checksum(tree: bytes, packed: bytes) -> bytes:
    # With the version in it: a row of another form is as good as none, to older programs too.
    return hash_bytes(b"%b %d %b" % (tree, PACKED_VERSION, packed))[:_CHECKSUM_BYTES]
