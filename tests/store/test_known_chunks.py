"""KnownChunks: staged, or in the remote as far as this machine knows."""

import pytest

from store import known_chunks as known_chunks_module
from store.ids import ChunkId, chunk_id
from store.known_chunks import KnownChunks
from store.local_store import LocalStore
from tests.fakes.buckets import Bucket, to, version
from tests.fakes.repositories import Repository, push

ABSENT = ChunkId(bytes(32))


async def test_staged_and_pushed_chunks_are_known_and_no_others(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, first=b"first")
    await push(local, to(bucket))
    version(repository, local, second=b"second")
    first, second = chunk_id(b"first"), chunk_id(b"second")
    assert local.staging is not None
    assert local.staging.load_present([first, second]) == [False, True]
    asked = [first, ABSENT, second, first]
    assert KnownChunks(local).load(asked) == [True, False, True, True]
    assert KnownChunks(local).load([]) == []


def test_more_than_are_looked_up_at_once_keep_their_order(
    repository: Repository, local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_chunks_module, "_LOOKUPS_AT_ONCE", 3)
    version(repository, local, here=b"here")
    asked = [chunk_id(b"here") if number % 3 == 1 else ABSENT for number in range(10)]
    assert KnownChunks(local).load(asked) == [number % 3 == 1 for number in range(10)]


def test_a_chunk_of_a_pack_that_is_gone_is_not_relied_on(
    repository: Repository, local: LocalStore
) -> None:
    version(repository, local, here=b"here")
    assert local.staging is not None
    (pack,) = local.staging.packs()
    local.staging.path_of(pack.name).unlink()
    assert KnownChunks(local).load([chunk_id(b"here")]) == [False]
    assert not local.is_known(chunk_id(b"here"))
