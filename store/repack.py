"""Repacking: packs of which less than half is still needed are written anew, without the rest.

It is a push of what is there already: the chunks go into new packs, an index object and manifests
that no longer name the old packs, by the same rules (`store.push`); then the old manifests go, and
the old packs are condemned like any other. Only packs are taken of which this clone can tell what
each manifest that names them needs.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from store.concurrency import TABLE_WRITES, run_all
from store.gc import GcPlan, put_tomb
from store.git import Commit, GitRepository
from store.ids import PackName, pack_name_from_bytes
from store.leases import HeldLease
from store.manifests import Manifest
from store.progress import ByteProgress
from store.push import Again, ProgressTo, PushContext, PushSummary, plan_push, take_stock
from store.remote import manifests_prefix

MOST_LIVE_SHARE = 0.5
"""A pack of which this part is needed, or more, stays as it is."""

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class RepackPlan:
    """`packs`: what is written anew, with the bytes of each that are needed; `total_bytes`: of all
    of them; `commits`, parents first, whose `manifests` (keys) are replaced."""

    packs: Mapping[PackName, int]
    total_bytes: int
    commits: tuple[Commit, ...]
    manifests: tuple[str, ...]

    @property
    def live_bytes(self) -> int:
        """The bytes that are written anew."""
        return sum(self.packs.values())

    @property
    def dead_bytes(self) -> int:
        """The bytes that nobody needs, and that go with the old packs."""
        return self.total_bytes - self.live_bytes

    async def execute(
        self, context: PushContext, progress: ByteProgress, progress_to: ProgressTo
    ) -> PushSummary:
        """Do it. Raises StoreError; the old packs are then as they were."""
        again = Again(frozenset(self.packs))
        plan = await plan_push(context, self.commits, progress, again)
        return await plan.execute(progress_to, partial(self._replace, context))

    async def _replace(self, context: PushContext, lease: HeldLease) -> None:
        """The old manifests go, and only then the old packs get their tombs."""
        remote, seconds = context.remote, context.timeout_seconds

        async def condemn(pack: PackName) -> None:
            await put_tomb(remote, pack, context.tool, lease.require(seconds))

        await lease.delete_all(self.manifests, seconds)
        await run_all([partial(condemn, pack) for pack in self.packs], at_once=_AT_ONCE)


async def plan_repack(
    context: PushContext, gc: GcPlan, repository: GitRepository, progress: ByteProgress
) -> RepackPlan:
    """Which packs to write anew once that collection is done. Reads chunk lists where it must;
    `progress` is told of files that were looked at."""
    kept = {k: m for k, m in gc.marks.manifests.items() if k not in set(gc.decisions.forget)}
    known = _known_commits(repository, context.repository, kept.values())
    candidates = _candidates(gc, kept, known)
    if not candidates:
        return RepackPlan({}, 0, (), ())
    store = (await take_stock(context)).store
    asked = {m.commit for m in kept.values() if not candidates.isdisjoint(m.packs)}
    commits = tuple(c for c in repository.history(asked) if c.commit in asked)
    live = await _measure(context, store, commits, candidates, progress)
    sizes = {pack: gc.marks.packs[pack].size for pack in candidates}
    packs = {p: live.get(p, 0) for p in candidates if live.get(p, 0) < MOST_LIVE_SHARE * sizes[p]}
    replaced = {key: m for key, m in kept.items() if not packs.keys().isdisjoint(m.packs)}
    named = {m.commit for m in replaced.values()}
    return RepackPlan(
        packs=packs,
        total_bytes=sum(sizes[pack] for pack in packs),
        commits=tuple(commit for commit in commits if commit.commit in named),
        manifests=tuple(sorted(replaced)),
    )


def _known_commits(
    repository: GitRepository, repository_id: str, manifests: Iterable[Manifest]
) -> set[str]:
    """The commits of this repository, as a manifest's key begins, that this clone has."""
    commits = {found.commit for found in manifests if found.repository == repository_id}
    return {
        manifests_prefix(repository_id, commit)
        for commit in commits
        if repository.refs.find_commit(commit) is not None
    }


def _candidates(gc: GcPlan, kept: Mapping[str, Manifest], known: Collection[str]) -> set[PackName]:
    """The packs that are old enough, not condemned, and named by manifests of known commits
    alone."""
    youngest = gc.marks.now_seconds - gc.context.rules.pack_age_seconds
    named: set[PackName] = set()
    unknown: set[PackName] = set()
    for manifest in kept.values():
        prefix = manifests_prefix(manifest.repository, manifest.commit)
        (named if prefix in known else unknown).update(manifest.packs)
    return {
        pack
        for pack in named - unknown
        if pack in gc.marks.packs
        and pack not in gc.marks.tombs
        and gc.marks.packs[pack].modified_seconds <= youngest
    }


async def _measure(
    context: PushContext,
    store: str,
    commits: Collection[Commit],
    candidates: Collection[PackName],
    progress: ByteProgress,
) -> dict[PackName, int]:
    """The bytes of each candidate that the commits need."""
    index = context.catalog.index
    starts: defaultdict[bytes, set[int]] = defaultdict(set)
    raw_names = {bytes.fromhex(pack) for pack in candidates}
    for files in context.trees.new_files(tuple(commits)):
        chunks = await context.trees.load_chunks(files)
        for span in index.load_spans(store, chunks):
            if span is not None and span.pack in raw_names:
                starts[span.pack].add(span.start)
        progress.advance(0, items=len(files))
        await trio.lowlevel.checkpoint()
    live = {}
    for raw_name, needed in starts.items():
        pack = pack_name_from_bytes(raw_name)
        load = partial(index.load_pack_table, store, pack)
        table = await trio.to_thread.run_sync(load, limiter=TABLE_WRITES)
        rows = () if table is None else table
        live[pack] = sum(entry.stored_length for entry in rows if entry.offset in needed)
    return live
