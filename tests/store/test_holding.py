"""A reader that lives long, and its lease in the remote."""

import pytest
import trio

from store import holding
from store.errors import RemoteDenied, RemoteUnavailable
from store.holding import FIRST_SECONDS, RENEWAL_SECONDS, Holder
from store.leases import LeaseKind, parse_lease
from store.remote import LEASES_PREFIX
from tests.fakes.buckets import Bucket
from tests.fakes.faulty_remote import Fault, FaultyRemote, Raises
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import REPOSITORY_ID

pytestmark = pytest.mark.virtual_clock

FIRST, SECOND = "c0" * 20, "d0" * 20


def held(bucket: Bucket) -> list[tuple[str, ...]]:
    """What the leases in the bucket hold."""
    keys = bucket.keys(LEASES_PREFIX)
    leases = [parse_lease(bucket.objects[key][0]) for key in sorted(keys)]
    assert all(lease.kind is LeaseKind.HOLD for lease in leases)
    return [lease.holds for lease in leases]


async def test_a_lease_comes_after_some_minutes_is_renewed_and_goes() -> None:
    bucket, commit = Bucket(), FIRST
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Holder(bucket, REPOSITORY_ID, lambda: commit, 5.0).run)
        await trio.sleep(FIRST_SECONDS - 1)
        assert held(bucket) == []
        await trio.sleep(2)
        assert held(bucket) == [(f"{REPOSITORY_ID}/{FIRST}",)]
        await trio.sleep(RENEWAL_SECONDS - 60)
        assert bucket.count("put") == 1
        await trio.sleep(120)
        assert bucket.count("put") == 2
        # A mount that follows a branch.
        commit = SECOND
        await trio.sleep(60)
        assert held(bucket) == [(f"{REPOSITORY_ID}/{SECOND}",)]
        nursery.cancel_scope.cancel()
    assert held(bucket) == []
    assert LeaseKind.HOLD.life_seconds / 4 >= RENEWAL_SECONDS


async def test_who_may_not_write_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def plan(call: Call, number: int) -> Fault:
        return Raises(RemoteDenied("you may not put"))

    remote = FaultyRemote(Bucket(), plan)
    with trio.fail_after(1000):
        await Holder(remote, REPOSITORY_ID, lambda: FIRST, 5.0).run()
    assert [call.verb for call in remote.calls] == ["put"]
    assert caplog.text.count("you may not put") == 1


async def test_a_remote_that_does_not_answer_is_asked_again() -> None:
    bucket = Bucket()

    def plan(call: Call, number: int) -> Fault | None:
        return Raises(RemoteUnavailable("busy")) if number < 3 else None

    async with trio.open_nursery() as nursery:
        holder = Holder(FaultyRemote(bucket, plan), REPOSITORY_ID, lambda: FIRST, 5.0)
        nursery.start_soon(holder.run)
        await trio.sleep(FIRST_SECONDS + 4 * 31)
        assert held(bucket) == [(f"{REPOSITORY_ID}/{FIRST}",)]
        nursery.cancel_scope.cancel()


async def test_a_mount_of_many_commits_holds_none() -> None:
    bucket = Bucket()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Holder(bucket, REPOSITORY_ID, lambda: "", 5.0).run)
        await trio.sleep(10 * FIRST_SECONDS)
        nursery.cancel_scope.cancel()
    assert bucket.count() == 0


async def test_letting_go_takes_no_time_where_nobody_answers() -> None:
    class Silent(Bucket):
        async def delete(self, key: str, *, timeout_seconds: float) -> None:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Holder(Silent(), REPOSITORY_ID, lambda: FIRST, 5.0).run)
        await trio.sleep(FIRST_SECONDS + 1)
        before = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - before <= holding._DROP_SECONDS
