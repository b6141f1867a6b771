"""Those who take away: the collector, in its runs, and the one who forgets a commit. Each makes one
call of the remote at a step.

    lease → leases → tombs → packs → leases → manifests → trash → (tomb)…
    → index → (new index → old index)… → (pack)… → drop the lease
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.bucket import Bucket, Manifest, Pack, Rules, words
from tests.model.writers import Step


class Collecting(NamedTuple):
    """How far a collector is, and what it remembers of the run under way."""

    at: str
    runs_left: int
    # To be condemned, and condemned long enough to be deleted.
    condemned: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    # Index objects that lead to dead packs.
    outdated: tuple[frozenset[Pack], ...] = ()
    replaced: bool = False
    # Tombs past their second grace.
    cleared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collector:
    """`gc` of the remote, `runs` times one after another. A crash ends a run only.

    Where collectors take turns, it takes a lease and gives way to another who has one, so that of
    two at most one goes on. `trash` says whether there is anything to be seen in the trash.
    """

    name: str
    rules: Rules
    runs: int = 2
    trash: bool = False

    def start(self) -> Collecting:
        """Before its first step."""
        return self._run(self.runs)

    def _run(self, runs: int) -> Collecting:
        return Collecting("lease" if self.rules.turns else "tombs", runs)

    def crash(self, local: Collecting) -> Collecting | None:
        """What it knew of this run is gone; the next begins anew."""
        return self._run(local.runs_left - 1) if local.runs_left > 1 else None

    def tick(self, local: Collecting) -> Collecting:
        """It may be as slow as it likes."""
        return local

    def steps(self, bucket: Bucket, local: Collecting) -> Iterator[Step]:
        """Its next call; there is one at a time."""
        age = dict(bucket.leases).get(self.name, self.rules.lease_life)
        held = local.at == "lease" or age < self.rules.lease_life
        if self.rules.turns and not held:
            yield Step(f"{self.name}: its lease ran out, gives up", bucket, self.crash(local))
            return
        label, after, then = _CALLS[local.at](self, bucket, local)
        yield Step(f"{self.name}: {label}", after, then)

    def _lease(self, bucket: Bucket, local: Collecting) -> "Call":
        return "PUT lease", bucket.with_lease(self.name), local._replace(at="turn")

    def _turn(self, bucket: Bucket, local: Collecting) -> "Call":
        """A lease of another counts for longer than its owner trusts it."""
        others = [x for x, _ in bucket.leases if x.startswith("gc") and x != self.name]
        then = local._replace(at="tombs") if not others else self._done(local)
        return f"LIST leases: other collectors {words(others)}", bucket, then

    def _done(self, local: Collecting) -> Collecting | None:
        """Nothing more to do in this run."""
        if self.rules.turns:
            return self._run(local.runs_left)._replace(at="unlease")
        return self.crash(local)

    def _unlease(self, bucket: Bucket, local: Collecting) -> "Call":
        return "DELETE lease", bucket.without_lease(self.name), self.crash(local)

    def _tombs(self, bucket: Bucket, local: Collecting) -> "Call":
        """What is condemned long enough is dead, if nothing that follows speaks against it."""
        dead = _sorted(name for name, age in bucket.tombs if age >= self.rules.grace)
        local = local._replace(at="packs", dead=dead, condemned=_sorted(bucket.tomb_names()))
        if self.rules.clears_tombs:
            old = _sorted(name for name, age in bucket.tombs if age >= 2 * self.rules.grace)
            local = local._replace(cleared=old)
        return f"LIST tombs: old enough {words(dead)}", bucket, local

    def _packs(self, bucket: Bucket, local: Collecting) -> "Call":
        """Packs of some age may be condemned; here `condemned` turns from those that are to those
        that are to be."""
        old = {pack.name for pack, age in bucket.packs if age >= self.rules.pack_age}
        condemned = _sorted(old.difference(local.condemned))
        dead = _sorted(bucket.pack_names().intersection(local.dead))
        local = local._replace(at="leases", condemned=condemned, dead=dead)
        local = local._replace(cleared=_sorted(set(local.cleared) - bucket.pack_names()))
        if local.cleared:
            local = local._replace(at="clear")
        elif not condemned and not dead:
            return "LIST packs: nothing to do", bucket, self._done(local)
        return f"LIST packs: old enough {words(condemned)}", bucket, local

    def _clear(self, bucket: Bucket, local: Collecting) -> "Call":
        name, *others = local.cleared
        then: Collecting | None = local._replace(cleared=tuple(others))
        if not others:
            more = local.condemned or local.dead
            then = local._replace(at="leases", cleared=()) if more else self._done(local)
        return f"DELETE tomb of {name}", bucket.without_tomb(name), then

    def _leases(self, bucket: Bucket, local: Collecting) -> "Call":
        """A pack is not deleted while a lease of a writer lives that is as old as its tomb."""
        live = {x: age for x, age in bucket.leases if age < self.rules.lease_life}
        eldest = max((age for x, age in live.items() if not x.startswith("gc")), default=-1)
        ages = dict(bucket.tombs)
        dead = tuple(name for name in local.dead if eldest < ages.get(name, 0))
        label = f"LIST leases: {words(live)}"
        return label, bucket, local._replace(at="manifests", dead=dead)

    def _manifests(self, bucket: Bucket, local: Collecting) -> "Call":
        named = {name for manifest in bucket.manifests for name in manifest.packs()}
        condemned = tuple(name for name in local.condemned if name not in named)
        dead = tuple(x for x in local.dead if self.rules.marks_once or x not in named)
        label = f"LIST manifests: condemns {words(condemned)}, deletes {words(dead)}"
        local = local._replace(condemned=condemned, dead=dead)
        look = self.trash and dead and not self.rules.forgotten_at_once
        return label, bucket, local._replace(at="trash") if look else self._go_on(local)

    def _trash(self, bucket: Bucket, local: Collecting) -> "Call":
        """After the manifests: who forgets one puts it here before he takes it from there."""
        kept = {name for m, age in bucket.trash if age < self.rules.grace for name in m.packs()}
        dead = tuple(name for name in local.dead if name not in kept)
        label = f"LIST trash: deletes {words(dead)}"
        return label, bucket, self._go_on(local._replace(dead=dead))

    def _go_on(self, local: Collecting) -> Collecting | None:
        if local.condemned:
            return local._replace(at="condemn")
        return local._replace(at="index") if local.dead else self._done(local)

    def _condemn(self, bucket: Bucket, local: Collecting) -> "Call":
        name = local.condemned[0]
        local = local._replace(condemned=local.condemned[1:])
        return f"PUT tomb of {name}", bucket.with_tomb(name), self._go_on(local)

    def _index(self, bucket: Bucket, local: Collecting) -> "Call":
        found = (i for i in bucket.indexes if any(pack.name in local.dead for pack in i))
        outdated = tuple(sorted(found, key=sorted))
        then = local._replace(at="replace", outdated=outdated)
        if self.rules.index_after_pack or not outdated:
            then = then._replace(at="delete")
        return "LIST index", bucket, then

    def _replace(self, bucket: Bucket, local: Collecting) -> "Call":
        """First what is left of an index object, then the object that it stands for goes."""
        old, *others = local.outdated
        left = frozenset(pack for pack in old if pack.name not in local.dead)
        if left and not local.replaced:
            after = bucket._replace(indexes=bucket.indexes | {left})
            return f"PUT index of {_packs(left)}", after, local._replace(replaced=True)
        after = bucket._replace(indexes=bucket.indexes - {old})
        local = local._replace(outdated=tuple(others), replaced=False)
        then: Collecting | None = local
        if not others:
            then = local._replace(at="delete") if local.dead else self._done(local)
        return f"DELETE index of {_packs(old)}", after, then

    def _delete(self, bucket: Bucket, local: Collecting) -> "Call":
        name, *others = local.dead
        then: Collecting | None = local._replace(dead=tuple(others))
        if not others:
            late = self.rules.index_after_pack and local.outdated
            then = local._replace(at="replace") if late else self._done(local)
        return f"DELETE pack {name}", bucket.without_pack(name), then


Call = tuple[str, Bucket, Collecting | None]

_CALLS = {
    "lease": Collector._lease,
    "turn": Collector._turn,
    "unlease": Collector._unlease,
    "tombs": Collector._tombs,
    "packs": Collector._packs,
    "clear": Collector._clear,
    "leases": Collector._leases,
    "manifests": Collector._manifests,
    "trash": Collector._trash,
    "condemn": Collector._condemn,
    "index": Collector._index,
    "replace": Collector._replace,
    "delete": Collector._delete,
}


class Forgetting(NamedTuple):
    """What is still to be forgotten, and whether the first of it lies in the trash already."""

    listed: bool = False
    manifests: tuple[Manifest, ...] = ()
    in_trash: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Moves the manifests of a commit to the trash. What is there is only looked at by an undo, so
    without one in the model (`trash`) it is left out of the bucket."""

    name: str
    rules: Rules
    commit: str
    trash: bool = False

    def start(self) -> Forgetting:
        """Before its first step."""
        return Forgetting()

    def crash(self, local: Forgetting) -> None:
        """It is gone, and never comes back."""

    def tick(self, local: Forgetting) -> Forgetting:
        """It may be as slow as it likes."""
        return local

    def steps(self, bucket: Bucket, local: Forgetting) -> Iterator[Step]:
        """Its next call; there is one at a time."""
        if not local.listed:
            found = tuple(sorted(m for m in bucket.manifests if m.commit == self.commit))
            # From here on nobody counts on the commit, unless it is written anew.
            after = bucket._replace(promised=bucket.promised - {self.commit})
            then = Forgetting(True, found) if found else None
            yield Step(f"{self.name}: LIST manifests", after, then)
            return
        first, *others = local.manifests
        named = f"{first.commit}/{first.ulid}"
        if self.trash and not local.in_trash:
            after = bucket._replace(trash=bucket.trash | {(first, 0)})
            yield Step(f"{self.name}: PUT trash {named}", after, local._replace(in_trash=True))
            return
        after = bucket._replace(manifests=bucket.manifests - {first})
        then = Forgetting(True, tuple(others)) if others else None
        yield Step(f"{self.name}: DELETE manifest {named}", after, then)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _packs(packs: frozenset[Pack]) -> str:
    return words(pack.name for pack in packs)
