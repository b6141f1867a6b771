"""What a remote holds, looked at object by object: its lists, its format, manifests, index objects.

Everything that comes from there goes through the strict parsers; what does not pass them is named,
and nothing of it is used. A record of a newer version ends all: this program cannot judge it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from store.concurrency import TABLE_WRITES, VERIFY, run_all
from store.errors import MalformedObject, ObjectMissing, UnsupportedVersion
from store.ids import GitId, PackName
from store.manifests import (
    MAX_MANIFEST_BYTES,
    Manifest,
    manifest_key,
    parse_manifest,
    parse_manifest_key,
)
from store.packs import PackTable
from store.progress import ByteProgress
from store.remote import (
    FORMAT_KEY,
    INDEX_PREFIX,
    PACKS_PREFIX,
    ObjectInfo,
    Remote,
    index_key,
    manifests_prefix,
    pack_key,
    parse_index_key,
    parse_pack_key,
)
from store.remote_format import MAX_FORMAT_BYTES, RemoteFormat, parse_remote_format
from store.remote_index import MAX_INDEX_BYTES, IndexedPack, index_hash, parse_index
from store.sealed_text import is_damaged_version
from store.verify_findings import Findings
from store.verify_packs import Claim
from store.verify_places import PlaceBook

_MANIFESTS_AT_ONCE = 16
# Each may be some megabytes, and ten times that while it is parsed.
_INDEXES_AT_ONCE = 4


@dataclass(slots=True)
class Inventory:
    """What lies in a remote by its own lists: the size of each pack, the names of index objects,
    and for each commit of the repository the ulids of its manifests, the newest first."""

    packs: dict[PackName, int] = field(default_factory=dict)
    indexes: set[str] = field(default_factory=set)
    manifests: dict[GitId, list[str]] = field(default_factory=dict)
    format: RemoteFormat | None = None


@dataclass(slots=True)
class IndexLook:
    """What the index objects say. `claims`: of each pack, what one of them says; `listed`: all that
    can be used, each with the packs that it tells of; `missing`: those that are not there."""

    claims: dict[PackName, Claim] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    listed: dict[str, frozenset[PackName]] = field(default_factory=dict)


class ObjectReader:
    """Fetches and checks the small objects of one remote, and tells `findings` what is wrong."""

    def __init__(
        self,
        remote: Remote,
        repository: str,
        findings: Findings,
        progress: ByteProgress,
        timeout_seconds: float,
    ) -> None:
        self._remote = remote
        self._repository = repository
        self._findings = findings
        self._progress = progress
        self._timeout_seconds = timeout_seconds

    async def take_inventory(self) -> Inventory:
        """The lists of the remote, asked for side by side. Raises RemoteError."""
        found = Inventory()
        calls = (
            partial(self._read_format, found),
            partial(self._list_packs, found),
            partial(self._list_indexes, found),
            partial(self._list_manifests, found),
        )
        await run_all(calls, at_once=len(calls))
        return found

    async def _read_format(self, found: Inventory) -> None:
        try:
            raw = await self._fetch(FORMAT_KEY, MAX_FORMAT_BYTES)
        except ObjectMissing:
            self._findings.add(FORMAT_KEY, "is missing: nobody can read this remote")
            return
        try:
            found.format = parse_remote_format(raw)
        except MalformedObject as error:
            if isinstance(error, UnsupportedVersion) and not is_damaged_version("format", 1, raw):
                raise
            self._findings.add(FORMAT_KEY, f"is damaged: nobody can read this remote ({error})")

    async def _list_packs(self, found: Inventory) -> None:
        for info in await self._list(PACKS_PREFIX):
            name = parse_pack_key(info.key)
            if name is not None:
                found.packs[name] = info.size

    async def _list_indexes(self, found: Inventory) -> None:
        names = (parse_index_key(info.key) for info in await self._list(INDEX_PREFIX))
        found.indexes = {name for name in names if name is not None}

    async def _list_manifests(self, found: Inventory) -> None:
        for info in await self._list(manifests_prefix(self._repository)):
            parsed = parse_manifest_key(info.key)
            if parsed is not None:
                found.manifests.setdefault(parsed[1], []).append(parsed[2])
        for ulids in found.manifests.values():
            ulids.sort(reverse=True)

    async def _list(self, prefix: str) -> Sequence[ObjectInfo]:
        return await self._remote.list_objects(prefix, timeout_seconds=self._timeout_seconds)

    async def read_manifests(
        self, commits: Iterable[GitId], found: Inventory
    ) -> dict[GitId, list[Manifest | None]]:
        """The manifests of these commits in the order of the inventory; None for one that is not
        what it should be, which is a finding."""
        keys = [(commit, ulid) for commit in commits for ulid in found.manifests.get(commit, ())]
        read: dict[tuple[GitId, str], Manifest | None] = {}

        async def take(commit: GitId, ulid: str) -> None:
            read[commit, ulid] = await self._read_manifest(commit, ulid)

        await run_all([partial(take, *key) for key in keys], at_once=_MANIFESTS_AT_ONCE)
        manifests: dict[GitId, list[Manifest | None]] = {}
        for commit, ulid in keys:
            manifests.setdefault(commit, []).append(read[commit, ulid])
        return manifests

    async def _read_manifest(self, commit: GitId, ulid: str) -> Manifest | None:
        key = manifest_key(self._repository, commit, ulid)
        try:
            raw = await self._fetch(key, MAX_MANIFEST_BYTES)
        except (ObjectMissing, MalformedObject) as error:
            self._findings.add(key, f"is damaged: {error}")
            return None
        try:
            manifest = parse_manifest(raw)
        except MalformedObject as error:
            # A newer one is left to newer programs; nothing here may be decided without it.
            if isinstance(error, UnsupportedVersion) and not is_damaged_version("manifest", 1, raw):
                raise
            self._findings.add(key, f"is damaged: {error}")
            return None
        if (manifest.repository, manifest.commit) == (self._repository, commit):
            return manifest
        self._findings.add(key, f"is that of another commit, {manifest.commit[:12]}")
        return None

    async def read_indexes(
        self, names: Iterable[str], needed: frozenset[str], look: IndexLook, book: PlaceBook
    ) -> None:
        """Take in index objects; the tables of their packs go into the book. Who comes first has
        the word on a pack. What is wrong with one is a finding where it is among the `needed`."""
        calls = [
            partial(self._read_index, name, name in needed, look, book) for name in sorted(names)
        ]
        await run_all(calls, at_once=_INDEXES_AT_ONCE)

    async def _read_index(
        self, name: str, is_needed: bool, look: IndexLook, book: PlaceBook
    ) -> None:
        try:
            raw = await self._fetch(index_key(name), MAX_INDEX_BYTES)
            packs = await trio.to_thread.run_sync(_parse_index, name, raw, limiter=VERIFY)
        except ObjectMissing:
            # Whether that is wrong the packs tell: another may say the same of them.
            look.missing.add(name)
            return
        except MalformedObject as error:
            problem = f"is damaged: {error}"
        else:
            self._progress.advance(len(raw))
            await self._take_index(name, packs, look, book)
            problem = self._contradiction(packs, look)
        if is_needed and problem:
            self._findings.add(index_key(name), problem)

    async def _take_index(
        self, name: str, packs: Sequence[IndexedPack], look: IndexLook, book: PlaceBook
    ) -> None:
        new = [(pack.name, pack.table) for pack in packs if pack.name not in look.claims]
        for pack in packs:
            look.claims.setdefault(pack.name, Claim(name, pack.size, pack.hash))
        look.listed[name] = frozenset(pack.name for pack in packs)
        await trio.to_thread.run_sync(book.keep_tables, new, limiter=TABLE_WRITES)

    def _contradiction(self, packs: Sequence[IndexedPack], look: IndexLook) -> str:
        """On which pack this index object and one before it do not agree; empty where on none."""
        for pack in packs:
            claim = look.claims[pack.name]
            if (claim.size, claim.hash) != (pack.size, pack.hash):
                other = index_key(claim.index)
                return f"says of {pack_key(pack.name)} something else than {other}"
        return ""

    async def _fetch(self, key: str, max_bytes: int) -> bytes:
        return await self._remote.fetch(
            key, max_bytes=max_bytes, timeout_seconds=self._timeout_seconds
        )


def _parse_index(name: str, raw: bytes) -> tuple[IndexedPack, ...]:
    if index_hash(raw) != name:
        raise MalformedObject("it does not hash to its name")
    return parse_index(raw)


def load_claimed(
    look: IndexLook, book: PlaceBook, pack: PackName
) -> tuple[Claim | None, PackTable | None]:
    """What is said of a pack by an index object."""
    claim = look.claims.get(pack)
    return (claim, None) if claim is None else (claim, book.load_table(pack))
