"""What a collector of a remote does next: decided here, from what he saw. Pure.

A pack has one way to go: live → condemned (it has a tomb) → deleted. It is condemned when no
manifest names it, and deleted when it was condemned for the grace and is still not named by any.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from store.collector_marks import Forgotten, Marks
from store.errors import StoreError
from store.ids import PackName
from store.leases import LeaseKind
from store.looks import LOOK_LIFE_SECONDS
from store.manifests import Manifest

DAY_SECONDS = 24 * 3600.0
LEAST_GRACE_SECONDS = 2 * LOOK_LIFE_SECONDS
"""A writer may rely on what he saw for as long as a look lives, and a call may be late."""


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """For how long what is condemned or forgotten stays, how old a pack must be before nobody can
    be about to name it, and what share of all bytes may be condemned at once. Raises StoreError
    for a grace that is too short to be safe."""

    grace_seconds: float = 7 * DAY_SECONDS
    pack_age_seconds: float = DAY_SECONDS
    most_share: float = 0.2

    def __post_init__(self) -> None:
        if self.grace_seconds < LEAST_GRACE_SECONDS:
            raise StoreError(
                f"a grace of {self.grace_seconds:g} s is not safe: somebody who pushes may rely on "
                f"what he saw that long ago; {LEAST_GRACE_SECONDS:g} s is the least"
            )


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is to be done in this run, in this order; sizes in bytes.

    `forget`: keys of manifests that go to the trash; `condemn`: packs that get a tomb; `delete`:
    packs that go; `clear`: packs that are gone long since, whose tombs go; `purge`: keys of
    manifests in the trash that go for good; `leases`: keys of leases that ended. `waiting`:
    condemned packs that go later, each with the time from which on it may.
    """

    forget: tuple[str, ...]
    condemn: Mapping[PackName, int]
    delete: Mapping[PackName, int]
    waiting: Mapping[PackName, float]
    clear: tuple[PackName, ...]
    purge: tuple[str, ...]
    leases: tuple[str, ...]
    total_bytes: int


def decide(marks: Marks, forget: Collection[str], rules: CollectionRules) -> Decisions:
    """What is to be done where the manifests of the keys `forget` are wanted no more."""
    now, grace = marks.now_seconds, rules.grace_seconds
    held = marks.held_commits()
    forgotten = [key for key in sorted(forget) if _commit_of(marks.manifests[key]) not in held]
    kept = _packs_of(m for key, m in marks.manifests.items() if key not in set(forgotten))
    named = _packs_of(marks.manifests.values())
    purge = [key for key, found in marks.trash.items() if _is_over(found, held, now - grace)]
    named |= _packs_of(found.manifest for key, found in marks.trash.items() if key not in purge)
    condemn = {
        name: info.size
        for name, info in marks.packs.items()
        if name not in marks.tombs
        and name not in kept
        and info.modified_seconds <= now - rules.pack_age_seconds
    }
    doomed = {n: since for n, since in marks.tombs.items() if n in marks.packs and n not in named}
    blocked_from = min(
        (seen.modified_seconds for seen in marks.live_leases(LeaseKind.WRITE)), default=float("inf")
    )
    # A lease of the very second of a tomb may be the older one: servers tell whole seconds.
    dead = [n for n, since in doomed.items() if since <= now - grace and since < blocked_from]
    waiting = {n: since for n, since in marks.tombs.items() if n in marks.packs and n not in dead}
    return Decisions(
        forget=tuple(forgotten),
        condemn=condemn,
        delete={name: marks.packs[name].size for name in sorted(dead)},
        waiting={name: since + grace for name, since in waiting.items() if name not in kept},
        clear=tuple(
            name
            for name, since in marks.tombs.items()
            if name not in marks.packs and since <= now - 2 * grace
        ),
        purge=tuple(purge),
        leases=tuple(seen.key for seen in marks.leases if not seen.is_live(now)),
        total_bytes=sum(info.size for info in marks.packs.values()),
    )


def _is_over(found: Forgotten, held: Collection[str], limit_seconds: float) -> bool:
    """Whether a manifest in the trash can go for good."""
    return found.since_seconds <= limit_seconds and _commit_of(found.manifest) not in held


def _commit_of(manifest: Manifest) -> str:
    return f"{manifest.repository}/{manifest.commit}"


def _packs_of(manifests: Iterable[Manifest]) -> set[PackName]:
    return {name for manifest in manifests for name in manifest.packs}
