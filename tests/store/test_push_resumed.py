"""`push` after one that was stopped, and to a remote where others have put things of their own."""

from pathlib import Path

import pytest

from store.errors import RemoteDenied, StoreError
from store.local_store import LocalStore
from store.remote import PACKS_PREFIX
from tests.fakes.buckets import Bucket, assert_complete, manifests, to, version
from tests.fakes.faulty_remote import Fault, FaultyRemote, Raises
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import Repository, push, random_bytes, staged_packs

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def no_index(call: Call, _: int) -> Fault | None:
    """What ends a push when its packs are up and nothing names them yet."""
    is_index = call.verb == "put" and call.key.startswith("index/")
    return Raises(RemoteDenied("the end")) if is_index else None


async def test_packs_that_a_stopped_push_left_in_the_remote_do_not_go_up_again(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=b"one", large=random_bytes(200_000))
    with pytest.raises(RemoteDenied):
        await push(local, to(FaultyRemote(bucket, no_index)))
    assert len(bucket.keys(PACKS_PREFIX)) == 2
    bucket.calls.clear()
    summary = await push(local, to(bucket))
    assert bucket.puts() == ["index", "manifests", "manifests"]
    assert (summary.packs, summary.uploaded_bytes) == (0, 0)
    await assert_complete(local, bucket)
    assert staged_packs(repository) == []


async def test_a_pack_that_was_cut_short_in_the_remote_goes_up_again(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=random_bytes(1000))
    with pytest.raises(RemoteDenied):
        await push(local, to(FaultyRemote(bucket, no_index)))
    (key,) = bucket.keys(PACKS_PREFIX)
    whole = bucket.objects[key][0]
    bucket.objects[key] = whole[:-1], 0.0
    summary = await push(local, to(bucket))
    assert bucket.objects[key][0] == whole
    assert (summary.packs, summary.uploaded_bytes) == (1, len(whole))


async def test_a_copy_of_a_pack_at_a_key_of_its_own_does_not_count_as_the_pack(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=random_bytes(1000))
    await push(local, to(bucket))
    (key,) = bucket.keys(PACKS_PREFIX)
    # Somebody moved it away, to a folder of copies.
    bucket.objects[f"{PACKS_PREFIX}copies/{Path(key).name}"] = bucket.objects.pop(key)
    version(repository, local, b=random_bytes(10))
    await push(local, to(bucket))
    newest = manifests(bucket)[repository.head()]
    assert len(newest.packs) == 2
    assert key.rpartition("/")[2] not in newest.packs


async def test_a_remote_that_was_seen_with_data_and_is_empty_now_is_not_begun_anew(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=b"one")
    await push(local, to(bucket))
    version(repository, local, b=b"two")
    staged = staged_packs(repository)
    unmounted = Bucket()
    with pytest.raises(StoreError, match="is it mounted"):
        await push(local, to(unmounted))
    assert unmounted.objects == {}
    assert staged_packs(repository) == staged
    await push(local, to(bucket))
    await assert_complete(local, bucket)
