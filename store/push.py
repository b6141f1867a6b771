"""`push`: what commits need and a remote lacks goes up, in the order packs → index → manifest.

    lease → look → packs → index objects → look → manifests → look → drop the lease

The manifest is the commit point: it is written last, so a push that stops anywhere before leaves
packs that nothing names yet, and never a commit that is named but incomplete. A look that finds a
pack gone or condemned on which the push relies sends it back to the packs.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from store.catalog import Catalog
from store.chunking import DEFAULT_CHUNKING
from store.clocks import Clock
from store.codec import compress_chunk
from store.concurrency import DISK_READS, TABLE_WRITES
from store.errors import StoreError
from store.git import Commit
from store.ids import ChunkId, GitId, PackName, pack_name_from_bytes
from store.leases import HeldLease, LeaseKind, new_lease, take_lease
from store.looks import take_look
from store.pack_cache import PackCache
from store.pack_sink import PackSink
from store.packs import PackKind, PackSummary
from store.progress import ByteProgress
from store.push_contents import LostChunk, ReadsChunks, TreeContents, Wanted
from store.push_manifests import ManifestWriter, Needs, PacksChanged
from store.push_selection import Selection, Stock, select
from store.push_uploads import Uploads
from store.remote import FORMAT_KEY, Remote, pack_key
from store.remote_format import RemoteFormat, encode_remote_format
from store.remote_holdings import RemoteHoldings
from store.staging import Staging

log = logging.getLogger(__name__)

# Collectors do not come by this often; who is disturbed more often is up against something else.
_ROUNDS = 4

ProgressTo = Callable[[int], ByteProgress]


@dataclass(frozen=True, slots=True)
class PushContext:
    """What a push works with. `sources` give chunks that must be written into new packs: staged
    packs, the cache, the other remotes of the repository; `itself` gives those that only packs of
    this very remote still have, on which it cannot rely."""

    repository: str
    tool: str
    remote: Remote
    catalog: Catalog
    staging: Staging
    cache: PackCache
    trees: TreeContents
    sources: Sequence[ReadsChunks]
    itself: ReadsChunks
    timeout_seconds: float
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True)
class PushSummary:
    """What was done: commits that now have a manifest, packs and bytes uploaded."""

    commits: int
    packs: int
    uploaded_bytes: int


@dataclass(frozen=True, slots=True)
class Again:
    """Commits get a manifest although they have one, that names none of the packs `avoided`."""

    avoided: frozenset[PackName] = frozenset()


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What is to be done, oldest commit first: staged packs that go up as they are, and chunks to
    be written into new packs first, from partly needed staged packs or from elsewhere.

    The lease is held from the first look on; None where there is nothing to push.
    """

    context: PushContext
    commits: tuple[Commit, ...]
    holdings: RemoteHoldings
    stock: Stock
    selection: Selection
    lease: HeldLease | None

    async def execute(
        self,
        progress_to: ProgressTo,
        afterwards: Callable[[HeldLease], Awaitable[None]] | None = None,
    ) -> PushSummary:
        """Do it. `progress_to` is told how many bytes go up and gives whom to report to;
        `afterwards` is done while the lease is held, once all manifests are there for good.

        Raises StoreError; what was uploaded by then is found and used by the next push.
        """
        if self.lease is None:
            # A push whose last answer was lost has left its packs staged.
            await trio.to_thread.run_sync(self._settle, limiter=TABLE_WRITES)
            return PushSummary(0, 0, 0)
        try:
            uploaded = await self._push(self.lease, progress_to)
            if afterwards is not None:
                await afterwards(self.lease)
        finally:
            await self.lease.drop()
        await trio.to_thread.run_sync(self._settle, limiter=TABLE_WRITES)
        return PushSummary(len(self.commits), len(uploaded), sum(uploaded.values()))

    async def _push(self, lease: HeldLease, progress_to: ProgressTo) -> dict[PackName, int]:
        """Go round until a look finds all as it should be; the sizes of what was uploaded."""
        context, selection = self.context, self.selection
        uploads = Uploads(
            context.remote, context.staging, self.holdings, lease, context.timeout_seconds
        )
        writer = ManifestWriter(
            context.repository,
            context.tool,
            context.remote,
            self.holdings,
            lease,
            context.timeout_seconds,
            context.clock,
        )
        uploaded: dict[PackName, int] = {}
        written: Needs = {}
        for _ in range(_ROUNDS):
            uploaded |= await self._upload(uploads, selection, progress_to)
            needs = await self._collect_needs()
            try:
                await writer.look_again(needs)
                await writer.write({c: p for c, p in needs.items() if written.get(c) != p})
                written = needs
                await writer.look_again(needs)
                return uploaded
            except PacksChanged:
                log.info("a collector has condemned packs that this push relied on; once more")
                selection = await select(self.stock, self.commits, self.holdings, progress_to(0))
        raise StoreError(
            f"{context.remote.url}: packs that this push needs went away {_ROUNDS} times while it "
            "was at work; push again, and look who else deletes there"
        )

    async def _upload(
        self, uploads: Uploads, selection: Selection, progress_to: ProgressTo
    ) -> dict[PackName, int]:
        try:
            written = await self._write_loose_chunks(selection)
        except LostChunk as error:
            _have_added_again(self.context, self.holdings, error.chunk)
            raise
        size = sum(selection.whole_packs.values())
        size += sum(summary.size for summary in written.values())
        packs = [*sorted(selection.whole_packs), *written]
        return await uploads.upload(packs, progress_to(size))

    async def _write_loose_chunks(self, selection: Selection) -> dict[PackName, PackSummary]:
        """Gather chunks that lie scattered into new staged packs, in order of path."""
        staging = self.context.staging
        with PackSink(staging, PackKind.DATA) as data, PackSink(staging, PackKind.LISTS) as lists:
            for chunk, wanted in selection.loose_chunks.items():
                raw = await _read_from_any(self.stock.sources, chunk, wanted)
                sink = lists if wanted.kind == PackKind.LISTS else data
                write = partial(_append, sink, chunk, raw)
                await trio.to_thread.run_sync(write, limiter=DISK_READS)
            return data.finish() | lists.finish()

    async def _collect_needs(self) -> dict[GitId, frozenset[PackName]]:
        known: dict[bytes, frozenset[PackName]] = {}
        trees = self.context.trees
        return {
            commit.commit: await trees.collect_packs(commit.tree, self.holdings, known)
            for commit in self.commits
        }

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
            if self.holdings.size_of(staged.name) is not None and not in_place:
                self.context.cache.adopt(staged.name, staging.path_of(staged.name))
            staging.remove(staged.name, table)
        self.context.cache.flush()


