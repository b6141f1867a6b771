"""`gc` on this machine: what of the cache is evicted, which staged packs nothing needs, and what
killed runs have left. `plan_local_gc` decides, and changes nothing; the plan does it.

Removing from a remote is elsewhere.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from store.cache_rows import PackUse
from store.errors import StoreError
from store.ids import GitId
from store.local_gc_staged import FetchLists, StagedPlan, plan_staged
from store.local_store import LocalStore
from store.staging import StagedPack


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Cached packs by what becomes of them. `only_here` would be evicted, but no remote is known
    to have them, so that they may be the last copy."""

    evicted: tuple[PackUse, ...]
    kept: tuple[PackUse, ...]
    only_here: tuple[PackUse, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalGcSummary:
    """What was done: staged packs that went, and the bytes that were given back in all. `refusal`
    says why staged packs stayed of which nobody could tell whether they are needed."""

    dropped: tuple[StagedPack, ...]
    freed_bytes: int
    refusal: StoreError | None


@dataclass(frozen=True, slots=True)
class LocalGcPlan:
    """What is to be done. `leftovers` are files that killed runs have left, with their bytes."""

    local: LocalStore = field(repr=False)
    cache: CachePlan
    staged: StagedPlan
    leftovers: tuple[tuple[Path, int], ...]

    def execute(self) -> LocalGcSummary:
        """Do it, as far as it can be done: that staged packs have to stay keeps nothing else from
        going. Raises StoreError where the disk or the tables of the cache fail."""
        self.local.cache.evict_packs(use.pack for use in self.cache.evicted)
        freed = sum(use.cached_bytes for use in self.cache.evicted)
        dropped: list[StagedPack] = []
        refusal = self.staged.refusal
        try:
            dropped = self.staged.execute(self.local)
        except StoreError as error:
            refusal = error
        freed += sum(pack.size for pack in dropped)
        for path, size in self._still_left():
            path.unlink(missing_ok=True)
            freed += size
        return LocalGcSummary(tuple(dropped), freed, refusal)

    def _still_left(self) -> list[tuple[Path, int]]:
        known = dict(self.leftovers)
        return [found for found in _find_leftovers(self.local) if found[0] in known]


async def plan_local_gc(
    local: LocalStore,
    fetch_lists: FetchLists,
    *,
    everything: bool,
    now_seconds: float,
    grace_seconds: float,
    mounted: Collection[GitId] = (),
) -> LocalGcPlan:
    """Decide what can go. With `everything` all of the cache that can be fetched again, else what
    is over its budget. See `plan_staged` for the rest. Raises CacheUnusable."""
    return LocalGcPlan(
        local=local,
        cache=_plan_cache(local, everything=everything),
        staged=await plan_staged(
            local,
            fetch_lists,
            now_seconds=now_seconds,
            grace_seconds=grace_seconds,
            mounted=mounted,
        ),
        leftovers=tuple(_find_leftovers(local)),
    )


def _plan_cache(local: LocalStore, *, everything: bool) -> CachePlan:
    uses = local.cache.load_uses()
    if not everything:
        evicted = local.cache.plan_evict()
        names = {use.pack for use in evicted}
        return CachePlan(tuple(evicted), tuple(use for use in uses if use.pack not in names))
    known = local.index.load_packs_of_remotes()
    # One of which no row says that anything is here, as after a crash, is of no use to anybody.
    only_here = {
        use.pack for use in uses if use.pack not in known and local.index.load_ranges(use.pack)
    }
    return CachePlan(
        evicted=tuple(use for use in uses if use.pack not in only_here),
        kept=(),
        only_here=tuple(use for use in uses if use.pack in only_here),
    )


def _find_leftovers(local: LocalStore) -> list[tuple[Path, int]]:
    if local.staging is None:
        return []
    return [(path, path.stat().st_size) for path in local.staging.find_leftovers()]
