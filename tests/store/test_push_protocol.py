"""`push` by the rules that keep data while others collect: its lease, its looks, the tombs."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from store.errors import RemoteMisconfigured, StoreError
from store.ids import PackName
from store.leases import LeaseKind, parse_lease
from store.looks import LOOK_LIFE_SECONDS
from store.manifests import parse_manifest
from store.remote import (
    INDEX_PREFIX,
    LEASES_PREFIX,
    MANIFESTS_PREFIX,
    PACKS_PREFIX,
    TOMBS_PREFIX,
    tomb_key,
)
from tests.fakes.buckets import Bucket, assert_complete, manifests
from tests.fakes.collected import START_SECONDS, Actor, Time, packs_in, timed_bucket
from tests.fakes.faulty_remote import Fault, FaultyRemote
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def condemn(bucket: Bucket, *packs: PackName) -> None:
    for pack in packs:
        bucket.objects[tomb_key(pack)] = b"", bucket.objects["format"][1]


@dataclass
class Interrupted:
    """Does something right before the call of that verb below that prefix, the `number`-th of its
    kind; `done` says whether it came to that."""

    verb: str
    prefix: str
    number: int
    act: Callable[[], None]
    seen: int = 0
    done: bool = False

    def plan(self, call: Call, number: int) -> Fault | None:
        if (call.verb, call.key[: len(self.prefix)]) == (self.verb, self.prefix):
            self.seen += 1
            if self.seen == self.number:
                self.done = True
                self.act()
        return None

    def wrap(self, who: Actor) -> None:
        who.wrap = lambda remote: FaultyRemote(remote, self.plan)


async def test_the_lease_is_there_from_the_first_look_to_the_last(who: Actor) -> None:
    who.version(a=b"one")
    held: list[tuple[str, str]] = []

    def note(call: Call, number: int) -> None:
        if call.verb in ("put", "list") and who.bucket.keys(LEASES_PREFIX):
            held.append((call.verb, call.key.partition("/")[0]))

    who.wrap = lambda remote: FaultyRemote(remote, note)
    await who.push()
    looks = [("list", "tombs"), ("list", "packs")]
    assert held == [
        ("list", "leases"),
        *looks,
        ("list", "index"),
        ("put", "packs"),
        ("put", "index"),
        *looks,
        ("put", "manifests"),
        ("put", "manifests"),
        *looks,
    ]
    assert who.bucket.keys(LEASES_PREFIX) == set()


async def test_the_lease_says_what_it_is_for(who: Actor) -> None:
    who.version(a=b"one")

    def read() -> None:
        (key,) = who.bucket.keys(LEASES_PREFIX)
        lease = parse_lease(who.bucket.objects[key][0])
        assert (lease.kind, lease.holds, lease.tool) == (LeaseKind.WRITE, (), "test")
        assert lease.owner

    look = Interrupted("list", LEASES_PREFIX, 1, read)
    look.wrap(who)
    await who.push()
    assert look.done


@pytest.mark.parametrize(
    ("hours", "how"), [(1, "ahead of"), (-1, "behind")], ids=["ahead", "behind"]
)
async def test_nothing_is_pushed_where_the_clock_is_off(
    who: Actor, time: Time, hours: int, how: str
) -> None:
    who.version(a=b"one")
    there = Time(START_SECONDS - hours * 3600)
    who.bucket = timed_bucket(there)
    with pytest.raises(RemoteMisconfigured, match=rf"clock of this machine is 3600 s {how} that"):
        await who.push()
    assert who.bucket.keys("") == {"format"}
    there.seconds = time.seconds + 299
    await who.push()
    assert who.repository.head() in manifests(who.bucket)


async def test_a_condemned_pack_is_copied_from_and_never_named_again(who: Actor) -> None:
    who.version(a=b"one")
    await who.push()
    (old,) = packs_in(who.bucket)
    condemn(who.bucket, old)
    # Known in the cache alone, and, with that gone, in the condemned pack.
    for _ in range(2):
        new = who.version(b=b"one")
        who.repository.commit()
        await who.push(new)
        assert old not in manifests(who.bucket)[new].packs
        who.local.cache.path_of(old).unlink(missing_ok=True)
        condemn(who.bucket, *packs_in(who.bucket))
        old = PackName(manifests(who.bucket)[new].packs[0])
        who.repository.write("b", b"other")
    assert who.bucket.keys(TOMBS_PREFIX) == {tomb_key(pack) for pack in packs_in(who.bucket)}


async def test_a_staged_pack_that_lies_condemned_in_the_remote_goes_up_under_another_name(
    who: Actor,
) -> None:
    """A push that was stopped days ago had left it there."""
    who.version(a=random_bytes(5000))

    def stop() -> None:
        raise StoreError("stopped")

    Interrupted("put", INDEX_PREFIX, 1, stop).wrap(who)
    with pytest.raises(StoreError, match="stopped"):
        await who.push()
    (left,) = packs_in(who.bucket)
    condemn(who.bucket, left)
    who.wrap = lambda remote: remote
    await who.push()
    assert left not in manifests(who.bucket)[who.repository.head()].packs
    await assert_complete(who.local, who.bucket)


@pytest.mark.parametrize("look", [2, 3])
@pytest.mark.parametrize("gone", [False, True])
async def test_what_is_condemned_during_the_push_is_healed(
    who: Actor, look: int, gone: bool
) -> None:
    who.version(a=b"one")
    await who.push()
    (old,) = packs_in(who.bucket)
    new = who.version(a=b"one", b=b"two")

    def take_away() -> None:
        condemn(who.bucket, old)
        if gone:
            del who.bucket.objects[f"{PACKS_PREFIX}{old[:2]}/{old}"]

    interrupted = Interrupted("list", TOMBS_PREFIX, look, take_away)
    interrupted.wrap(who)
    await who.push()
    assert interrupted.done
    found = [
        parse_manifest(who.bucket.objects[key][0])
        for key in sorted(who.bucket.keys(MANIFESTS_PREFIX))
        if new in key
    ]
    # One that was written before stays: what it names was there when it was written.
    assert len(found) == (2 if look == 3 else 1)
    assert any(old not in manifest.packs for manifest in found)


async def test_a_push_that_cannot_heal_says_so_and_writes_no_manifest(who: Actor) -> None:
    """Everything that it puts is condemned at once, again and again."""
    new = who.version(a=b"one")

    def condemn_all(call: Call, number: int) -> None:
        if call == Call("list", TOMBS_PREFIX):
            condemn(who.bucket, *packs_in(who.bucket))

    who.wrap = lambda remote: FaultyRemote(remote, condemn_all)
    with pytest.raises(StoreError, match="went away 4 times"):
        await who.push()
    assert new not in manifests(who.bucket)


async def test_a_look_that_is_too_old_is_not_relied_on(who: Actor, time: Time) -> None:
    who.version(a=b"one")

    def sleep() -> None:
        time.seconds += LOOK_LIFE_SECONDS - 30

    # The second look begins with its list of tombs; after that of packs it is nearly over.
    slow = Interrupted("list", PACKS_PREFIX, 2, sleep)
    slow.wrap(who)
    await who.push()
    assert slow.done
    looks = [call for call in who.bucket.calls if call == Call("list", TOMBS_PREFIX)]
    assert len(looks) == 4
    assert who.repository.head() in manifests(who.bucket)


async def test_a_push_whose_lease_has_ended_writes_nothing_more(who: Actor, time: Time) -> None:
    who.version(a=b"one")
    slept = Interrupted("put", PACKS_PREFIX, 1, lambda: time.pass_days(1.1))
    slept.wrap(who)
    with pytest.raises(StoreError, match="longer than 24 h"):
        await who.push()
    assert who.bucket.keys(INDEX_PREFIX) == who.bucket.keys(MANIFESTS_PREFIX) == set()
    await who.push()
    assert who.repository.head() in manifests(who.bucket)


async def test_an_index_object_that_the_remote_lost_is_not_named(who: Actor) -> None:
    """This machine knows what was in it; others could not follow a manifest that names it."""
    who.version(a=b"one")
    await who.push()
    for key in who.bucket.keys(INDEX_PREFIX):
        del who.bucket.objects[key]
    new = who.version(b=b"one")
    await who.push()
    assert who.bucket.keys(INDEX_PREFIX) == {
        f"{INDEX_PREFIX}{name}" for name in manifests(who.bucket)[new].indexes
    }


async def test_a_chunk_in_two_packs_is_used_where_it_is_not_condemned(who: Actor) -> None:
    who.version(a=b"one")
    await who.push()
    (old,) = packs_in(who.bucket)
    condemn(who.bucket, old)
    second = who.version(b=b"one")
    await who.push()
    (good,) = manifests(who.bucket)[second].packs
    # As if what is known here had come in another order.
    store = who.local.load_store_id()
    assert store is not None
    table = who.local.index.load_pack_table(store, old)
    assert table is not None
    who.local.index.move_chunks(store, [good], [old])
    third = who.version(c=b"one")
    await who.push()
    assert manifests(who.bucket)[third].packs == (good,)
