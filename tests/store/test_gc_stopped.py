"""`gc` of a remote that ends at any call, or is watched at each."""

import functools
from pathlib import Path

import pytest

from store.errors import RemoteDenied
from store.ids import PackName
from store.outdated_indexes import OutdatedIndexes
from store.remote import INDEX_PREFIX, LEASES_PREFIX, index_key
from tests.fakes.collected import (
    Actor,
    Time,
    actor,
    assert_nothing_is_missing,
    keep,
    timed_bucket,
    two_versions,
)
from tests.fakes.faulty_remote import FaultyRemote, Raises
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.mark.parametrize("after", [False, True])
async def test_a_gc_that_ends_at_any_call_has_lost_nothing_and_can_be_repeated(
    tmp_path: Path, time: Time, after: bool
) -> None:
    repository = make_repository(tmp_path / "r")
    with actor(repository, tmp_path / "cache", timed_bucket(time), time) as who:
        _, new = await two_versions(who, time)
        await who.gc(keep(new))
        # Most of its chunks stay, and their list does not: of one index object one pack dies.
        last = who.version(b=random_bytes(300_000, 2) + b"and more")
        await who.push()
        time.pass_days(2)
        await who.gc(keep(last))
        time.pass_days(7.1)
        who.version(d=random_bytes(100))
        await who.push()
        time.pass_days(1.1)
        last = who.repository.head()
        start = dict(who.bucket.objects)
        remote = FaultyRemote(who.bucket, lambda call, number: None)
        who.wrap = lambda _: remote
        await who.gc(keep(last))
        ended = set(who.bucket.objects)
        calls = len(remote.calls)
        assert calls > 15
        for end in range(calls - 1):
            who.bucket.objects = dict(start)
            error = Raises(RemoteDenied("the end"), after=after)
            plan = functools.partial(_fails_from, end, error)
            who.wrap = lambda remote, plan=plan: FaultyRemote(remote, plan)
            with pytest.raises(RemoteDenied):
                await who.gc(keep(last))
            assert_nothing_is_missing(who.bucket)
            # Its lease could not be deleted, and this process lives.
            for key in who.bucket.keys(LEASES_PREFIX):
                del who.bucket.objects[key]
            who.wrap = lambda remote: remote
            await who.gc(keep(last))
            assert_nothing_is_missing(who.bucket)
            assert set(who.bucket.objects) == ended


async def test_at_every_moment_an_index_object_leads_to_what_lives(
    who: Actor, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    who.version(b=random_bytes(300_000, 2))
    await who.push()
    last = who.version(b=random_bytes(300_000, 2) + b"and more")
    await who.push()
    time.pass_days(2)
    await who.gc(keep(last))
    time.pass_days(7.1)
    start = dict(who.bucket.objects)

    def watch(call: Call, number: int) -> None:
        assert_nothing_is_missing(who.bucket)

    who.wrap = lambda remote: FaultyRemote(remote, watch)
    assert (await who.gc(keep(last))).deleted == 1
    # Were the old one to go first, that would be seen.
    right = OutdatedIndexes._replace

    async def wrong(self: OutdatedIndexes, name: str, dead: set[PackName]) -> None:
        kept = who.bucket.objects.pop(index_key(name))
        await self.remote.list_objects(INDEX_PREFIX, timeout_seconds=1)
        who.bucket.objects[index_key(name)] = kept
        await right(self, name, dead)

    monkeypatch.setattr(OutdatedIndexes, "_replace", wrong)
    who.bucket.objects = start
    with pytest.raises(AssertionError):
        await who.gc(keep(last))


def _fails_from(end: int, error: Raises, call: Call, number: int) -> Raises | None:
    return error if number >= end else None
