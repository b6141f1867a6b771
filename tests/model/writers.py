"""Those who write manifests, as machines that make one call of the remote at a step: push, repack
and undo. They share all that makes a manifest safe, and differ in where its chunks come from.

    lease → (source) → tombs → packs → pack → index → tombs → packs → manifest → tombs → packs
    → (drop the old manifest → condemn the old pack) → drop the lease

A look is LIST tombs, then LIST packs; it is as old as its first call. A repack is a push of what is
there already. Packs that it goes on naming are looked at like those that a push uses, since their
commit may be forgotten meanwhile; the new manifest is there before the old one goes, so that the
commit has one whoever stops; and the old pack is condemned like any other and left to the
collectors, since a push may just have begun to use it. An undo is the same with a manifest from the
trash, and nothing to drop: a pack that was condemned is copied from, as long as it is there, and
not named again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from tests.model.bucket import Bucket, Manifest, Pack, Rules, words


class Writing(NamedTuple):
    """How far a writer is, and what it remembers."""

    at: str = "lease"
    # Packs that it has put: a nonce.
    rounds: int = 0
    places: frozenset[tuple[str, str]] = frozenset()
    lacking: str = ""
    tombs: frozenset[str] = frozenset()
    check_age: int = 0
    written: bool = False
    old: Manifest | None = None
    # Names that it has put itself, where that does not show.
    own: frozenset[str] = frozenset()


class Step(NamedTuple):
    """What was done, in words, the bucket after it, and the one who did it; None has ended."""

    label: str
    bucket: Bucket
    local: Any


@dataclass(frozen=True, slots=True)
class Writer:
    """A push of `chunks` as `commit`; `source` says where a repack ("manifests") or an undo
    ("trash") takes the commit from. Packs in `rewritten` are read, but never named again."""

    name: str
    rules: Rules
    commit: str
    chunks: str = ""
    source: str = ""
    rewritten: frozenset[str] = frozenset()

    def start(self) -> Writing:
        """Before its first step."""
        return Writing()

    def crash(self, local: Writing) -> None:
        """It is gone, and never comes back."""

    def tick(self, local: Writing) -> Writing:
        """A tick goes by: only the age of the last look matters to it."""
        if local.at not in {"packs again", "manifest"}:
            return local
        return local._replace(check_age=min(local.check_age + 1, self.rules.check_life + 1))

    def steps(self, bucket: Bucket, local: Writing) -> Iterator[Step]:
        """Its next call; there is one at a time, with several outcomes where it has a choice."""
        held = local.at == "lease" or any(owner == self.name for owner, _ in bucket.leases)
        under_way = local.at == "manifest" and self.rules.late_manifests
        if not (held or under_way or self.rules.outlived_leases):
            yield Step(f"{self.name}: its lease ran out, gives up", bucket, None)
            return
        calls = self._packs(bucket, local) if local.at == "packs" else self._only(bucket, local)
        for label, after, then in calls:
            if then is not None and then.at == "unlease":
                then = Writing("unlease")
            yield Step(f"{self.name}: {label}", after, then)

    def _only(self, bucket: Bucket, local: Writing) -> "Iterator[Call]":
        yield _CALLS[local.at](self, bucket, local)

    def _lease(self, bucket: Bucket, local: Writing) -> "Call":
        after = bucket.with_lease(self.name)
        return "PUT lease", after, local._replace(at="source" if self.source else "tombs")

    def _source(self, bucket: Bucket, local: Writing) -> "Call":
        there = bucket.manifests
        if self.source == "trash":
            there = frozenset(m for m, age in bucket.trash if age < self.rules.grace)
        found = sorted(m for m in there if m.commit == self.commit)
        if not found:
            return f"LIST {self.source}: nothing to do", bucket, local._replace(at="unlease")
        old = found[0]
        local = local._replace(at="tombs", old=old)
        if self.source == "trash" and self.rules.undo_unchecked:
            local = local._replace(at="manifest", places=old.places)
        return f"LIST {self.source}: {old.commit}/{old.ulid}", bucket, local

    def _tombs(self, bucket: Bucket, local: Writing) -> "Call":
        tombs = bucket.tomb_names()
        label = f"LIST tombs: {words(tombs)}"
        return label, bucket, local._replace(at="packs", tombs=tombs)

    def _packs(self, bucket: Bucket, local: Writing) -> "Iterator[Call]":
        """Each chunk may be had from any pack that is there, indexed and not condemned."""
        indexed = {pack for index in bucket.indexes for pack in index}
        taken = self.rewritten | (frozenset() if self.rules.lifted_tombs else local.tombs)
        fit = [p for p, _ in bucket.packs if p in indexed and p.name not in taken]
        wanted = self.chunks
        if local.old is not None:
            wanted = "".join(sorted(chunk for chunk, _ in local.old.places))
        choices = [sorted((c, p.name) for p in fit if c in p.chunks) for c in wanted]
        lacking = "".join(c for c, there in zip(wanted, choices, strict=True) if not there)
        for chosen in product(*filter(None, choices)):
            yield self._use(bucket, local, frozenset(chosen), lacking)

    def _use(
        self, bucket: Bucket, local: Writing, places: frozenset[tuple[str, str]], lacking: str
    ) -> "Call":
        """Where nothing is lacking, to look again is due all the same."""
        lift = not local.tombs.isdisjoint(pack for _, pack in places)
        then = "lift" if lift else "pack" if lacking else "tombs again"
        then = "manifest" if then == "tombs again" and self._looks_once() else then
        label = f"LIST packs: uses {words(pack for _, pack in places)}; lacks {lacking or '-'}"
        local = local._replace(at=then, places=places, lacking=lacking)
        return label, bucket, local if lift else local._replace(tombs=frozenset())

    def _lift(self, bucket: Bucket, local: Writing) -> "Call":
        name = min(pack for _, pack in local.places if pack in local.tombs)
        left = local.tombs & {pack for _, pack in local.places} - {name}
        then = "lift" if left else "pack" if local.lacking else "tombs again"
        label = f"DELETE tomb of {name}"
        return label, bucket.without_tomb(name), local._replace(at=then, tombs=left)

    def _pack(self, bucket: Bucket, local: Writing) -> "Call":
        """A push has the bytes itself; the others can only copy what is still there."""
        readable = {chunk for pack, _ in bucket.packs for chunk in pack.chunks}
        if self.source and not readable.issuperset(local.lacking):
            return "GET packs: bytes are gone, gives up", bucket, local._replace(at="unlease")
        pack = self._new_pack(local)
        after = bucket.with_pack(pack)
        return f"PUT pack {pack.name} with {pack.chunks}", after, local._replace(at="index")

    def _new_pack(self, local: Writing) -> Pack:
        nonce = f"{self.name}.{local.rounds + 1}"
        name = f"#{local.lacking}" if self.rules.names_from_contents else nonce
        return Pack(name, local.lacking)

    def _index(self, bucket: Bucket, local: Writing) -> "Call":
        pack = self._new_pack(local)
        kept = {(c, p) for c, p in local.places if c not in pack.chunks}
        local = local._replace(
            at="manifest" if self._looks_once() else "tombs again",
            rounds=local.rounds + 1,
            places=frozenset(kept | {(c, pack.name) for c in pack.chunks}),
            lacking="",
            own=local.own | {pack.name} if self.rules.names_from_contents else local.own,
        )
        after = bucket._replace(indexes=bucket.indexes | {frozenset({pack})})
        return f"PUT index of {pack.name}", after, local

    def _looks_once(self) -> bool:
        return self.source == "manifests" and self.rules.repack_looks_once

    def _tombs_again(self, bucket: Bucket, local: Writing) -> "Call":
        # With names from contents, what one has just put may lie under an old tomb.
        tombs = bucket.tomb_names() & {pack for _, pack in local.places} - local.own
        label = f"LIST tombs again: {words(tombs)}"
        return label, bucket, local._replace(at="packs again", tombs=tombs, check_age=0)

    def _packs_again(self, bucket: Bucket, local: Writing) -> "Call":
        """Go on if all is as it was; heal what changed, if that was not done too often."""
        here = bucket.pack_names()
        lost = {c for c, pack in local.places if pack in local.tombs or pack not in here}
        quiet = local._replace(tombs=frozenset(), check_age=0)
        if lost and local.rounds <= self.rules.heals:
            lacking = "".join(sorted(lost))
            local = quiet._replace(at="pack", lacking=lacking)
            return f"LIST packs again: heals {lacking}", bucket, local
        if lost:
            return "LIST packs again: gives up", bucket, quiet._replace(at="unlease")
        if local.written:
            then = Writing(self._afterwards(), old=local.old, written=True)
            return "LIST packs again: all there", bucket, then
        first = local.old is not None and self.source == "manifests"
        first = first and self.rules.repack_drops_first
        local = local._replace(at="drop" if first else "manifest", tombs=frozenset())
        return "LIST packs again: all there", bucket, local

    def _manifest(self, bucket: Bucket, local: Writing) -> "Call":
        if local.check_age > self.rules.check_life and not self.rules.late_manifests:
            return self._tombs_again(bucket, local)
        manifest = Manifest(self.commit, f"{self.name}.{local.rounds}", local.places)
        local = local._replace(at="tombs again", check_age=0, written=True)
        label = f"PUT manifest {manifest.commit}/{manifest.ulid} of {words(manifest.packs())}"
        return label, bucket.with_manifest(manifest), local

    def _afterwards(self) -> str:
        if self.source == "manifests":
            return "condemn" if self.rules.repack_drops_first else "drop"
        return "unlease"

    def _drop(self, bucket: Bucket, local: Writing) -> "Call":
        assert local.old is not None
        after = bucket._replace(manifests=bucket.manifests - {local.old})
        then = "manifest" if self.rules.repack_drops_first else "condemn"
        label = f"DELETE manifest {local.old.commit}/{local.old.ulid}"
        return label, after, local._replace(at=then)

    def _condemn(self, bucket: Bucket, local: Writing) -> "Call":
        """The old pack. That others may need it is for the collectors to see, after the grace."""
        name = min(self.rewritten)
        then = local._replace(at="unlease")
        if self.rules.repack_deletes:
            return f"DELETE pack {name}", bucket.without_pack(name), then
        return f"PUT tomb of {name}", bucket.with_tomb(name), then

    def _unlease(self, bucket: Bucket, local: Writing) -> "Call":
        return "DELETE lease", bucket.without_lease(self.name), None


Call = tuple[str, Bucket, Writing | None]

_CALLS = {
    "lease": Writer._lease,
    "source": Writer._source,
    "tombs": Writer._tombs,
    "lift": Writer._lift,
    "pack": Writer._pack,
    "index": Writer._index,
    "tombs again": Writer._tombs_again,
    "packs again": Writer._packs_again,
    "manifest": Writer._manifest,
    "drop": Writer._drop,
    "condemn": Writer._condemn,
    "unlease": Writer._unlease,
}
