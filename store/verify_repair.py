"""`verify --repair`: what a remote lost is put back from copies, and never over anything.

A pack that is damaged is not touched: what is needed of it goes into new packs, by a push of the
commits that it hurts which distrusts it. Packs whose index object is lost get a new one, from their
own tables. In this order: index objects for packs that are there, then the push (packs → index →
manifests), and only then what the new manifests have replaced goes, and the tombs are set.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from store.chunk_list import ChunkList
from store.concurrency import DISK_READS, TABLE_WRITES
from store.copies import Copies, SalvagedCopies, WorkTreeCopies, all_chunks
from store.errors import ChunkMissing, RemoteError, StoreError
from store.gc import put_tomb
from store.git import Commit
from store.ids import ChunkId, GitId, PackName
from store.leases import HeldLease
from store.manifests import manifest_key
from store.pointer import Pointer
from store.progress import ByteProgress
from store.push import Again, PushContext, PushSummary, plan_push
from store.push_contents import TreeContents, WantedFile
from store.push_uploads import index_groups
from store.remote import FORMAT_KEY, index_key, pack_key
from store.remote_index import IndexedPack, encode_index, index_hash
from store.retry import get_upload_seconds
from store.verification import CommitLook, Verification
from store.verify_blame import NOT_PUSHED
from store.verify_lists import ListReader
from store.verify_packs import Claim
from store.verify_places import PlaceBook, Places

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RepairContext:
    """What a repair works with. `push` is the context of a push to the remote; its sources and
    trees are not used. `kept_format` is the remote's `format` object as last seen from here."""

    push: PushContext
    book: PlaceBook
    copies: Copies
    salvage: SalvagedCopies
    work_tree: WorkTreeCopies
    lists: ListReader
    kept_format: bytes | None


