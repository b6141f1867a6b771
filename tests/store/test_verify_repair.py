"""`verify --repair`: from which copies, in which order, and what it leaves alone."""

import contextlib
import shutil
from functools import partial
from pathlib import Path

import pytest

from store.errors import RemoteDenied
from store.local_store import LocalStore
from store.manifests import parse_manifest
from store.remote import (
    MANIFESTS_PREFIX,
    PACKS_PREFIX,
    Remote,
    index_key,
    pack_key,
    parse_pack_key,
    tomb_key,
)
from store.remote_index import parse_index
from store.verify_opening import open_other
from tests.fakes.bucket_damage import flip
from tests.fakes.buckets import Bucket, manifests, to, version
from tests.fakes.faulty_remote import Delays, FaultyRemote, Raises
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import (
    Repository,
    bucket_remote,
    open_local,
    random_bytes,
    read_file,
)
from tests.fakes.verifying import (
    FIRST,
    SECOND,
    TwoVersions,
    fine_bucket,
    named,
    publish_two_versions,
    repair,
    verify,
)

pytestmark = [pytest.mark.usefixtures("in_no_hurry_for_git"), pytest.mark.expects_warnings]

VERSIONS = {"v1": FIRST, "v2": SECOND}


@pytest.fixture
def two(repository: Repository, tmp_path: Path) -> TwoVersions:
    return publish_two_versions(repository, tmp_path)


def largest_pack(bucket: Bucket) -> str:
    return max(bucket.keys(PACKS_PREFIX), key=lambda key: len(bucket.objects[key][0]))


def damage(bucket: Bucket, key: str, *, bit: int = 8 * 20) -> None:
    bucket.objects[key] = flip(bucket.objects[key][0], bit), 0.0


async def assert_whole(two: TwoVersions, folder: Path) -> None:
    """All is well, and every byte of every version reads right in a clone with an empty cache."""
    with two.another_machine(folder) as local:
        assert named(local, await verify(local, to(two.bucket), read=True, every=True)) == {}
        await assert_reads(local, two)


async def assert_reads(local: LocalStore, two: TwoVersions) -> None:
    for tag, contents in VERSIONS.items():
        for path, content in contents.items():
            assert await read_file(local, to(two.bucket), path, tag) == content


async def test_the_order_is_packs_index_manifests_and_only_then_anything_goes(
    two: TwoVersions, tmp_path: Path
) -> None:
    lost = largest_pack(two.bucket)
    damage(two.bucket, lost)
    before = dict(two.bucket.objects)
    two.bucket.calls.clear()
    with two.pushing_machine(tmp_path / "heals") as local:
        plan = await repair(local, to(two.bucket))
    changes = [call for call in two.bucket.calls if call.verb in ("put", "delete")]
    kinds = [(call.verb, call.key.partition("/")[0]) for call in changes]
    # First what has no need of new packs: the pack that shared an index object with the lost one.
    # The lease of the push is held until all is done.
    assert kinds[:4] == [("put", "index"), ("put", "leases"), ("put", "packs"), ("put", "index")]
    assert kinds[4:6] == [("put", "manifests")] * 2
    assert kinds[6:] == [
        *[("delete", "manifests")] * 2,
        ("put", "tombs"),
        ("delete", "leases"),
    ]
    # Nothing that was there was written over; the damaged pack stays as it is.
    assert not {call.key for call in changes if call.verb == "put"} & before.keys()
    assert two.bucket.objects[lost] == before[lost]
    name = parse_pack_key(lost)
    assert name is not None
    assert tomb_key(name) in two.bucket.objects
    assert not any(name in manifest.packs for manifest in manifests(two.bucket).values())
    assert plan.context.copies.counts.keys() <= {"work tree", "staged or cached"}
    await assert_whole(two, tmp_path / "reads")


async def test_a_machine_that_knew_the_damaged_pack_reads_what_was_put_back(
    two: TwoVersions, tmp_path: Path
) -> None:
    """Its tables lead to the damaged pack, and it has nothing cached."""
    with two.another_machine(tmp_path / "reader") as reader:
        await verify(reader, to(two.bucket))
        for path in (b"b", b"a"):
            await read_file(reader, to(two.bucket), path)
        shutil.rmtree(tmp_path / "reader" / "packs")
        (tmp_path / "reader" / "packs").mkdir(mode=0o700)
        damage(two.bucket, largest_pack(two.bucket))
        with two.pushing_machine(tmp_path / "heals") as local:
            await repair(local, to(two.bucket))
        await assert_reads(reader, two)


