"""`push`: what goes up, in which order, and what stays here."""

from pathlib import Path

import pytest

from store.errors import ChunkMissing
from store.ids import is_pack_name
from store.local_store import LocalStore
from store.remote import FORMAT_KEY, MANIFESTS_PREFIX, PACKS_PREFIX
from tests.fakes.buckets import FINE, Bucket, assert_complete, manifests, to, version
from tests.fakes.repositories import (
    REPOSITORY_ID,
    Repository,
    add,
    bucket_remote,
    folder_remote,
    open_local,
    planned_push,
    push,
    random_bytes,
    read_file,
    staged_packs,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


async def test_packs_go_before_the_index_and_that_before_the_manifest(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    commit = version(repository, local, a=b"one", b=random_bytes(200_000))
    summary = await push(local, to(bucket))
    puts = bucket.puts()
    # The format first; data and lists are packs of their own; `set up` has a manifest too.
    assert puts == ["format", "packs", "packs", "index", "manifests", "manifests"]
    assert (summary.commits, summary.packs) == (2, 2)
    packs = bucket.keys(PACKS_PREFIX)
    assert summary.uploaded_bytes == sum(len(bucket.objects[key][0]) for key in packs)
    assert commit in manifests(bucket)
    await assert_complete(local, bucket)
    assert staged_packs(repository) == []


async def test_what_was_pushed_is_read_back_from_the_remote_alone(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> None:
    contents = {"a": b"one", "b": random_bytes(200_000)}
    version(repository, local, **contents)
    await push(local, to(bucket))
    clone = repository.clone(tmp_path / "clone")
    with open_local(clone, tmp_path / "other", bucket_remote()) as other:
        for name, content in contents.items():
            assert await read_file(other, to(bucket), name.encode()) == content


async def test_a_second_push_uploads_nothing(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=b"one")
    await push(local, to(bucket))
    before = dict(bucket.objects)
    bucket.calls.clear()
    assert (await push(local, to(bucket))).commits == 0
    assert bucket.puts() == []
    assert bucket.objects == before


async def test_a_commit_of_what_is_there_already_costs_a_manifest(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=b"one")
    await push(local, to(bucket))
    bucket.calls.clear()
    version(repository, local, b=b"one")
    assert (await push(local, to(bucket))).uploaded_bytes == 0
    assert bucket.puts() == ["manifests"]
    await assert_complete(local, bucket)


async def test_of_a_pack_that_is_mostly_not_committed_only_the_needed_part_goes_up(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    repository.write("a", random_bytes(50_000, 1))
    repository.write("b", random_bytes(500_000, 2))
    add(repository, local, chunking=FINE)
    repository.git("rm", "--quiet", "--force", "--cached", "b")
    repository.commit()
    before = staged_packs(repository)
    summary = await push(local, to(bucket))
    assert summary.uploaded_bytes < 60_000
    assert set(staged_packs(repository)) <= set(before)
    await assert_complete(local, bucket)
    add(repository, local, chunking=FINE)
    repository.commit()
    await push(local, to(bucket))
    assert staged_packs(repository) == []
    await assert_complete(local, bucket)


async def test_another_remote_gets_what_the_first_one_took(
    repository: Repository, tmp_path: Path, bucket: Bucket
) -> None:
    (tmp_path / "first").mkdir()
    first, second = folder_remote(tmp_path / "first"), bucket_remote()
    content = random_bytes(100_000)
    with open_local(repository, tmp_path / "cache", first) as local:
        version(repository, local, a=b"one", large=content)
        await push(local, lambda made: made)
        assert staged_packs(repository) == []
    with open_local(repository, tmp_path / "cache", second) as local:
        with pytest.raises(ChunkMissing, match=r"not to be had|not staged"):
            await push(local, to(bucket))
        assert bucket.keys(MANIFESTS_PREFIX) == set()
        await push(local, to(bucket), others=[first])
        await assert_complete(local, bucket)
        assert await read_file(local, to(bucket), b"large") == content
        assert staged_packs(repository) == []


async def test_a_folder_remote_keeps_no_second_copy_here(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "remote").mkdir()
    remote = folder_remote(tmp_path / "remote")
    with open_local(repository, tmp_path / "cache", remote) as local:
        version(repository, local, a=random_bytes(1000))
        await push(local, lambda made: made)
        assert staged_packs(repository) == []
        assert await read_file(local, lambda made: made, b"a") == random_bytes(1000)
    packs = [path for path in (tmp_path / "cache/packs").rglob("*") if is_pack_name(path.name)]
    assert packs == []


async def test_a_plan_writes_a_lease_and_a_new_remotes_format_alone(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=b"one")
    before = staged_packs(repository)
    async with planned_push(local, to(bucket)) as plan:
        assert [commit.commit for commit in plan.commits][-1] == repository.head()
        assert list(plan.selection.whole_packs) == before
        assert plan.selection.loose_chunks == {}
        assert plan.lease is not None
        assert bucket.keys("") == {FORMAT_KEY, plan.lease.key}
        await plan.lease.drop()
    assert bucket.keys("") == {FORMAT_KEY}
    assert staged_packs(repository) == before


async def test_manifests_name_their_repository(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    commit = version(repository, local, a=b"one")
    await push(local, to(bucket))
    manifest = manifests(bucket)[commit]
    assert (manifest.repository, manifest.tool) == (REPOSITORY_ID, "revfs test")
    assert len(manifest.packs) == len(manifest.indexes) == 1
    (set_up,) = (m for c, m in manifests(bucket).items() if c != commit)
    assert (set_up.packs, set_up.indexes) == ((), ())


async def test_many_small_staged_packs_go_up_as_one(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    contents = {f"file-{number}": random_bytes(1000, number) for number in range(12)}
    for path, content in contents.items():
        repository.write(path, content)
        add(repository, local, path)
    repository.commit()
    assert len(staged_packs(repository)) == 12
    summary = await push(local, to(bucket))
    assert summary.packs == 1
    assert bucket.puts() == ["format", "packs", "index", *["manifests"] * 2]
    assert staged_packs(repository) == []
    await assert_complete(local, bucket)
    for path, content in contents.items():
        assert await read_file(local, to(bucket), path.encode()) == content
