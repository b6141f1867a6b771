"""`gc` of a remote: forget what a policy drops, condemn what no manifest names, delete what has
been condemned for the grace.

    lease → tombs, packs, leases, manifests, trash (store.collector_marks) → decide → show
    → forget → condemn → index objects → packs → old tombs, old trash, dead leases → drop the lease

Roots are the manifests in the remote, never a local clone: what a clone knows decides only which of
its own repository's manifests are forgotten. DESIGN says why the order is this one.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial

from store.clocks import Clock
from store.collection import CollectionRules, Decisions, decide
from store.collector_marks import Marks, MarkTaker
from store.concurrency import run_all
from store.errors import Busy, StoreError
from store.ids import GitId, PackName
from store.leases import HeldLease, LeaseKind, LeaseSeen, new_lease, take_lease
from store.manifests import encode_manifest
from store.outdated_indexes import OutdatedIndexes
from store.remote import Remote, manifests_prefix, pack_key, tomb_key, trash_key
from store.sealed_text import seal

log = logging.getLogger(__name__)

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class GcContext:
    """What a collector works with; `repository` is the one whose manifests he may forget."""

    remote: Remote
    repository: str
    tool: str
    timeout_seconds: float
    rules: CollectionRules = field(default_factory=CollectionRules)
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True)
class GcSummary:
    """What was done: manifests forgotten, packs condemned and deleted, bytes given back."""

    forgotten: int
    condemned: int
    deleted: int
    deleted_bytes: int


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What is to be done, decided from `marks`. `lease` is None for a plan that is only shown;
    who has one and does not execute the plan drops it."""

    context: GcContext
    marks: Marks
    decisions: Decisions
    lease: HeldLease | None

    @property
    def forgotten_commits(self) -> set[GitId]:
        """The commits of this repository that are forgotten in this run."""
        return {self.marks.manifests[key].commit for key in self.decisions.forget}

    async def execute(self, more_bytes: int = 0) -> GcSummary:
        """Do it. Raises StoreError where more would go than the rules allow at once, before
        anything is done, and where a call fails; the next run goes on from there. `more_bytes` are
        to go by other ways, and count with them."""
        assert self.lease is not None, "this plan was made to be shown"
        try:
            self._require_moderate(more_bytes)
            await self._act()
        finally:
            await self.lease.drop()
        decisions = self.decisions
        return GcSummary(
            len(decisions.forget),
            len(decisions.condemn),
            len(decisions.delete),
            sum(decisions.delete.values()),
        )

    def _require_moderate(self, more_bytes: int) -> None:
        total, most = self.decisions.total_bytes, self.context.rules.most_share
        share = (sum(self.decisions.condemn.values()) + more_bytes) / total if total else 0.0
        if share > most:
            raise StoreError(
                f"{share:.0%} of the bytes in {self.context.remote.url} would go, more than "
                f"{most:.0%}; nothing was done. If that is meant: --max-delete "
                f"{math.ceil(share * 100)}%"
            )

    async def _act(self) -> None:
        decisions, lease, timeout = self.decisions, self.lease, self.context.timeout_seconds
        assert lease is not None
        await self._all(self._forget, decisions.forget)
        await self._all(self._condemn, decisions.condemn)
        if decisions.delete:
            await OutdatedIndexes(self.context.remote, lease, timeout).replace(decisions.delete)
        gone = [*map(pack_key, decisions.delete), *map(tomb_key, decisions.clear)]
        await lease.delete_all([*gone, *decisions.purge, *decisions.leases], timeout)

    async def _forget(self, key: str) -> None:
        """First into the trash, then away: at any moment it is in one of the two."""
        raw = encode_manifest(self.marks.manifests[key])
        await self.context.remote.put(trash_key(key), raw, timeout_seconds=self._timeout())
        await self._delete(key)

    async def _condemn(self, pack: str) -> None:
        context = self.context
        await put_tomb(context.remote, PackName(pack), context.tool, self._timeout())

    async def _delete(self, key: str) -> None:
        await self.context.remote.delete(key, timeout_seconds=self._timeout())

    def _timeout(self) -> float:
        assert self.lease is not None
        return self.lease.require(self.context.timeout_seconds)

    async def _all(self, call: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
        await run_all([partial(call, name) for name in names], at_once=_AT_ONCE)


async def put_tomb(remote: Remote, pack: PackName, tool: str, timeout_seconds: float) -> None:
    """Condemn a pack. That its tomb is there is what counts; what it says is for people."""
    raw = seal("tomb", 1, {"pack": pack, "tool": tool})
    await remote.put(tomb_key(pack), raw, timeout_seconds=timeout_seconds)


FindDropped = Callable[[Collection[GitId]], Collection[GitId]]
"""Of the commits that have a manifest, those that nobody wants any more."""


async def plan_gc(context: GcContext, find_dropped: FindDropped, *, to_act: bool) -> GcPlan:
    """Look at the remote and decide. With `to_act` a lease is taken, which the plan holds; without
    it nothing is written, and the time is that of this machine.

    Raises Busy where another collector is at work.
    """
    if not to_act:
        return await _plan(context, find_dropped, None, context.clock.wall())
    record = new_lease(LeaseKind.COLLECT, context.tool)
    lease, _ = await take_lease(context.remote, record, context.timeout_seconds, context.clock)
    try:
        return await _plan(context, find_dropped, lease, lease.now_seconds)
    except BaseException:
        await lease.drop()
        raise


async def _plan(
    context: GcContext, find_dropped: FindDropped, lease: HeldLease | None, now_seconds: float
) -> GcPlan:
    own = None if lease is None else lease.key
    marks = await MarkTaker(context.remote, context.timeout_seconds, own).take(now_seconds)
    others = marks.live_leases(LeaseKind.COLLECT)
    if lease is not None and others:
        raise Busy(_say_busy(context.remote.url, others[0]))
    prefix = manifests_prefix(context.repository)
    ours = {key: m.commit for key, m in marks.manifests.items() if key.startswith(prefix)}
    dropped = set(find_dropped(set(ours.values())))
    forget = [key for key, commit in ours.items() if commit in dropped]
    return GcPlan(context, marks, decide(marks, forget, context.rules), lease)


def _say_busy(url: str, other: LeaseSeen) -> str:
    host = "somewhere" if other.lease is None else f"on {other.lease.host}"
    minutes = LeaseKind.COLLECT.life_seconds / 60
    return (
        f"another gc of {url} is at work {host}; wait for its end. If it was killed, its lease "
        f"({other.key}) ends {minutes:g} minutes after it began"
    )