async def test_a_machine_that_knows_all_packs_and_no_commit_finds_the_new_place(
    two: TwoVersions, tmp_path: Path
) -> None:
    """The old index object tells of the lost pack still; it must not hide the new one."""
    lost = largest_pack(two.bucket)
    del two.bucket.objects[lost]
    with two.pushing_machine(tmp_path / "heals") as local:
        await repair(local, to(two.bucket))
    two.clone.git("checkout", "--quiet", "v2")
    with two.another_machine(tmp_path / "reader") as reader:
        for key in two.bucket.keys(MANIFESTS_PREFIX):
            del two.bucket.objects[key]
        # Who has just asked what the remote holds does not ask again at once: a first read may
        # fail, the next one must not.
        with contextlib.suppress(BaseExceptionGroup):
            await read_file(reader, to(two.bucket), b"d/large")
        await assert_reads(reader, two)


async def test_the_cache_alone_heals_a_lost_pack(two: TwoVersions, tmp_path: Path) -> None:
    del two.bucket.objects[largest_pack(two.bucket)]
    shutil.copytree(two.cache, tmp_path / "heals")
    with open_local(two.clone, tmp_path / "heals", bucket_remote()) as local:
        plan = await repair(local, to(two.bucket))
        assert plan.context.copies.counts.keys() == {"staged or cached"}
    await assert_whole(two, tmp_path / "reads")


async def test_the_work_tree_alone_heals_a_lost_pack_and_a_lost_list(
    two: TwoVersions, tmp_path: Path
) -> None:
    two.repository.write("a", FIRST[b"a"])
    for key in two.bucket.keys(PACKS_PREFIX):
        if len(two.bucket.objects[key][0]) > 200:
            del two.bucket.objects[key]
    with open_local(two.repository, tmp_path / "heals", bucket_remote()) as local:
        plan = await repair(local, to(two.bucket), "v1")
        assert plan.context.copies.counts.keys() == {"work tree"}
    with two.another_machine(tmp_path / "reads") as local:
        assert named(local, await verify(local, to(two.bucket), "v1", read=True)) == {}
        for path, content in FIRST.items():
            assert await read_file(local, to(two.bucket), path, "v1") == content


async def test_what_is_sound_in_a_damaged_pack_and_another_remote_heal_it(
    two: TwoVersions, tmp_path: Path
) -> None:
    other = fine_bucket("99999999-2222-4333-8444-555555555555")
    other.objects = two.bucket.objects | other.objects
    damage(two.bucket, largest_pack(two.bucket))
    with two.another_machine(tmp_path / "heals") as local:
        async with open_other(local, bucket_remote("other"), to(other)) as source:
            plan = await repair(local, to(two.bucket), others=[source])
        assert plan.context.copies.counts.keys() == {"damaged packs", "remote other"}
        assert plan.context.copies.counts["remote other"].chunks == 1
    await assert_whole(two, tmp_path / "reads")


async def test_only_what_has_no_copy_is_lost_and_the_rest_is_put_back(
    two: TwoVersions, tmp_path: Path
) -> None:
    """Both files are hurt, and the work tree has one of them."""
    large = largest_pack(two.bucket)
    del two.bucket.objects[large]
    two.clone.write("d/large", SECOND[b"d/large"])
    two.clone.write("a", FIRST[b"a"])
    with two.another_machine(tmp_path / "heals") as local:
        plan = await repair(local, to(two.bucket))
        assert {path for path, _ in plan.lost.values()} == {b"d/other"}
        assert not any(key.startswith(MANIFESTS_PREFIX) for key in plan.gone)
    with two.another_machine(tmp_path / "reads") as local:
        assert await read_file(local, to(two.bucket), b"d/large") == SECOND[b"d/large"]
        found = named(local, await verify(local, to(two.bucket), read=True))
        assert set().union(*found.values()) == {b"d/other"}
    # Whoever has the file puts it back, and then all is well.
    with two.pushing_machine(tmp_path / "pusher") as local:
        assert not (await repair(local, to(two.bucket))).lost
    await assert_whole(two, tmp_path / "whole")


