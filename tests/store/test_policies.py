"""The policies that SECURITY.md gives out are enough for the code, and no more than it needs."""

from functools import partial
from pathlib import Path

import pytest
import trio

from store.checks import Outcome
from store.errors import RemoteDenied
from store.remote_checks import check_remote
from tests.fakes.buckets import Bucket, to, version
from tests.fakes.collected import Actor, Time, half_dead_pack, keep
from tests.fakes.policies import PolicedRemote, allows, load_policies
from tests.fakes.published import publish
from tests.fakes.repositories import (
    Repository,
    bucket_remote,
    open_local,
    push,
    random_bytes,
    read_file,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

LAYOUT = ("format", "packs", "index", "manifests", "tombs", "leases", "trash", "probe")
IMMUTABLE = {"format", "packs", "index", "manifests"}
CHANGES = ("s3:PutObject", "s3:DeleteObject")
# What a push under way, and a mount, say of themselves.
LEASES = {(action, "leases") for action in CHANGES}


def granted(who: str) -> set[tuple[str, str]]:
    """The changing actions that a policy allows, by the first part of the keys."""
    policy = load_policies()[who]
    return {
        (action, kind)
        for action in CHANGES
        for kind in LAYOUT
        if allows(policy, action, kind if kind == "format" else f"{kind}/xx/name")
    }


def test_a_pusher_may_push_and_probe_and_change_nothing_else(
    repository: Repository, tmp_path: Path
) -> None:
    policed = PolicedRemote(Bucket(), load_policies()["pusher"])
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        for number in range(2):
            version(repository, local, file=random_bytes(300_000, number))
            trio.run(partial(push, local, to(policed)))
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "new", bucket_remote()) as new:
        content = trio.run(partial(read_file, new, to(policed), b"file"))
        assert content == random_bytes(300_000, 1)
    findings = trio.run(partial(check_remote, bucket_remote(), wrap_remote=to(policed)))
    assert {finding.outcome for finding in findings} == {Outcome.OK}
    assert policed.refused == set()
    used = {(action, kind) for action, kind in policed.used if action in CHANGES}
    assert granted("pusher") == used | LEASES
    assert not any(("s3:DeleteObject", kind) in granted("pusher") for kind in IMMUTABLE)


def test_a_reader_may_read_and_change_nothing(tmp_path: Path) -> None:
    content = random_bytes(300_000)
    published = publish(tmp_path, {b"file": content})
    policed = PolicedRemote(published.bucket, load_policies()["reader"])
    before = dict(published.bucket.objects)
    with published.cloned(tmp_path) as (clone, local):
        assert trio.run(partial(read_file, local, to(policed), b"file")) == content
        assert policed.refused == set()
        clone.write("more", b"more")
        version(clone, local, more=b"more")
        with pytest.raises(RemoteDenied):
            trio.run(partial(push, local, to(policed)))
    assert published.bucket.objects == before
    assert granted("reader") == set()


def test_a_collector_may_change_all_but_the_format() -> None:
    everything = {(action, kind) for action in CHANGES for kind in LAYOUT}
    assert granted("collector") == everything - {("s3:DeleteObject", "format")}


async def test_a_collector_may_do_all_of_it(who: Actor, time: Time) -> None:
    policed = PolicedRemote(who.bucket, load_policies()["collector"])
    who.wrap = lambda _: policed
    last = await half_dead_pack(who, time)
    await who.gc(keep(last))
    assert (await who.undo()).commits
    assert await who.repack() == 0
    await who.gc(keep(last))
    assert await who.repack() == 1
    for _ in range(2):
        time.pass_days(8)
        await who.gc(keep(last))
    assert policed.refused == set()
    used = {(action, kind) for action, kind in policed.used if action in CHANGES}
    # The rest is the doctor's.
    assert granted("collector") - used == {(action, "probe") for action in CHANGES}


async def test_a_pusher_may_not_collect(who: Actor, time: Time) -> None:
    last = await half_dead_pack(who, time)
    before = dict(who.bucket.objects)
    who.wrap = lambda remote: PolicedRemote(remote, load_policies()["pusher"])
    with pytest.raises(RemoteDenied, match="PutObject is not allowed on trash/"):
        await who.gc(keep(last))
    assert who.bucket.objects == before


@pytest.mark.parametrize("who", ["reader", "pusher", "collector"])
def test_all_may_read_and_list_below_the_prefix_and_nothing_is_allowed_outside(who: str) -> None:
    policy = load_policies()[who]
    for kind in LAYOUT:
        assert allows(policy, "s3:ListBucket", f"{kind}/")
        assert allows(policy, "s3:GetObject", f"{kind}/xx/name")
    for action in ("s3:ListBucket", "s3:GetObject", *CHANGES):
        assert not allows(policy, action, "packs/xx/name", prefix="OTHER")
    assert not allows(policy, "s3:PutBucketPolicy", "packs/xx/name")
