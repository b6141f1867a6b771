"""A bucket whose clock a test sets, and runs of everything that writes to it and takes from it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from store.clocks import Clock
from store.collection import DAY_SECONDS, CollectionRules
from store.gc import GcContext, GcPlan, GcSummary, plan_gc
from store.ids import GitId
from store.keep_policy import KeepPolicy, find_dropped
from store.local_store import LocalStore
from store.manifests import parse_manifest
from store.opening import WrapRemote
from store.push import PushContext, PushSummary, plan_push
from store.push_opening import open_push
from store.remote import INDEX_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, Remote
from store.remote_index import parse_index
from store.repack import plan_repack
from store.undo import plan_undo
from tests.fakes.buckets import Bucket, to, version
from tests.fakes.repositories import (
    REPOSITORY_ID,
    NoProgress,
    Repository,
    bucket_remote,
    commits_of,
    open_local,
    random_bytes,
    ungrouped,
)

START_SECONDS = 1_800_000_000.0


@dataclass
class Time:
    """A time that only a test moves on, for machines and buckets alike."""

    seconds: float = START_SECONDS

    def now(self) -> float:
        return self.seconds

    def pass_days(self, days: float) -> None:
        self.seconds += days * DAY_SECONDS

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self.now)


def timed_bucket(time: Time) -> Bucket:
    """A bucket of that time."""
    return Bucket(clock=time.now)


def no_progress(_: int) -> NoProgress:
    """Whom to report to, where nobody listens."""
    return NoProgress()


@dataclass
class Actor:
    """A clone with a cache of its own, and what it does to the bucket; each call of `wrap` puts
    something between the two."""

    repository: Repository
    local: LocalStore
    bucket: Bucket
    time: Time
    rules: CollectionRules = field(default_factory=lambda: CollectionRules(most_share=1.0))
    wrap: Callable[[Remote], Remote] = field(default=lambda remote: remote)

    def version(self, **contents: bytes) -> str:
        """Add files of these contents and commit them."""
        return version(self.repository, self.local, **contents)

    async def push(self, *texts: str) -> PushSummary:
        async with self.opened_to_push() as context:
            commits = commits_of(self.local.repository, *texts)
            plan = await plan_push(context, commits, NoProgress())
            return await plan.execute(no_progress)

    async def plan_gc(self, policy: KeepPolicy | None = None, *, to_act: bool = True) -> GcPlan:
        def drop(commits: Collection[GitId]) -> set[GitId]:
            return find_dropped(self.local.repository, policy or KeepPolicy(), commits)

        async with self.opened() as context:
            gc = GcContext(context.remote, REPOSITORY_ID, "test", 20.0, self.rules, self.time.clock)
            return await plan_gc(gc, drop, to_act=to_act)

    async def gc(self, policy: KeepPolicy | None = None) -> GcSummary:
        return await (await self.plan_gc(policy)).execute()

    async def repack(self) -> int:
        """How many packs were written anew."""
        gc = await self.plan_gc(to_act=False)
        async with self.opened_to_push() as context:
            plan = await plan_repack(context, gc, self.local.repository, NoProgress())
            if plan.packs:
                await plan.execute(context, NoProgress(), no_progress)
            return len(plan.packs)

    async def undo(self, *commits: str) -> PushSummary:
        async with self.opened_to_push() as context:
            wanted = {GitId(commit) for commit in commits} or None
            plan = await plan_undo(context, self.local.repository, wanted)
            return await plan.execute(context, NoProgress(), no_progress)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[PushContext]:
        wrap: WrapRemote = to(self.wrap(self.bucket))
        opened = open_push(
            self.local, REPOSITORY_ID, "test", wrap_remote=wrap, clock=self.time.clock
        )
        with ungrouped():
            async with opened as context:
                yield context

    @contextlib.asynccontextmanager
    async def opened_to_push(self) -> AsyncIterator[PushContext]:
        """As the verbs do it: one writer of a clone at a time."""
        assert self.local.staging is not None
        with self.local.staging.locked("push"):
            async with self.opened() as context:
                yield context


@contextlib.contextmanager
def actor(repository: Repository, cache: Path, bucket: Bucket, time: Time) -> Iterator[Actor]:
    """An actor whose cache is at `cache`."""
    with open_local(repository, cache, bucket_remote()) as local:
        yield Actor(repository, local, bucket, time)


async def two_versions(who: Actor, time: Time) -> tuple[str, str]:
    """`a` in two versions and `b` in both, each in a pack of its own, pushed some days ago."""
    who.version(b=random_bytes(300_000, 2))
    await who.push()
    old = who.version(a=random_bytes(5000, 1))
    await who.push()
    new = who.version(a=random_bytes(5000, 3))
    await who.push()
    time.pass_days(2)
    return old, new


async def half_dead_pack(who: Actor, time: Time) -> str:
    """A commit that needs `a` of a pack, and no more of `b`, which is nearly all of it."""
    who.version(a=random_bytes(5000, 1), b=random_bytes(300_000, 2))
    await who.push()
    last = who.version(b=random_bytes(300_000, 9))
    await who.push()
    time.pass_days(2)
    return last


def keep(*commits: str) -> KeepPolicy:
    return KeepPolicy(commits=tuple(GitId(commit) for commit in commits))


def indexed_packs(bucket: Bucket) -> set[str]:
    keys = bucket.keys(INDEX_PREFIX)
    return {pack.name for key in keys for pack in parse_index(bucket.objects[key][0])}


def packs_in(bucket: Bucket) -> set[str]:
    return {key.rpartition("/")[2] for key in bucket.keys(PACKS_PREFIX)}


def assert_nothing_is_missing(bucket: Bucket) -> None:
    """Every pack that a manifest names is there, and in an index object."""
    for key in bucket.keys(MANIFESTS_PREFIX):
        needed = set(parse_manifest(bucket.objects[key][0]).packs)
        assert needed <= packs_in(bucket)
        assert needed <= indexed_packs(bucket)
