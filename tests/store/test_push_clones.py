"""`push` of histories with branches, and from several clones."""

import subprocess
from pathlib import Path

import pytest
import trio

from store.local_store import LocalStore
from store.remote import FORMAT_KEY
from tests.fakes.buckets import Bucket, assert_complete, assert_complete_in, manifests, to, version
from tests.fakes.repositories import (
    Repository,
    bucket_remote,
    open_local,
    push,
    random_bytes,
    read_file,
    staged_packs,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


async def test_a_small_edit_of_a_large_file_in_a_fresh_clone_is_a_small_push(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> None:
    content = random_bytes(8 << 20)
    version(repository, local, large=content)
    await push(local, to(bucket))
    clone = repository.clone(tmp_path / "clone")
    at, length = 3 << 20, len(content) // 100
    edited = content[:at] + random_bytes(length, 1) + content[at + length :]
    bucket.calls.clear()
    with open_local(clone, tmp_path / "other", bucket_remote()) as other:
        version(clone, other, large=edited)
        await push(other, to(bucket))
        assert bucket.put_bytes() <= len(content) * 3 // 100
        # What the remote has is not brought here to be pushed.
        fetched = sum(c.length or 0 for c in bucket.calls if c.verb == "fetch_range")
        assert fetched <= len(content) // 10
        assert await read_file(other, to(bucket), b"large") == edited
        await assert_complete(other, bucket)


def checkout(repository: Repository, *arguments: str) -> None:
    """Switch branches; the files in the work tree are pointer texts afterwards."""
    repository.git("reset", "--quiet", "--hard")
    repository.git("checkout", "--quiet", *arguments)


async def test_a_history_with_merges_gets_a_manifest_for_each_commit(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, base=b"base")
    checkout(repository, "-b", "side")
    version(repository, local, side__file=b"side", large=random_bytes(100_000))
    checkout(repository, "main")
    for number in range(3):
        version(repository, local, **{f"main{number}": b"%d" % number})
    checkout(repository, "-b", "apart", "main~1")
    version(repository, local, apart=b"apart")
    checkout(repository, "main")
    repository.git("merge", "--quiet", "-X", "ours", "--no-edit", "side")
    await push(local, to(bucket))
    wanted = repository.git("rev-list", "main").decode().split()
    assert manifests(bucket).keys() == set(wanted)
    await assert_complete(local, bucket)
    # What only another branch needs is still staged, and goes with that branch.
    assert staged_packs(repository) != []
    await push(local, to(bucket), "apart", "side", "main")
    assert manifests(bucket).keys() == set(repository.git("rev-list", "--all").decode().split())
    assert staged_packs(repository) == []
    await assert_complete(local, bucket)


async def test_two_pushes_at_once_both_end_well(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> None:
    version(repository, local, shared=random_bytes(100_000))
    clone = repository.clone(tmp_path / "clone")
    with open_local(clone, tmp_path / "other", bucket_remote()) as other:
        # The clone has the shared file as data, staged by itself.
        version(clone, other, shared=random_bytes(100_000), mine=b"clone")
        version(repository, local, mine=b"origin")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(push, local, to(bucket))
            nursery.start_soon(push, other, to(bucket))
        assert {repository.head(), clone.head()} < manifests(bucket).keys()
        await assert_complete_in(bucket, {local: repository, other: clone})
        for store, content in ((local, b"origin"), (other, b"clone")):
            assert await read_file(store, to(bucket), b"mine") == content
    assert len(bucket.keys(FORMAT_KEY)) == 1


async def test_of_a_pack_what_another_clone_has_pushed_does_not_go_up_again(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> None:
    clone = repository.clone(tmp_path / "clone")
    version(repository, local, shared=random_bytes(50_000, 1))
    await push(local, to(bucket))
    with open_local(clone, tmp_path / "other", bucket_remote()) as other:
        # Staged before this clone has heard of the other's push.
        version(clone, other, mine=random_bytes(500_000, 2), shared=random_bytes(50_000, 1))
        summary = await push(other, to(bucket))
        assert 500_000 <= summary.uploaded_bytes < 520_000
        assert await read_file(other, to(bucket), b"mine") == random_bytes(500_000, 2)
        await assert_complete_in(bucket, {local: repository, other: clone})
    assert staged_packs(clone) == []


async def test_a_shallow_clone_pushes_what_it_has(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> None:
    version(repository, local, a=b"one")
    version(repository, local, a=b"two")
    await push(local, to(bucket))
    shallow = tmp_path / "shallow"
    url = repository.top.as_uri()
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", url, shallow], check=True)
    clone = Repository(shallow)
    with open_local(clone, tmp_path / "other", bucket_remote()) as other:
        version(clone, other, b=b"three")
        assert (await push(other, to(bucket))).commits == 1
    assert clone.head() in manifests(bucket)
