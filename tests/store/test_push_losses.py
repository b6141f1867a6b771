"""`push` where data is lost or damaged, or the push itself ends anywhere in between."""

import functools
import shutil
from pathlib import Path

import pytest

from store.errors import ChunkMissing, IntegrityError, RemoteDenied
from store.ids import PackName
from store.local_store import LocalStore
from store.remote import MANIFESTS_PREFIX, PACKS_PREFIX, pack_key
from tests.fakes.buckets import FINE, Bucket, assert_complete, manifests, to, version
from tests.fakes.faulty_remote import FaultyRemote, Raises
from tests.fakes.memory_remote import Call
from tests.fakes.repositories import (
    Repository,
    add,
    bucket_remote,
    make_repository,
    open_local,
    push,
    random_bytes,
    read_file,
    staged_packs,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


async def test_a_chunk_that_is_nowhere_is_named_and_no_manifest_is_written(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    first = version(repository, local, folder__lost=b"lost", kept=b"kept")
    (pack,) = staged_packs(repository)
    version(repository, local, later=b"later")
    assert local.staging is not None
    local.staging.remove(PackName(pack))
    with pytest.raises(ChunkMissing, match=rf"folder/lost \(commit {first[:12]}\)"):
        await push(local, to(bucket))
    assert bucket.keys(MANIFESTS_PREFIX) == bucket.keys(PACKS_PREFIX) == set()
    # As the error says: it is added again where the file still is.
    add(repository, local, chunking=FINE)
    await push(local, to(bucket))
    await assert_complete(local, bucket)
    assert first in manifests(bucket)


async def test_a_chunk_list_that_is_nowhere_is_named(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, folder__large=random_bytes(200_000))
    assert local.staging is not None
    for staged in local.staging.packs():
        local.staging.remove(staged.name)
    with pytest.raises(ChunkMissing, match=r"chunk list of folder/large \(commit"):
        await push(local, to(bucket))
    assert bucket.keys(MANIFESTS_PREFIX) == set()


async def test_a_staged_pack_with_a_flipped_bit_is_not_uploaded(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=random_bytes(1000))
    (pack,) = staged_packs(repository)
    place = repository.top / ".git/revfs/staged" / pack
    raw = bytearray(place.read_bytes())
    raw[500] ^= 1
    place.write_bytes(raw)
    with pytest.raises(IntegrityError, match=pack):
        await push(local, to(bucket))
    assert bucket.puts() == ["format"]


async def test_a_pack_that_the_remote_lost_is_replaced_from_the_cache(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> None:
    version(repository, local, a=b"one", large=random_bytes(100_000))
    await push(local, to(bucket))
    lost = bucket.keys(PACKS_PREFIX)
    for key in lost:
        del bucket.objects[key]
    version(repository, local, b=b"two")
    await push(local, to(bucket))
    assert lost.isdisjoint(bucket.objects)
    (newest,) = (m for c, m in manifests(bucket).items() if c == repository.head())
    assert all(pack_key(name) in bucket.objects for name in newest.packs)
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "other", bucket_remote()) as o:
        assert await read_file(o, to(bucket), b"large") == random_bytes(100_000)
        assert await read_file(o, to(bucket), b"b") == b"two"


@pytest.mark.parametrize("size", [1000, 100_000])
async def test_a_pack_that_everybody_lost_is_added_again(
    repository: Repository, tmp_path: Path, bucket: Bucket, size: int
) -> None:
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        version(repository, local, folder__a=random_bytes(size))
        await push(local, to(bucket))
        shutil.rmtree(tmp_path / "cache" / "packs")
        for key in bucket.keys(PACKS_PREFIX):
            del bucket.objects[key]
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        version(repository, local, b=b"two")
        # Once for all: also where the list of the file's chunks was lost with the chunks.
        with pytest.raises(ChunkMissing, match=r"folder/a.*revfs add it again"):
            await push(local, to(bucket))
        add(repository, local, chunking=FINE)
        await push(local, to(bucket))
        assert repository.head() in manifests(bucket)


async def count_calls(tmp_path: Path, name: str) -> int:
    """How many calls a push of `prepared` makes when nothing goes wrong."""
    repository = prepared(tmp_path / name)
    with open_local(repository, tmp_path / f"{name}-cache", bucket_remote()) as local:
        add(repository, local, chunking=FINE)
        repository.commit()
        remote = FaultyRemote(Bucket(), lambda call, number: None)
        await push(local, to(remote))
        return len(remote.calls)


def prepared(top: Path) -> Repository:
    """A repository with files to add."""
    repository = make_repository(top)
    repository.write("a", b"one")
    repository.write("large", random_bytes(100_000))
    return repository


@pytest.mark.parametrize("after", [False, True])
async def test_a_push_that_ends_at_any_call_leaves_nothing_half_and_can_be_repeated(
    tmp_path: Path, after: bool
) -> None:
    calls = await count_calls(tmp_path, "counted")
    assert calls > 12
    # The last one drops the lease, which does not matter to the push.
    for end in range(calls - 1):
        bucket = Bucket()
        repository = prepared(tmp_path / f"r{end}")
        with open_local(repository, tmp_path / f"c{end}", bucket_remote()) as local:
            add(repository, local, chunking=FINE)
            repository.commit()
            staged = staged_packs(repository)
            error = Raises(RemoteDenied("the end"), after=after)
            faulty = FaultyRemote(bucket, functools.partial(_fails_from, end, error))
            with pytest.raises(RemoteDenied):
                await push(local, to(faulty))
            await assert_complete(local, bucket)
            complete = repository.head() in manifests(bucket)
            assert complete or staged_packs(repository) == staged
            await push(local, to(bucket))
            await assert_complete(local, bucket)
            assert repository.head() in manifests(bucket)
            assert staged_packs(repository) == []
            # Data and lists; of what was stopped, one pack at most went up for nothing.
            assert len(bucket.keys(PACKS_PREFIX)) <= 3
        repository.git("fsck", "--strict")


def _fails_from(end: int, error: Raises, call: Call, number: int) -> Raises | None:
    return error if number >= end else None
