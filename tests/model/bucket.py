"""The abstract remote that the model of push and gc works on, and what must hold of it.

A bucket is a handful of frozen sets. Time has no date: what is in the bucket has an age in ticks,
and ages that no rule tells apart any more are one, so that the space of states is finite although
time goes on for ever. A tick is a boundary that was crossed, so what is one tick old may be of this
moment; where that matters, the model lets the collectors be early and the writers be late.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Of what is as old as anything can be.
_NO_AGE = 99


@dataclass(frozen=True, slots=True)
class Rules:
    """How long things count, in ticks, and the mistakes that a protocol could make.

    With no mistake switched on it is the protocol as it is meant.
    """

    grace: int = 2
    lease_life: int = 2
    check_life: int = 1
    pack_age: int = 1
    heals: int = 1
    # No mistake, but more than data needs: collectors take a lease, and one at most goes on.
    turns: bool = False
    # Collectors delete the tombs of packs that are gone, after another grace.
    clears_tombs: bool = False
    # A pack is named by the hash of its chunks, so that a name can come back.
    names_from_contents: bool = False
    # A push uses a condemned pack and deletes its tomb.
    lifted_tombs: bool = False
    # A dead pack is deleted while an index object still leads to it.
    index_after_pack: bool = False
    # A writer goes on after its lease has run out.
    outlived_leases: bool = False
    # What is condemned is deleted after the grace without a new look at the manifests.
    marks_once: bool = False
    # A pack is deleted although a manifest that could still be brought back needs it.
    forgotten_at_once: bool = False
    # A manifest may arrive any time after the look that allowed it.
    late_manifests: bool = False
    # Repacking: the old manifest goes before the new one is there.
    repack_drops_first: bool = False
    # Repacking: packs that go on being named are not looked at again.
    repack_looks_once: bool = False
    # Repacking: the old pack is deleted at once, without tomb and grace.
    repack_deletes: bool = False
    # Undoing: a manifest comes back without a look at its packs.
    undo_unchecked: bool = False

    @property
    def dead_leases_count(self) -> bool:
        """Whether the lease of a writer that crashed can matter. It holds a collector up only if
        it is as old as a tomb past its grace, and what lives no longer than the grace never is."""
        return self.grace < self.lease_life

    @property
    def oldest(self) -> int:
        """The age from which on tombs, leases and forgotten manifests are all the same."""
        graces = 2 if self.clears_tombs else 1
        return max(graces * self.grace, self.lease_life + 1, self.check_life + 1)


class Pack(NamedTuple):
    """A pack by name, and the chunks in it, a letter each."""

    name: str
    chunks: str


class Manifest(NamedTuple):
    """A commit is complete: where each of its chunks lies. `ulid` tells those of a commit apart."""

    commit: str
    ulid: str
    places: frozenset[tuple[str, str]]

    def packs(self) -> frozenset[str]:
        """The names of its packs."""
        return frozenset(pack for _, pack in self.places)


class Bucket(NamedTuple):
    """All that is in the remote. A lease stays for one tick more than it lives, in which a call of
    its owner may still be under way, and is then left out."""

    packs: frozenset[tuple[Pack, int]]
    tombs: frozenset[tuple[str, int]]
    indexes: frozenset[frozenset[Pack]]
    manifests: frozenset[Manifest]
    trash: frozenset[tuple[Manifest, int]]
    leases: frozenset[tuple[str, int]]
    # Not in the remote: the commits that had a manifest and that nobody forgot.
    promised: frozenset[str]

    def pack_names(self) -> frozenset[str]:
        """What a LIST of the packs says."""
        return frozenset(pack.name for pack, _ in self.packs)

    def tomb_names(self) -> frozenset[str]:
        """What a LIST of the tombs says."""
        return frozenset(name for name, _ in self.tombs)

    def with_pack(self, pack: Pack) -> "Bucket":
        """PUT pack."""
        return self._replace(packs=self.without_pack(pack.name).packs | {(pack, 0)})

    def without_pack(self, name: str) -> "Bucket":
        """DELETE pack."""
        return self._replace(packs=frozenset(p for p in self.packs if p[0].name != name))

    def with_tomb(self, name: str) -> "Bucket":
        """PUT tomb; one that was there is as if it were new. The age of a pack that has one
        matters to nobody."""
        packs = frozenset((p, _NO_AGE if p.name == name else age) for p, age in self.packs)
        return self._replace(packs=packs, tombs=self.without_tomb(name).tombs | {(name, 0)})

    def without_tomb(self, name: str) -> "Bucket":
        """DELETE tomb."""
        return self._replace(tombs=frozenset(t for t in self.tombs if t[0] != name))

    def with_manifest(self, manifest: Manifest) -> "Bucket":
        """PUT manifest."""
        return self._replace(
            manifests=self.manifests | {manifest}, promised=self.promised | {manifest.commit}
        )

    def with_lease(self, owner: str) -> "Bucket":
        """PUT lease."""
        return self._replace(leases=self.without_lease(owner).leases | {(owner, 0)})

    def without_lease(self, owner: str) -> "Bucket":
        """DELETE lease."""
        return self._replace(leases=frozenset(x for x in self.leases if x[0] != owner))

    def older(self, rules: Rules) -> "Bucket":
        """The same, a tick later."""
        oldest = rules.oldest
        return self._replace(
            packs=frozenset((p, min(age + 1, max(age, rules.pack_age))) for p, age in self.packs),
            tombs=frozenset((t, min(age + 1, oldest)) for t, age in self.tombs),
            trash=frozenset((m, min(age + 1, oldest)) for m, age in self.trash),
            leases=frozenset((x, age + 1) for x, age in self.leases if age < rules.lease_life),
        )


Watch = Callable[[Rules, Bucket, Bucket], str | None]
"""Says what is wrong with a step from one bucket to the next, if anything is."""


def find_loss(rules: Rules, before: Bucket, after: Bucket) -> str | None:
    """Data that is gone: a chunk, the way to it, or a whole commit that nobody forgot."""
    here = after.pack_names()
    places = {
        (chunk, pack.name) for index in after.indexes for pack in index for chunk in pack.chunks
    }
    for manifest in after.manifests:
        for chunk, pack in manifest.places:
            named = f"manifest {manifest.commit}/{manifest.ulid} names chunk {chunk}"
            if pack not in here:
                return f"{named} in pack {pack}, which is missing"
            if (chunk, pack) not in places:
                return f"{named} in pack {pack}, to which no index object leads"
    lost = after.promised - {manifest.commit for manifest in after.manifests}
    return f"commit {min(lost)} lost its manifest, and nobody forgot it" if lost else None


def find_astray(rules: Rules, before: Bucket, after: Bucket) -> str | None:
    """An index object that leads to a missing pack for a chunk that a manifest needs."""
    here = after.pack_names()
    needed = {chunk for manifest in after.manifests for chunk, _ in manifest.places}
    for index in after.indexes:
        for pack in index:
            if pack.name not in here and not needed.isdisjoint(pack.chunks):
                return f"an index object leads to pack {pack.name}, which is missing"
    return None


def find_undone(rules: Rules, before: Bucket, after: Bucket) -> str | None:
    """A manifest that was forgotten within the grace, and could not be brought back."""
    here = after.pack_names()
    for manifest, age in after.trash:
        gone = manifest.packs() - here
        if gone and age < rules.grace:
            return f"pack {min(gone)} is gone within the grace of {manifest.commit}"
    return None


def find_way_back(rules: Rules, before: Bucket, after: Bucket) -> str | None:
    """Life that went backwards: a tomb lifted, or a pack used anew that was condemned before the
    last look that a writer may rely on."""
    lifted = (before.tomb_names() - after.tomb_names()) & after.pack_names()
    if lifted:
        return f"the tomb of pack {min(lifted)} was lifted"
    new = after.manifests - before.manifests
    condemned = {name for name, age in after.tombs if age > rules.check_life}
    for manifest in new:
        used = manifest.packs() & condemned
        if used:
            return f"manifest {manifest.commit}/{manifest.ulid} uses condemned pack {min(used)}"
    return None


SAFETY: tuple[Watch, ...] = (find_loss, find_undone, find_way_back)
EVERYTHING: tuple[Watch, ...] = (find_loss, find_astray, find_undone, find_way_back)


def find_fault(watches: Sequence[Watch], rules: Rules, before: Bucket, after: Bucket) -> str | None:
    """What the first watch says that finds fault with a step."""
    said = (watch(rules, before, after) for watch in watches)
    return next((wrong for wrong in said if wrong is not None), None)


def words(names: Iterable[str]) -> str:
    """Names as a trace shows them."""
    return ", ".join(sorted(set(names))) or "none"
