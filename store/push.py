"""`push`: what commits need and a remote lacks goes up, in the order packs → index → manifest.

The manifest is the commit point: it is written last, so a push that stops anywhere before leaves
packs that nothing names yet, and never a commit that is named but incomplete.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from store.catalog import Catalog
from store.chunk_source import ChunkSource
from store.chunking import DEFAULT_CHUNKING
from store.codec import compress_chunk
from store.concurrency import DISK_READS, TABLE_WRITES, run_all
from store.errors import IntegrityError, MalformedObject, StoreError
from store.git import Commit
from store.ids import ChunkId, GitId, PackName
from store.manifests import Manifest, encode_manifest, manifest_key, new_ulid
from store.pack_cache import PackCache
from store.pack_sink import PackSink
from store.packs import PackKind, PackSummary, verify_pack
from store.progress import ByteProgress
from store.push_contents import LostChunk, RemoteHoldings, TreeContents, Wanted
from store.push_selection import Stock, select
from store.remote import (
    FORMAT_KEY,
    PACKS_PREFIX,
    Remote,
    index_key,
    pack_key,
    parse_pack_key,
)
from store.remote_format import RemoteFormat, encode_remote_format
from store.remote_index import IndexedPack, encode_index, index_hash
from store.staging import Staging

log = logging.getLogger(__name__)

_UPLOADS_AT_ONCE = 8
_MANIFESTS_AT_ONCE = 16
# Two packs are proven at a time, which is faster than any link: were it all that are to go up, none
# of them would be on its way before the last is done.
_VERIFYING = trio.CapacityLimiter(2)
# A slow line may be as slow as this and still carry a pack in one PUT.
_SLOWEST_BYTES_PER_SECOND = 50_000
# Keeps index objects at some tens of megabytes, so that one is parsed at a go.
_INDEX_ENTRIES = 500_000


@dataclass(frozen=True, slots=True)
class PushContext:
    """What a push works with. `sources` give chunks that must be written into new packs: staged
    packs, the cache, the other remotes of the repository."""

    repository: str
    tool: str
    remote: Remote
    catalog: Catalog
    staging: Staging
    cache: PackCache
    trees: TreeContents
    sources: Sequence[ChunkSource]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class PushSummary:
    """What was done: commits that now have a manifest, packs and bytes uploaded."""

    commits: int
    packs: int
    uploaded_bytes: int


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What is to be done, oldest commit first: staged packs that go up as they are, and chunks to
    be written into new packs first, from partly needed staged packs or from elsewhere."""

    context: PushContext
    commits: tuple[Commit, ...]
    holdings: RemoteHoldings
    whole_packs: tuple[PackName, ...]
    whole_bytes: int
    loose_chunks: dict[ChunkId, Wanted]

    async def execute(self, progress_to: Callable[[int], ByteProgress]) -> PushSummary:
        """Do it. `progress_to` is told how many bytes go up and gives whom to report to.

        Raises StoreError; what was uploaded by then is found and used by the next push.
        """
        if not self.commits:
            # A push whose last answer was lost has left its packs staged.
            await trio.to_thread.run_sync(self._settle, limiter=TABLE_WRITES)
            return PushSummary(0, 0, 0)
        try:
            written = await self._write_loose_chunks()
        except LostChunk as error:
            _have_added_again(self.context, self.holdings, error.chunk)
            raise
        packs = [*self.whole_packs, *written]
        size = self.whole_bytes + sum(summary.size for summary in written.values())
        uploaded = await self._upload(packs, progress_to(size))
        await self._write_manifests()
        await trio.to_thread.run_sync(self._settle, limiter=TABLE_WRITES)
        return PushSummary(len(self.commits), len(uploaded), sum(uploaded.values()))

    async def _write_loose_chunks(self) -> dict[PackName, PackSummary]:
        """Gather chunks that lie scattered into new staged packs, in order of path."""
        staging = self.context.staging
        with PackSink(staging, PackKind.DATA) as data, PackSink(staging, PackKind.LISTS) as lists:
            for chunk, wanted in self.loose_chunks.items():
                raw = await _read_from_any(self.context.sources, chunk, wanted)
                sink = lists if wanted.kind == PackKind.LISTS else data
                write = partial(_append, sink, chunk, raw)
                await trio.to_thread.run_sync(write, limiter=DISK_READS)
            return data.finish() | lists.finish()

    async def _upload(
        self, packs: Sequence[PackName], progress: ByteProgress
    ) -> dict[PackName, int]:
        """Have these packs and their index in the remote; the sizes of those that went up."""
        indexed: list[IndexedPack] = []
        # Those that a push which was stopped has left there already; a name is never used twice.
        there = set(self.holdings.pack_sizes.items())
        calls = [partial(self._upload_pack, pack, indexed, progress) for pack in packs]
        await run_all(calls, at_once=_UPLOADS_AT_ONCE)
        for group in _index_groups(sorted(indexed, key=lambda pack: pack.name)):
            await self._upload_index(group)
        return {pack.name: pack.size for pack in indexed if (pack.name, pack.size) not in there}

    async def _upload_pack(
        self, pack: PackName, indexed: list[IndexedPack], progress: ByteProgress
    ) -> None:
        path = self.context.staging.path_of(pack)
        # The last moment at which a flipped bit on our disk is an error here and not a loss there.
        try:
            summary = await trio.to_thread.run_sync(verify_pack, path, limiter=_VERIFYING)
        except (IntegrityError, MalformedObject) as error:
            forget = partial(self.context.staging.forget_damaged_chunks, pack)
            await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
            raise IntegrityError(f"{error}; push again to hear which file to add again") from error
        if self.holdings.pack_sizes.get(pack) != summary.size:
            timeout = self.context.timeout_seconds + summary.size / _SLOWEST_BYTES_PER_SECOND
            await self.context.remote.put(pack_key(pack), path, timeout_seconds=timeout)
        indexed.append(IndexedPack(pack, summary.size, summary.hash, summary.table))
        progress.advance(summary.size, items=1)

    async def _upload_index(self, packs: Sequence[IndexedPack]) -> None:
        raw = await trio.to_thread.run_sync(encode_index, packs, limiter=DISK_READS)
        name = index_hash(raw)
        timeout = self.context.timeout_seconds + len(raw) / _SLOWEST_BYTES_PER_SECOND
        await self.context.remote.put(index_key(name), raw, timeout_seconds=timeout)
        keep = partial(self.holdings.index.keep_index, self.holdings.store, name, packs)
        await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)
        for pack in packs:
            self.holdings.add_pack(pack.name, pack.table)

    async def _write_manifests(self) -> None:
        known: dict[bytes, frozenset[PackName]] = {}
        calls = []
        for commit in self.commits:
            packs = await self.context.trees.collect_packs(commit.tree, self.holdings, known)
            calls.append(partial(self._write_manifest, commit.commit, packs))
        await run_all(calls, at_once=_MANIFESTS_AT_ONCE)

    async def _write_manifest(self, commit: GitId, packs: frozenset[PackName]) -> None:
        index, store = self.holdings.index, self.holdings.store
        indexes = {index.load_index_of_pack(store, pack) for pack in packs}
        manifest = Manifest(
            repository=self.context.repository,
            commit=commit,
            packs=tuple(sorted(packs)),
            indexes=tuple(sorted(name for name in indexes if name is not None)),
            features=(),
            tool=self.context.tool,
        )
        raw = encode_manifest(manifest)
        ulid = new_ulid(time.time_ns() // 1_000_000)
        await self.context.remote.put(
            manifest_key(manifest.repository, commit, ulid),
            raw,
            timeout_seconds=self.context.timeout_seconds,
        )
        index.keep_manifest(store, manifest.repository, commit, raw)

    def _settle(self) -> None:
        """Staged packs that the remote now has become part of the cache, or go."""
        staging = self.context.staging
        for staged in staging.packs():
            try:
                _, table = staging.load_table(staged.name)
            except StoreError as error:
                log.warning("a staged pack cannot be read and stays: %s", error)
                continue
            if None in self.holdings.load_packs([chunk for chunk, _ in table.rows()]):
                continue
            in_place = self.context.remote.local_path(pack_key(staged.name)) is not None
            if staged.name in self.holdings.pack_sizes and not in_place:
                self.context.cache.adopt(staged.name, staging.path_of(staged.name))
            staging.remove(staged.name, table)
        self.context.cache.flush()


async def plan_push(
    context: PushContext, commits: Sequence[Commit], progress: ByteProgress
) -> PushPlan:
    """Decide what of `commits` (parents first) the remote lacks; uploads nothing but, to a remote
    that is still empty, its `format` object. `progress` is told of files that were looked at.

    Raises LostChunk naming the path of a chunk that is nowhere to be had.
    """
    await _ensure_format(context)
    pushed = await context.catalog.fetch_pushed_commits()
    new = tuple(commit for commit in commits if commit.commit not in pushed)
    store = await context.catalog.fetch_all_indexes()
    if store is None:
        raise StoreError(f"{context.remote.url} lost its format object; push again")
    context.catalog.index.keep_pushed_commits(store, context.repository, set(pushed))
    listed = await context.remote.list_objects(
        PACKS_PREFIX, timeout_seconds=context.timeout_seconds
    )
    names = [(parse_pack_key(info.key), info.size) for info in listed]
    sizes = {name: size for name, size in names if name is not None}
    holdings = RemoteHoldings(store, sizes, context.catalog.index)
    try:
        stock = Stock(context.trees, context.staging, context.sources, context.remote.url)
        selection = await select(stock, new, holdings, progress)
    except LostChunk as error:
        _have_added_again(context, holdings, error.chunk)
        raise
    return PushPlan(
        context=context,
        commits=new,
        holdings=holdings,
        whole_packs=tuple(sorted(selection.whole_packs)),
        whole_bytes=sum(selection.whole_packs.values()),
        loose_chunks=selection.loose_chunks,
    )


def _have_added_again(context: PushContext, holdings: RemoteHoldings, lost: ChunkId) -> None:
    """Have the next `add` read every file and stage what was lost. Only after the attempt to heal
    it from here: the places in lost packs are those in the cache, too."""
    holdings.forget_unsound()
    staged = context.staging.load_place(lost)
    if staged is not None:
        context.staging.forget_damaged_chunks(staged.pack)
    context.staging.forget_file_stats()


async def _read_from_any(sources: Sequence[ChunkSource], chunk: ChunkId, wanted: Wanted) -> bytes:
    causes: list[StoreError] = []
    for source in sources:
        if source.can_read(chunk):
            try:
                return await source.read_chunk(chunk)
            except StoreError as error:
                causes.append(error)
    cause = causes[0] if causes else None
    raise LostChunk(
        f"the data of {wanted} cannot be read: {cause}; revfs add it again where the file still is",
        chunk,
    ) from cause


async def _ensure_format(context: PushContext) -> None:
    if await context.catalog.fetch_format() is None:
        if context.catalog.get_store() is not None:
            # A share that is not mounted leaves an empty folder; what went there would be hidden
            # when it is mounted again, and gone from here.
            raise StoreError(
                f"{context.remote.url} held data when it was last seen, and is empty now: is it "
                "mounted? If it was emptied on purpose, use another folder or prefix"
            )
        made = encode_remote_format(RemoteFormat(str(uuid.uuid4()), DEFAULT_CHUNKING))
        await context.remote.put(FORMAT_KEY, made, timeout_seconds=context.timeout_seconds)
        # Of two first pushes at once the later format stands, so it is read back, not remembered.
        await context.catalog.fetch_format()


def _append(sink: PackSink, chunk: ChunkId, raw: bytes) -> None:
    codec, stored = compress_chunk(raw)
    sink.append(chunk, codec, stored, len(raw))


def _index_groups(packs: Sequence[IndexedPack]) -> list[list[IndexedPack]]:
    groups: list[list[IndexedPack]] = []
    entries = 0
    for pack in packs:
        if not groups or entries + len(pack.table) > _INDEX_ENTRIES:
            groups.append([])
            entries = 0
        groups[-1].append(pack)
        entries += len(pack.table)
    return groups