@dataclass(slots=True)
class RepairPlan:
    """What can be put back, and how. `commits` get new manifests; `distrusted` packs are replaced;
    `indexed` get a new index object, `claimed` have one that can be used (by its name, with what it
    says of them). `lost` are files (path, commit) of which there is no copy, `gone` keys that
    nothing needs after that."""

    context: RepairContext
    commits: list[Commit] = field(default_factory=list)
    distrusted: frozenset[PackName] = frozenset()
    unindexed: list[PackName] = field(default_factory=list)
    indexed: list[IndexedPack] = field(default_factory=list)
    claimed: dict[str, dict[PackName, Claim]] = field(default_factory=dict)
    lost: dict[ChunkId, tuple[bytes, str]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    tombs: list[PackName] = field(default_factory=list)
    put_format: bool = False
    not_pushed: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that can be done."""
        return not (self.commits or self.indexed or self.gone or self.tombs or self.put_format)

    async def execute(self, progress_to: Callable[[int | None], ByteProgress]) -> PushSummary:
        """Do it. `progress_to` is told how many bytes go up, as far as that is known. Raises
        StoreError; what was put by then is found and used by the next repair."""
        push = self.context.push
        if self.put_format and self.context.kept_format is not None:
            await self._put(FORMAT_KEY, self.context.kept_format)
        store = await self._forget()
        for group in index_groups(self.indexed):
            await self._put_index(store, group)
        context, again = self._push_context(push), Again(self.distrusted)
        plan = await plan_push(context, self.commits, progress_to(None), again)
        if plan.lease is not None:
            return await plan.execute(progress_to, self._clear)
        await self._clear(None)
        return await plan.execute(progress_to)

    def _push_context(self, push: PushContext) -> PushContext:
        lists = _Lists(self.context)
        trees = TreeContents(push.trees.directories, [lists], frozenset(self.lost))
        return replace(push, trees=trees, sources=[self.context.copies, self.context.salvage])

    async def _forget(self) -> str:
        """Have the cache index know what the remote holds, and nothing more; the store id."""
        catalog = self.context.push.catalog
        found = await catalog.fetch_format()
        if found is None:
            raise StoreError(f"{catalog.remote.url} has no format object, and none is known here")
        for pack in (*self.distrusted, *self.unindexed):
            forget = partial(catalog.index.forget_pack, found.store, pack)
            await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
        # Before new index objects are put: what is said of a pack last is what manifests name.
        await catalog.fetch_all_indexes()
        for index, claims in self.claimed.items():
            again = self._load_claimed(claims)
            keep = partial(catalog.index.keep_index, found.store, index, again)
            await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)
        return found.store

    def _load_claimed(self, claims: Mapping[PackName, Claim]) -> list[IndexedPack]:
        tables = {name: self.context.book.load_table(name) for name in claims}
        return [
            IndexedPack(name, claims[name].size, claims[name].hash, table)
            for name, table in tables.items()
            if table is not None
        ]

    async def _put_index(self, store: str, packs: Sequence[IndexedPack]) -> None:
        raw = await trio.to_thread.run_sync(encode_index, packs, limiter=DISK_READS)
        name = index_hash(raw)
        await self._put(index_key(name), raw)
        keep = partial(self.context.push.catalog.index.keep_index, store, name, packs)
        await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)

    async def _put(self, key: str, raw: bytes) -> None:
        push = self.context.push
        timeout = get_upload_seconds(len(raw), push.timeout_seconds)
        await push.remote.put(key, raw, timeout_seconds=timeout)

    async def _clear(self, lease: HeldLease | None) -> None:
        """Remove what was replaced, and condemn what is damaged, while the lease of the push is
        held. Who may not do that has repaired all the same."""
        push = self.context.push
        seconds = push.timeout_seconds
        try:
            for key in self.gone:
                timeout = seconds if lease is None else lease.require(seconds)
                await push.remote.delete(key, timeout_seconds=timeout)
            for pack in self.tombs:
                timeout = seconds if lease is None else lease.require(seconds)
                await put_tomb(push.remote, pack, push.tool, timeout)
        except RemoteError as error:
            log.warning("all is repaired, but what was replaced is still there: %s", error)


async def plan_repair(
    found: Verification, context: RepairContext, progress: ByteProgress
) -> RepairPlan:
    """Decide what can be put back of what is damaged or missing. Reads every copy that it counts.

    Raises RemoteError; changes nothing.
    """
    plan = RepairPlan(context)
    if found.inventory.format is None and context.kept_format is None:
        # Nobody can say any more which store this is, nor how its files are cut.
        return plan
    plan.distrusted = frozenset(
        name for name in found.checks if found.findings.get(pack_key(name)) is not None
    )
    hurt = [look for look in found.commits if _needs_manifest(found, look)]
    plan.not_pushed = sum(not _can_renew(found, context, look) for look in hurt)
    looks = [look for look in hurt if _can_renew(found, context, look)]
    plan.commits = [look.commit for look in looks]
    _plan_indexes(plan, found, looks)
    await _Search(plan, progress).run()
    _plan_removal(plan, found, looks)
    plan.put_format = found.inventory.format is None and context.kept_format is not None
    return plan


def _needs_manifest(found: Verification, look: CommitLook) -> bool:
    if look.tree is None or look.git_is_damaged:
        return False
    if look.hurt or look.manifest is None:
        return True
    keys = (*map(index_key, look.manifest.indexes), *map(pack_key, look.manifest.packs))
    return any(found.findings.get(key) is not None for key in keys)


def _can_renew(found: Verification, context: RepairContext, look: CommitLook) -> bool:
    """Whether the commit ever had a manifest: to push another one is not to repair."""
    key = manifests_place(context, look.commit.commit)
    finding = found.findings.get(key)
    return finding is None or finding.problem != NOT_PUSHED


def manifests_place(context: RepairContext, commit: GitId) -> str:
    """Where the manifests of a commit lie."""
    return manifest_key(context.push.repository, commit, "")


def _plan_indexes(plan: RepairPlan, found: Verification, looks: Sequence[CommitLook]) -> None:
    """Packs that are sound and have no index object that can be used, or only one that tells of
    distrusted packs, too: who reads it would find their chunks there first."""
    needed: set[PackName] = set()
    for look in looks:
        needed |= look.tree.packs if look.tree is not None else set()
        needed |= set(look.manifest.packs) if look.manifest is not None else set()
    for name in sorted(needed - plan.distrusted):
        check, table = found.checks.get(name), plan.context.book.load_table(name)
        if check is None or table is None:
            continue
        claim = check.claim
        if claim is None and check.hash is not None:
            plan.unindexed.append(name)
            plan.indexed.append(IndexedPack(name, check.size, check.hash, table))
        elif claim is not None and found.index.listed[claim.index] & plan.distrusted:
            plan.indexed.append(IndexedPack(name, claim.size, claim.hash, table))
        elif claim is not None:
            plan.claimed.setdefault(claim.index, {})[name] = claim


def _plan_removal(plan: RepairPlan, found: Verification, looks: Sequence[CommitLook]) -> None:
    """The manifests that are replaced, of commits that are whole again, and what is damaged past
    use. While anything is lost, old manifests keep what is left of it."""
    for look in looks:
        commit = look.commit.commit
        ulids = found.inventory.manifests.get(commit, ())
        for ulid, manifest in zip(ulids, look.manifests, strict=True):
            if manifest is None or not plan.lost:
                plan.gone.append(manifest_key(plan.context.push.repository, commit, ulid))
    # Written anew by then, where its packs are the very same: its name allows for nothing else.
    anew = {index_hash(encode_index(group)) for group in index_groups(plan.indexed)}
    for name in sorted(found.inventory.indexes - found.index.listed.keys() - anew):
        if found.findings.get(index_key(name)) is not None:
            plan.gone.append(index_key(name))
    plan.tombs = sorted(name for name in plan.distrusted if name in found.inventory.packs)


class _Search:
    """Looks for copies of all that the commits of a plan need and only distrusted packs have."""

    def __init__(self, plan: RepairPlan, progress: ByteProgress) -> None:
        self._plan = plan
        self._context = plan.context
        self._progress = progress
        self._usable = {pack.name for pack in plan.indexed}

    async def run(self) -> None:
        trees = TreeContents(self._context.push.trees.directories, [])
        for files in trees.new_files(self._plan.commits):
            contents = self._context.book.load([file.pointer.content for file in files])
            pointers = [file.pointer for file in files]
            lists = await self._context.lists.read(pointers, contents)
            for file, places in zip(files, contents, strict=True):
                await self._look_at(file, places, lists.get(file.pointer.content))
            self._progress.advance(0, items=len(files))

    async def _look_at(
        self, file: WantedFile, places: Places, chunk_list: ChunkList | None
    ) -> None:
        pointer = file.pointer
        is_offered = not self._is_held(places)
        if is_offered or (pointer.chunks > 1 and chunk_list is None):
            chunk_list = await self._context.work_tree.offer(file, chunk_list)
            is_offered = True
        if pointer.chunks > 1 and chunk_list is None:
            self._lose(file)
            return
        chunks = all_chunks(pointer, chunk_list)
        found = zip(chunks, self._context.book.load(chunks), strict=True)
        lacking = [chunk for chunk, where in found if not self._is_held(where)]
        if lacking and not is_offered:
            await self._context.work_tree.offer(file, chunk_list)
        for chunk in lacking:
            if not await self._context.copies.find(chunk):
                self._lose(file)
                return

    def _lose(self, file: WantedFile) -> None:
        self._plan.lost[file.pointer.content] = file.why.path, file.why.commit

    def _is_held(self, places: Places) -> bool:
        """Whether a pack that can be relied on has the chunk."""
        distrusted = self._plan.distrusted
        if any(place.pack not in distrusted for place in places.sound):
            return True
        return any(place.pack in self._usable for place in places.damaged)


class _Lists:
    """Chunk lists for the push: from here, from sound packs, or made anew."""

    def __init__(self, context: RepairContext) -> None:
        self._context = context

    async def read_chunk_list(self, pointer: Pointer) -> ChunkList:
        """See ReadsLists."""
        places = self._context.book.load([pointer.content])
        lists = await self._context.lists.read([pointer], places)
        found = lists.get(pointer.content) or self._context.work_tree.known_list(pointer)
        if found is None:
            raise ChunkMissing(f"chunk list {pointer.content.hex()} is not to be had")
        return found