async def plan_push(
    context: PushContext,
    commits: Sequence[Commit],
    progress: ByteProgress,
    again: Again | None = None,
) -> PushPlan:
    """Decide what of `commits` (parents first) the remote lacks; uploads nothing but a lease and,
    to a remote that is still empty, its `format` object. `progress` is told of files that were
    looked at. Who does not execute the plan drops its lease.

    With `again` the commits get new manifests whether they have one or not, and what only the packs
    that it avoids have counts as missing.

    Raises LostChunk naming the path of a chunk that is nowhere to be had.
    """
    await _ensure_format(context)
    pushed = await context.catalog.fetch_pushed_commits()
    new = tuple(commit for commit in commits if again or commit.commit not in pushed)
    lease = None
    if new:
        record = new_lease(LeaseKind.WRITE, context.tool)
        timeout = context.timeout_seconds
        lease, _ = await take_lease(context.remote, record, timeout, context.clock)
    try:
        avoided = frozenset() if again is None else again.avoided
        holdings = await take_stock(context, avoided)
        context.catalog.index.keep_pushed_commits(holdings.store, context.repository, set(pushed))
        sources: list[ReadsChunks] = [*context.sources, _StillThere(context.itself, holdings)]
        stock = Stock(context.trees, context.staging, sources, context.remote.url)
        try:
            selection = await select(stock, new, holdings, progress)
        except LostChunk as error:
            _have_added_again(context, holdings, error.chunk)
            raise
    except BaseException:
        if lease is not None:
            await lease.drop()
        raise
    return PushPlan(context, new, holdings, stock, selection, lease)


async def take_stock(
    context: PushContext, avoided: frozenset[PackName] = frozenset()
) -> RemoteHoldings:
    """What the remote holds, by a first look at it. What is known here of each chunk is then a pack
    that may be relied on, if there is one."""
    timeout = context.timeout_seconds
    look = await take_look(context.remote, timeout, context.clock)
    for anew in (False, True):
        listed = await context.catalog.fetch_listed_indexes(anew=anew)
        if listed is None:
            raise StoreError(f"{context.remote.url} lost its format object; push again")
        holdings = RemoteHoldings(listed, look, context.catalog.index, avoided)
        if not holdings.find_unlisted():
            break
    await trio.to_thread.run_sync(holdings.move_to_sound, limiter=TABLE_WRITES)
    return holdings


@dataclass(frozen=True, slots=True)
class _StillThere:
    """Chunks of packs that are in the remote, whatever else is wrong with them: condemned ones stay
    readable for as long as they are there."""

    inner: ReadsChunks
    holdings: RemoteHoldings

    def can_read(self, chunk: ChunkId) -> bool:
        """Whether a pack that is known to have it is in the remote."""
        (span,) = self.holdings.index.load_spans(self.holdings.store, [chunk])
        if span is None:
            return False
        return self.holdings.size_of(pack_name_from_bytes(span.pack)) is not None

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """The whole chunk."""
        return await self.inner.read_chunk(chunk)


def _have_added_again(context: PushContext, holdings: RemoteHoldings, lost: ChunkId) -> None:
    """Have the next `add` read every file and stage what was lost. Only after the attempt to heal
    it from here: the places in lost packs are those in the cache, too."""
    holdings.forget_unsound()
    staged = context.staging.load_place(lost)
    if staged is not None:
        context.staging.forget_damaged_chunks(staged.pack)
    context.staging.forget_file_stats()


async def _read_from_any(sources: Iterable[ReadsChunks], chunk: ChunkId, wanted: Wanted) -> bytes:
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
