"""Whether the packs of a remote are what its index objects say.

At least the end of each pack is fetched, which holds its table. Where anything is off, or all bytes
are to be read, every chunk is decoded and hashed, so that what is named as damaged is just that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import trio

from store.concurrency import VERIFY
from store.errors import IntegrityError, MalformedObject, ObjectMissing, UnsupportedVersion
from store.ids import Hasher, PackName, new_hasher
from store.packs import (
    LEAST_PACK_BYTES,
    MAX_PACK_BYTES,
    PACK_FOOTER_BYTES,
    PACK_HEADER_BYTES,
    PackEntry,
    PackTable,
    pack_tail,
    parse_pack_footer,
    parse_pack_header,
    parse_pack_tail,
    unpack_chunk,
)
from store.progress import ByteProgress
from store.remote import Remote, index_key, pack_key

# One range of a pack that is read whole; several packs are read side by side.
_RUN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Claim:
    """What an index object says of a pack: its size in bytes, and the hash of the whole file. The
    table is in the book."""

    index: str
    size: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class PackCheck:
    """What was seen of a pack.

    `problem` is None where nothing is wrong. `table` is the one by which readers find its chunks,
    or, where no index object tells of it, its own; None where neither is to be had, and once it is
    kept elsewhere. `bad` are the
    numbers of its entries whose bytes are not what they should be. `size` and `hash` are those of
    the pack as it is, the hash where all of it was read and all of it is sound.
    """

    name: PackName
    claim: Claim | None
    problem: str | None
    table: PackTable | None
    bad: frozenset[int] = frozenset()
    size: int = 0
    hash: bytes | None = None

    @property
    def key(self) -> str:
        """Where it lies in the remote."""
        return pack_key(self.name)

    def entries(self) -> Iterator[tuple[PackEntry, bool]]:
        """Each entry, and whether a reader gets its bytes: they are sound, and an index object
        tells of them."""
        indexed = self.claim is not None
        for number, entry in enumerate(self.table or ()):
            yield entry, indexed and number not in self.bad


class PackChecker:
    """Checks packs of one remote. `sizes` is its own list of them; with `read` all bytes are
    fetched and hashed."""

    def __init__(
        self,
        remote: Remote,
        sizes: dict[PackName, int],
        *,
        read: bool,
        timeout_seconds: float,
        progress: ByteProgress,
    ) -> None:
        self._remote = remote
        self._sizes = sizes
        self._read_all = read
        self._timeout_seconds = timeout_seconds
        self._progress = progress

    async def check(
        self, name: PackName, claim: Claim | None, table: PackTable | None
    ) -> PackCheck:
        """Look at one pack, of which an index object has said `claim` and `table`, or none has.
        Raises RemoteError where the remote cannot be asked."""
        size = self._sizes.get(name)
        try:
            if size is None:
                found = _missing(name, claim, table)
            elif claim is None or table is None:
                found = await self._check_unindexed(name, size)
            else:
                found = await self._check_indexed(name, size, claim, table)
        except ObjectMissing:
            found = _missing(name, claim, table)
        self._progress.advance(0, items=1)
        return found

    async def _check_indexed(
        self, name: PackName, size: int, claim: Claim, table: PackTable
    ) -> PackCheck:
        if size != claim.size:
            # Nobody relies on such a pack: a push passes it over, and readers, who fetch several
            # chunks at once, meet its end also where theirs are there.
            sizes = f"has {size:,} bytes where its index object says {claim.size:,}"
            return PackCheck(name, claim, sizes, table, _all_of(table), size)
        wanted = pack_tail(table)
        tail = await self._fetch(name, size - len(wanted), len(wanted))
        problem = None if tail == wanted else _name_tail(tail, size, claim)
        if problem is None and not self._read_all:
            return PackCheck(name, claim, None, table, size=size)
        bad, found_hash = await self._read(name, size, table)
        if problem is None and bad:
            problem = f"has {len(bad):,} of {len(table):,} chunks damaged"
        elif problem is None and found_hash != claim.hash:
            problem = "has a damaged beginning, or its index object names a wrong hash"
        return PackCheck(name, claim, problem, table, bad, size, found_hash)

    async def _check_unindexed(self, name: PackName, size: int) -> PackCheck:
        try:
            table = await self._fetch_own_table(name, size)
        except MalformedObject as error:
            problem = f"is in no index object, and cannot be read by itself ({error})"
            return PackCheck(name, None, problem, None, size=size)
        bad, found_hash = await self._read(name, size, table)
        damage = f"has {len(bad):,} of {len(table):,} chunks damaged" if bad else None
        return PackCheck(name, None, damage, table, bad, size, found_hash)

    async def _fetch_own_table(self, name: PackName, size: int) -> PackTable:
        """The table at the end of a pack, in two small ranges."""
        if not LEAST_PACK_BYTES <= size <= MAX_PACK_BYTES:
            raise MalformedObject(f"an object of {size} bytes is no pack")
        parse_pack_header(await self._fetch(name, 0, PACK_HEADER_BYTES))
        footer = await self._fetch(name, size - PACK_FOOTER_BYTES, PACK_FOOTER_BYTES)
        length = parse_pack_footer(footer, size)
        if not length:
            raise MalformedObject("its table is empty")
        table = await self._fetch(name, size - PACK_FOOTER_BYTES - length, length)
        return await trio.to_thread.run_sync(parse_pack_tail, table + footer, size, limiter=VERIFY)

    async def _read(
        self, name: PackName, size: int, table: PackTable
    ) -> tuple[frozenset[int], bytes | None]:
        """The numbers of the entries that are not sound, and the hash of the whole pack where all
        are and it has the size that its table makes."""
        hasher = new_hasher()
        bad: set[int] = set()
        start = 0
        for first, entries in _runs(table):
            end = min(entries[-1].end, size)
            block = await self._fetch(name, start, end - start) if end > start else b""
            prove = partial(_prove, hasher, block, start, first, entries)
            bad |= await trio.to_thread.run_sync(prove, limiter=VERIFY)
            self._progress.advance(len(block))
            start = max(start, end)
        if bad or size != table.pack_size:
            return frozenset(bad), None
        hasher.update(await self._fetch(name, start, size - start))
        return frozenset(), hasher.digest()

    async def _fetch(self, name: PackName, start: int, length: int) -> bytes:
        return await self._remote.fetch_range(
            pack_key(name), start, length, timeout_seconds=self._timeout_seconds
        )


def _runs(table: PackTable) -> Iterator[tuple[int, list[PackEntry]]]:
    """All entries in order, in runs of about _RUN_BYTES, each with the number of its first."""
    run: list[PackEntry] = []
    first = 0
    for number, entry in enumerate(table):
        if run and entry.end - run[0].offset > _RUN_BYTES:
            yield first, run
            run, first = [], number
        run.append(entry)
    if run:
        yield first, run


def _prove(
    hasher: Hasher, block: bytes, start: int, first: int, entries: list[PackEntry]
) -> set[int]:
    """The numbers of the entries that are not sound in a block that begins at byte `start`."""
    hasher.update(block)
    bad = set()
    for number, entry in enumerate(entries, first):
        try:
            unpack_chunk(entry, block[entry.offset - start : entry.end - start])
        except IntegrityError:
            bad.add(number)
    return bad


def _missing(name: PackName, claim: Claim | None, table: PackTable | None) -> PackCheck:
    return PackCheck(name, claim, "is missing", table, _all_of(table))


def _all_of(table: PackTable | None) -> frozenset[int]:
    return frozenset(range(len(table or ())))


def _name_tail(tail: bytes, size: int, claim: Claim) -> str:
    """What is wrong with the end of a pack that is not what its index object makes it."""
    try:
        if parse_pack_footer(tail[-PACK_FOOTER_BYTES:], size) == len(tail) - PACK_FOOTER_BYTES:
            parse_pack_tail(tail, size)
            return f"is another pack than {index_key(claim.index)} says"
    except UnsupportedVersion as error:
        return str(error)
    except MalformedObject:
        pass
    return "has a damaged table, or is another object"
