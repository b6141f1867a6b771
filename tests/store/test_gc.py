"""`gc` of a remote through all its parts, over a bucket whose time the test sets."""

from pathlib import Path

import pytest

from store.collection import CollectionRules
from store.errors import Busy, StoreError
from store.leases import LeaseKind, encode_lease, new_lease
from store.remote import (
    LEASES_PREFIX,
    MANIFESTS_PREFIX,
    PACKS_PREFIX,
    TOMBS_PREFIX,
    TRASH_PREFIX,
    lease_key,
)
from store.sealed_text import seal
from tests.fakes.buckets import assert_complete, manifests, to
from tests.fakes.collected import (
    Actor,
    Time,
    actor,
    half_dead_pack,
    indexed_packs,
    keep,
    packs_in,
    two_versions,
)
from tests.fakes.faulty_remote import FaultyRemote
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import (
    make_repository,
    open_local,
    random_bytes,
    read_file,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

LEASE = "12345678-1234-4234-8234-123456789abc"


async def test_without_a_policy_only_what_no_manifest_names_goes(who: Actor, time: Time) -> None:
    old, new = await two_versions(who, time)
    who.bucket.objects["packs/ab/ab" + "0" * 30] = b"left by a push that was stopped", 0.0
    before = set(who.bucket.objects)
    summary = await who.gc()
    assert (summary.forgotten, summary.condemned, summary.deleted) == (0, 1, 0)
    time.pass_days(7)
    assert (await who.gc()).deleted == 1
    assert before - set(who.bucket.objects) == {"packs/ab/ab" + "0" * 30}
    assert {old, new} <= set(manifests(who.bucket))
    # The tomb stays for another grace.
    assert len(who.bucket.keys(TOMBS_PREFIX)) == 1
    time.pass_days(7)
    await who.gc()
    assert set(who.bucket.objects) == before - {"packs/ab/ab" + "0" * 30}


async def test_a_forgotten_commit_goes_after_the_grace_and_the_others_are_whole(
    who: Actor, time: Time, tmp_path: Path
) -> None:
    _, new = await two_versions(who, time)
    assert (await who.gc(keep(new))).forgotten == 3
    assert set(manifests(who.bucket)) == {new}
    assert len(who.bucket.keys(TRASH_PREFIX)) == 3
    await assert_complete(who.local, who.bucket)
    packs = packs_in(who.bucket)
    time.pass_days(6.9)
    assert (await who.gc(keep(new))).deleted == 0
    assert packs_in(who.bucket) == packs
    time.pass_days(0.2)
    assert (await who.gc(keep(new))).deleted == 1
    assert who.bucket.keys(TRASH_PREFIX) == who.bucket.keys(LEASES_PREFIX) == set()
    assert indexed_packs(who.bucket) == packs_in(who.bucket) < packs
    await assert_complete_for_readers(who, new, tmp_path)


async def assert_complete_for_readers(who: Actor, commit: str, folder: Path) -> None:
    """A clone with an empty cache reads what it should."""
    clone = who.repository.clone(folder / "clone")
    with open_local(clone, folder / "clone-cache", who.local.settings.remote) as local:
        assert await read_file(local, to(who.bucket), b"a", commit) == random_bytes(5000, 3)
        assert await read_file(local, to(who.bucket), b"b", commit) == random_bytes(300_000, 2)


async def test_a_reader_whose_pack_is_gone_finds_the_bytes_where_they_are_now(
    who: Actor, time: Time, tmp_path: Path
) -> None:
    """What it knew of the remote leads to a pack that was written anew, and then deleted."""
    last = await half_dead_pack(who, time)
    clone = who.repository.clone(tmp_path / "clone")
    with open_local(clone, tmp_path / "clone-cache", who.local.settings.remote) as local:
        assert await read_file(local, to(who.bucket), b"b") == random_bytes(300_000, 9)
        before = packs_in(who.bucket)
        await who.gc(keep(last))
        assert await who.repack() == 1
        time.pass_days(7.1)
        assert (await who.gc(keep(last))).deleted
        assert before - packs_in(who.bucket)
        assert await read_file(local, to(who.bucket), b"a") == random_bytes(5000, 1)


async def test_undo_brings_back_what_was_forgotten(who: Actor, time: Time) -> None:
    _, new = await two_versions(who, time)
    before = set(manifests(who.bucket))
    await who.gc(keep(new))
    time.pass_days(6)
    assert (await who.undo()).commits == 3
    assert who.bucket.keys(TRASH_PREFIX) == set()
    assert set(manifests(who.bucket)) == before
    time.pass_days(20)
    await who.gc()
    time.pass_days(20)
    await who.gc()
    await assert_complete(who.local, who.bucket)
    assert set(manifests(who.bucket)) == before


async def test_undo_takes_one_commit_and_names_what_is_not_there(who: Actor, time: Time) -> None:
    old, new = await two_versions(who, time)
    await who.gc(keep(new))
    assert (await who.undo(old)).commits == 1
    assert set(manifests(who.bucket)) == {old, new}
    with pytest.raises(StoreError, match=rf"nothing of commit {new[:12]} was forgotten"):
        await who.undo(new)


async def test_packs_that_are_mostly_dead_are_written_anew(
    who: Actor, time: Time, tmp_path: Path
) -> None:
    last = await half_dead_pack(who, time)
    assert await who.repack() == 0
    await who.gc(keep(last))
    before = sum(len(who.bucket.objects[key][0]) for key in who.bucket.keys(PACKS_PREFIX))
    assert await who.repack() == 1
    await assert_complete(who.local, who.bucket)
    time.pass_days(8)
    await who.gc(keep(last))
    after = sum(len(who.bucket.objects[key][0]) for key in who.bucket.keys(PACKS_PREFIX))
    assert after < 0.6 * before
    await assert_complete(who.local, who.bucket)
    assert set(manifests(who.bucket)) == {last}
    clone = who.repository.clone(tmp_path / "clone")
    with open_local(clone, tmp_path / "clone-cache", who.local.settings.remote) as local:
        assert await read_file(local, to(who.bucket), b"a") == random_bytes(5000, 1)
        assert await read_file(local, to(who.bucket), b"b") == random_bytes(300_000, 9)


async def test_a_pack_that_an_unknown_commit_needs_is_not_written_anew(
    who: Actor, time: Time, tmp_path: Path
) -> None:
    """What somebody else's commit needs of it, only his clone can tell."""
    old, _ = await two_versions(who, time)
    other = make_repository(tmp_path / "other")
    with actor(other, tmp_path / "other-cache", who.bucket, time) as stranger:
        stranger.version(a=random_bytes(5000, 1))
        await stranger.push()
        foreign = stranger.repository.head()
        time.pass_days(2)
        named = set(manifests(who.bucket)[foreign].packs)
        assert named & set(manifests(who.bucket)[old].packs)
        await stranger.gc()
        plan = await who.plan_gc(to_act=False)
        assert plan.decisions.condemn == {}
        await who.repack()
        assert named <= packs_in(who.bucket)
        assert named == set(manifests(who.bucket)[foreign].packs)


async def test_a_commit_that_this_clone_does_not_know_is_kept(
    who: Actor, time: Time, tmp_path: Path
) -> None:
    _, new = await two_versions(who, time)
    clone = who.repository.clone(tmp_path / "clone")
    with actor(clone, tmp_path / "clone-cache", who.bucket, time) as other:
        theirs = other.version(d=b"theirs")
        await other.push()
    await who.gc(keep(new))
    assert set(manifests(who.bucket)) == {new, theirs}


async def test_more_than_the_share_is_refused_before_anything_is_done(
    who: Actor, time: Time
) -> None:
    _, new = await two_versions(who, time)
    who.rules = CollectionRules(most_share=0.01)
    before = set(who.bucket.objects)
    with pytest.raises(StoreError, match=r"would go, more than 1%; nothing was done"):
        await who.gc(keep(new))
    assert set(who.bucket.objects) == before


@pytest.mark.parametrize(
    "raw", [b"damaged", seal("manifest", 2, {}), b""], ids=["damaged", "newer", "empty"]
)
@pytest.mark.parametrize("prefix", [MANIFESTS_PREFIX, TRASH_PREFIX])
async def test_a_manifest_that_cannot_be_read_stops_it(
    who: Actor, time: Time, raw: bytes, prefix: str
) -> None:
    await two_versions(who, time)
    (key, *_) = who.bucket.keys(MANIFESTS_PREFIX)
    who.bucket.objects[key.replace(MANIFESTS_PREFIX, prefix)] = raw, 0.0
    before = set(who.bucket.objects)
    with pytest.raises(StoreError, match="nobody knows what it needs, and nothing is collected"):
        await who.gc()
    assert set(who.bucket.objects) == before


async def test_a_stranger_among_the_manifests_stops_it(who: Actor, time: Time) -> None:
    await two_versions(who, time)
    who.bucket.objects[f"{MANIFESTS_PREFIX}of-a-later-kind"] = b"", 0.0
    with pytest.raises(StoreError, match="of-a-later-kind cannot be read"):
        await who.gc()


async def test_a_manifest_that_is_replaced_while_they_are_read_is_seen_in_its_new_place(
    who: Actor, time: Time
) -> None:
    """Between the list and its GET a repack has written a new one and deleted the old."""
    _, new = await two_versions(who, time)
    (key,) = (key for key in who.bucket.keys(MANIFESTS_PREFIX) if new in key)
    moved: list[str] = []

    def plan(call: Call, number: int) -> None:
        if call == Call("fetch", key) and key in who.bucket.objects:
            moved.append(key[:-1] + ("0" if key[-1] != "0" else "1"))
            who.bucket.objects[moved[0]] = who.bucket.objects.pop(key)

    who.wrap = lambda remote: FaultyRemote(remote, plan)
    found = await who.plan_gc(to_act=False)
    assert moved[0] in found.marks.manifests
    assert found.decisions.condemn == {}


async def test_two_collectors_give_way(who: Actor, time: Time) -> None:
    await two_versions(who, time)
    raw = encode_lease(new_lease(LeaseKind.COLLECT, "test"))
    who.bucket.objects[lease_key(LEASE)] = raw, time.seconds - 60
    with pytest.raises(Busy, match="another gc of memory://remote is at work"):
        await who.gc()
    assert who.bucket.keys(LEASES_PREFIX) == {lease_key(LEASE)}
    # It ends after an hour, whoever had it.
    time.pass_days(1 / 24)
    await who.gc()
    assert who.bucket.keys(LEASES_PREFIX) == set()


async def test_a_lease_of_a_process_that_is_gone_counts_no_more(who: Actor, time: Time) -> None:
    await two_versions(who, time)
    lease = new_lease(LeaseKind.COLLECT, "test")
    machine, _, process = lease.owner.rpartition("/")
    pid, _, started = process.partition(" ")
    raw = encode_lease(
        type(lease)(lease.kind, f"{machine}/{pid} {int(started) - 1}", lease.host, (), lease.tool)
    )
    who.bucket.objects[lease_key(LEASE)] = raw, time.seconds
    await who.gc()
    assert who.bucket.keys(LEASES_PREFIX) == set()


async def test_a_plan_to_be_shown_writes_nothing(who: Actor, time: Time) -> None:
    _, new = await two_versions(who, time)
    who.bucket.calls.clear()
    plan = await who.plan_gc(keep(new), to_act=False)
    assert plan.decisions.forget
    assert {call.verb for call in who.bucket.calls} == {"list", "fetch"}