async def test_where_nothing_is_wrong_a_repair_does_nothing(
    two: TwoVersions, tmp_path: Path
) -> None:
    two.bucket.calls.clear()
    with two.pushing_machine(tmp_path / "heals") as local:
        assert (await repair(local, to(two.bucket))).is_empty
    assert two.bucket.count("put") == two.bucket.count("delete") == 0


async def test_a_commit_that_was_never_pushed_is_left_to_push(
    two: TwoVersions, tmp_path: Path
) -> None:
    with two.pushing_machine(tmp_path / "heals") as local:
        commit = version(two.repository, local, new=random_bytes(1000))
        plan = await repair(local, to(two.bucket))
        assert (plan.is_empty, plan.not_pushed) == (True, 1)
    assert commit not in manifests(two.bucket)


async def test_who_may_not_delete_has_repaired_all_the_same(
    two: TwoVersions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(two.bucket, largest_pack(two.bucket))

    def denied(call: Call, number: int) -> Raises | None:
        return Raises(RemoteDenied("no such right")) if call.verb == "delete" else None

    with two.pushing_machine(tmp_path / "heals") as local:
        await repair(local, to(FaultyRemote(two.bucket, denied)))
    assert "still there: no such right" in caplog.text
    assert len(two.bucket.keys(MANIFESTS_PREFIX)) == 5
    # The newest manifest is what counts, for readers and for the next look.
    await assert_whole(two, tmp_path / "reads")


@pytest.mark.parametrize("after", [False, True])
async def test_a_repair_that_ends_at_any_call_leaves_no_less_and_can_be_repeated(
    two: TwoVersions, tmp_path: Path, after: bool
) -> None:
    telling = indexes_telling_of(two.bucket, largest_pack(two.bucket))
    damage(two.bucket, largest_pack(two.bucket))
    damaged = dict(two.bucket.objects)
    counting = FaultyRemote(two.bucket, lambda call, number: None)
    with two.pushing_machine(tmp_path / "counts") as local:
        await repair(local, to(counting))
    writes = [n for n, call in enumerate(counting.calls) if call.verb in ("put", "delete")]
    error = Raises(RemoteDenied("the end"), after=after)
    last = Delays(0.05)
    old_indexes = {key for key in damaged if key.startswith("index/")}
    for end in writes:
        two.bucket.objects = dict(damaged)
        faulty = FaultyRemote(two.bucket, partial(_fails_from, end, error))
        with two.pushing_machine(tmp_path / f"ends-{end}") as local:
            await _until_it_ends(local, faulty)
            for manifest in manifests(two.bucket).values():
                assert all(pack_key(name) in two.bucket.objects for name in manifest.packs)
            # What tells of the damaged pack is learnt last, and must not be what counts.
            slow = FaultyRemote(
                two.bucket, lambda call, _: last if call.key in old_indexes else None
            )
            await repair(local, to(slow))
        assert not telling & indexes_in_use(two.bucket)
        await assert_whole(two, tmp_path / f"reads-{end}")


def indexes_telling_of(bucket: Bucket, pack: str) -> set[str]:
    """The keys of the index objects that tell of the pack at that key."""
    return {
        key
        for key in bucket.keys("index/")
        if pack in {pack_key(found.name) for found in parse_index(bucket.objects[key][0])}
    }


def indexes_in_use(bucket: Bucket) -> set[str]:
    """The keys of the index objects that the newest manifest of each commit names."""
    newest = {key.rpartition("/")[0]: key for key in sorted(bucket.keys(MANIFESTS_PREFIX))}
    found = [parse_manifest(bucket.objects[key][0]) for key in newest.values()]
    return {index_key(name) for manifest in found for name in manifest.indexes}


async def _until_it_ends(local: LocalStore, remote: Remote) -> None:
    try:
        await repair(local, to(remote))
    except* RemoteDenied:
        pass


def _fails_from(end: int, error: Raises, call: Call, number: int) -> Raises | None:
    return error if number >= end else None
