"""What a collector decides, from marks that are made by hand."""

from dataclasses import replace

import pytest

from store.collection import DAY_SECONDS, LEAST_GRACE_SECONDS, CollectionRules, decide
from store.collector_marks import Forgotten, Marks
from store.errors import StoreError
from store.ids import GitId, PackName
from store.leases import Lease, LeaseKind, LeaseSeen
from store.manifests import Manifest, manifest_key, new_ulid
from store.remote import ObjectInfo, pack_key, trash_key

NOW = 1_800_000_000.0
REPOSITORY = "66666666-7777-4888-9999-aaaaaaaaaaaa"
COMMIT = GitId("c0" * 20)
OTHER = GitId("d0" * 20)
P, Q, R = (PackName(f"{digit}" * 32) for digit in "123")
RULES = CollectionRules()
GRACE = RULES.grace_seconds


def manifest(commit: GitId, *packs: PackName) -> Manifest:
    return Manifest(REPOSITORY, commit, tuple(sorted(packs)), (), (), "test")


def key_of(commit: GitId, number: int = 0) -> str:
    return manifest_key(REPOSITORY, commit, new_ulid(number))


def packs(**ages_days: float) -> dict[PackName, ObjectInfo]:
    """P, Q and R by their letters, of 100 bytes each and so old."""
    names = {"p": P, "q": Q, "r": R}
    return {
        names[letter]: ObjectInfo(pack_key(names[letter]), 100, NOW - days * DAY_SECONDS)
        for letter, days in ages_days.items()
    }


def marks(**changes: object) -> Marks:
    """Three old packs that nobody needs, with changes."""
    nothing = Marks(NOW, {}, packs(p=3, q=3, r=3), [], {}, {})
    return replace(nothing, **changes)  # type: ignore[arg-type]


def lease(kind: LeaseKind, age_seconds: float, *holds: str) -> LeaseSeen:
    return LeaseSeen("leases/x", NOW - age_seconds, Lease(kind, "", "host", holds, "test"))


def test_what_no_manifest_names_is_condemned_if_it_is_a_day_old() -> None:
    seen = marks(packs=packs(p=3, q=0.99, r=3), manifests={key_of(COMMIT): manifest(COMMIT, R)})
    found = decide(seen, [], RULES)
    assert found.condemn == {P: 100}
    assert found.total_bytes == 300
    assert (found.delete, found.waiting, found.forget) == ({}, {}, ())


def test_what_a_forgotten_manifest_alone_names_is_condemned_at_once() -> None:
    kept, dropped = key_of(COMMIT), key_of(OTHER)
    manifests = {kept: manifest(COMMIT, R, Q), dropped: manifest(OTHER, P, Q)}
    found = decide(marks(manifests=manifests), [dropped], RULES)
    assert found.forget == (dropped,)
    assert found.condemn == {P: 100}


def test_what_a_mount_holds_is_not_forgotten() -> None:
    dropped = key_of(OTHER)
    seen = marks(
        manifests={dropped: manifest(OTHER, P, Q, R)},
        leases=[lease(LeaseKind.HOLD, 23 * 3600, f"{REPOSITORY}/{OTHER}")],
    )
    assert decide(seen, [dropped], RULES).forget == ()
    over = replace(seen, leases=[lease(LeaseKind.HOLD, 25 * 3600, f"{REPOSITORY}/{OTHER}")])
    assert decide(over, [dropped], RULES).forget == (dropped,)


def test_a_pack_is_deleted_when_it_was_condemned_for_the_grace() -> None:
    seen = marks(tombs={P: NOW - GRACE, Q: NOW - GRACE + 1})
    found = decide(seen, [], RULES)
    assert found.delete == {P: 100}
    assert found.waiting == {Q: NOW + 1}
    assert found.condemn == {R: 100}


def test_a_condemned_pack_that_a_manifest_needs_stays() -> None:
    tombs = {P: NOW - 2 * GRACE}
    seen = marks(tombs=tombs, manifests={key_of(COMMIT): manifest(COMMIT, P, Q, R)})
    found = decide(seen, [], RULES)
    assert (found.delete, found.condemn, found.clear) == ({}, {}, ())
    # Also while the manifest is only on its way into the trash.
    (key,) = seen.manifests
    assert decide(seen, [key], RULES).delete == {}


@pytest.mark.parametrize(("age", "kept"), [(GRACE - 1, True), (GRACE, False)])
def test_a_manifest_in_the_trash_keeps_its_packs_for_the_grace(age: float, kept: bool) -> None:
    key = trash_key(key_of(COMMIT))
    seen = marks(
        tombs={P: NOW - 2 * GRACE},
        trash={key: Forgotten(manifest(COMMIT, P), NOW - age)},
    )
    found = decide(seen, [], RULES)
    assert (P in found.delete) is not kept
    assert found.purge == (() if kept else (key,))
    # It does not keep packs from being condemned: the grace of both then ends together.
    assert found.condemn == {Q: 100, R: 100}


def test_a_manifest_in_the_trash_that_a_mount_holds_keeps_its_packs() -> None:
    key = trash_key(key_of(COMMIT))
    seen = marks(
        tombs={P: NOW - 3 * GRACE},
        trash={key: Forgotten(manifest(COMMIT, P), NOW - 3 * GRACE)},
        leases=[lease(LeaseKind.HOLD, 0, f"{REPOSITORY}/{COMMIT}")],
    )
    found = decide(seen, [], RULES)
    assert found.delete == {}
    assert found.purge == ()


@pytest.mark.parametrize(
    ("kind", "older_seconds", "blocks"),
    [
        (LeaseKind.WRITE, 1, True),
        # Servers tell whole seconds: it may have been the older one.
        (LeaseKind.WRITE, 0, True),
        (LeaseKind.WRITE, -1, False),
        (LeaseKind.HOLD, 1, False),
        (LeaseKind.COLLECT, 1, False),
    ],
)
def test_a_writer_who_came_before_a_tomb_keeps_the_pack(
    kind: LeaseKind, older_seconds: float, blocks: bool
) -> None:
    rules = CollectionRules(grace_seconds=LEAST_GRACE_SECONDS)
    tomb = NOW - LEAST_GRACE_SECONDS
    seen = marks(tombs={P: tomb}, leases=[lease(kind, NOW - tomb + older_seconds)])
    assert (P not in decide(seen, [], rules).delete) is blocks


def test_a_lease_that_cannot_be_read_counts_as_a_writers() -> None:
    rules = CollectionRules(grace_seconds=LEAST_GRACE_SECONDS)
    seen = marks(tombs={P: NOW - 3600}, leases=[LeaseSeen("leases/x", NOW - 3601, None)])
    assert decide(seen, [], rules).delete == {}


def test_leases_that_ended_go() -> None:
    old = replace(lease(LeaseKind.WRITE, 24 * 3600 + 1), key="leases/old")
    young = replace(lease(LeaseKind.WRITE, 24 * 3600 - 1), key="leases/young")
    assert decide(marks(leases=[old, young]), [], RULES).leases == ("leases/old",)


def test_the_tomb_of_a_pack_that_is_gone_stays_for_another_grace() -> None:
    seen = marks(packs={}, tombs={P: NOW - 2 * GRACE, Q: NOW - 2 * GRACE + 1})
    found = decide(seen, [], RULES)
    assert found.clear == (P,)
    assert found.waiting == {}


def test_a_grace_shorter_than_what_a_writer_relies_on_is_refused() -> None:
    with pytest.raises(StoreError, match="600 s is the least"):
        CollectionRules(grace_seconds=LEAST_GRACE_SECONDS - 1)
