"""`verify` of this machine: staged packs, git's objects, and what is known to be in the remote."""

from pathlib import Path

import pytest

from store.errors import StoreError
from store.ids import PackName
from store.local_store import LocalStore
from store.verify_cache import CacheReport, verify_cache
from store.verify_local import NOWHERE, LocalVerification, place_of, verify_local
from tests.fakes.bucket_damage import flip
from tests.fakes.buckets import Bucket, to, version
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    bucket_remote,
    commits_of,
    open_local,
    push,
    random_bytes,
    read_file,
    staged_packs,
)
from tests.fakes.verifying import SECOND, TwoVersions, publish_two_versions

pytestmark = [pytest.mark.usefixtures("in_no_hurry_for_git"), pytest.mark.expects_warnings]

LARGE = random_bytes(150_000, 3)


@pytest.fixture
def two(repository: Repository, tmp_path: Path) -> TwoVersions:
    return publish_two_versions(repository, tmp_path)


async def look(local: LocalStore, *texts: str, read: bool = False) -> LocalVerification:
    commits = commits_of(local.repository, *texts)
    return await verify_local(local, commits, NoProgress(), read=read)


def named(local: LocalStore, found: LocalVerification) -> dict[str, set[bytes]]:
    return {f.place: set(f.paths(local.directories)) for f in found.findings.all()}


def staged(repository: Repository, pack: str) -> Path:
    return repository.top / ".git/revfs/staged" / pack


def data_pack(repository: Repository) -> str:
    """The largest staged pack."""
    return max(staged_packs(repository), key=lambda pack: staged(repository, pack).stat().st_size)


async def test_what_is_staged_and_what_is_pushed_is_well(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, small=b"small", large=LARGE)
    found = await look(local, read=True)
    assert (found.files, found.here, found.staged_packs) == (2, 2, 2)
    assert named(local, found) == {}
    await push(local, to(bucket))
    found = await look(local, read=True)
    assert (found.files, found.here, found.staged_packs) == (2, 2, 0)
    assert named(local, found) == {}


@pytest.mark.parametrize("read", [False, True])
async def test_a_staged_pack_that_is_cut_names_its_files(
    repository: Repository, local: LocalStore, bucket: Bucket, read: bool
) -> None:
    version(repository, local, small=b"small", large=LARGE)
    pack = data_pack(repository)
    place = staged(repository, pack)
    place.write_bytes(place.read_bytes()[:50_000])
    found = await look(local, read=read)
    assert named(local, found) == {place_of(PackName(pack)): {b"small", b"large"}}


async def test_a_flipped_byte_of_a_staged_pack_is_found_by_reading(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, small=b"small", large=LARGE)
    pack = data_pack(repository)
    place = staged(repository, pack)
    place.write_bytes(flip(place.read_bytes(), 8 * 100_000))
    assert named(local, await look(local)) == {}
    found = await look(local, read=True)
    assert named(local, found) == {place_of(PackName(pack)): {b"large"}}


async def test_a_staged_pack_that_is_gone_names_its_files_and_the_remote_counts(
    repository: Repository, tmp_path: Path
) -> None:
    bucket = Bucket()
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        version(repository, local, pushed=random_bytes(1000, 1))
        await push(local, to(bucket))
        version(repository, local, staged=random_bytes(1000, 2))
        (pack,) = staged_packs(repository)
        staged(repository, pack).unlink()
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        found = await look(local)
        assert named(local, found) == {NOWHERE: {b"staged"}}
        assert found.findings.all()[0].commits == {repository.head()}


async def test_a_clone_that_never_asked_the_remote_says_so(
    two: TwoVersions, tmp_path: Path
) -> None:
    with two.another_machine(tmp_path / "new") as local:
        found = await look(local)
        assert named(local, found) == {NOWHERE: set(SECOND)}
        assert "revfs verify --remote" in found.findings.all()[0].problem
        await read_file(local, to(two.bucket), b"b")
        await read_file(local, to(two.bucket), b"a", "v1")
        # All index objects are known now, and nothing but the small pack is here.
        assert named(local, await look(local)) == {}


def check_cache(local: LocalStore) -> CacheReport:
    return verify_cache(local.cache, local.index, NoProgress())


async def cached(two: TwoVersions, local: LocalStore) -> None:
    for path in SECOND:
        await read_file(local, to(two.bucket), path)


async def test_a_sound_cache_is_left_as_it_is(two: TwoVersions, tmp_path: Path) -> None:
    with two.another_machine(tmp_path / "reader") as local:
        await cached(two, local)
        report = check_cache(local)
        assert report.is_clean
        assert report.packs == len(local.cache.packs_on_disk())
        assert report.checked_bytes > 200_000
        two.bucket.calls.clear()
        await cached(two, local)
        assert two.bucket.count("fetch_range") == 0


async def test_damaged_chunks_of_the_cache_are_dropped_and_fetched_anew(
    two: TwoVersions, tmp_path: Path
) -> None:
    with two.another_machine(tmp_path / "reader") as local:
        await cached(two, local)
        local.cache.flush()
        pack = max(local.cache.packs_on_disk(), key=lambda p: local.cache.path_of(p).stat().st_size)
        place = local.cache.path_of(pack)
        place.write_bytes(flip(place.read_bytes(), 8 * 60_000))
        report = check_cache(local)
        assert (report.damaged_chunks, report.damaged_packs) == (1, [pack])
        assert not report.is_clean
        assert check_cache(local).is_clean
        two.bucket.calls.clear()
        for path, content in SECOND.items():
            assert await read_file(local, to(two.bucket), path) == content
        assert two.bucket.count("fetch_range") == 1


async def test_rows_of_files_that_are_gone_or_short_are_dropped(
    two: TwoVersions, tmp_path: Path
) -> None:
    with two.another_machine(tmp_path / "reader") as local:
        await cached(two, local)
        local.cache.flush()
        large, *small = sorted(
            local.cache.packs_on_disk(), key=lambda p: -local.cache.path_of(p).stat().st_size
        )
        place = local.cache.path_of(large)
        place.write_bytes(place.read_bytes()[:100_000])
        for pack in small:
            local.cache.path_of(pack).unlink()
        report = check_cache(local)
        assert report.lost_files == len(small) > 0
        assert report.damaged_chunks > 1
        assert check_cache(local).is_clean
        await cached(two, local)


async def test_damaged_rows_are_dropped_and_come_back(two: TwoVersions, tmp_path: Path) -> None:
    with two.another_machine(tmp_path / "reader") as local:
        await cached(two, local)
        local.directories.save()
        tables = local.index.tables
        (tree, *_) = tables.scan_keys("directories")
        tables.put_many("directories", [(tree, b"damaged")])
        (key, *_) = tables.scan_keys("packs")
        row = tables.get("packs", key)
        assert row is not None
        tables.put_many("packs", [(key, flip(row, 8 * 70))])
        assert check_cache(local).bad_rows == 2
        assert check_cache(local).is_clean
        for path, content in SECOND.items():
            assert await read_file(local, to(two.bucket), path) == content


async def test_a_folder_that_git_lacks_is_named(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, d__x=b"x", top=b"top")
    tree = repository.git("rev-parse", "HEAD:d").decode().strip()
    (repository.top / ".git/objects" / tree[:2] / tree[2:]).unlink()
    found = await look(local)
    assert named(local, found) == {"git folder d": {b"d"}}
    with pytest.raises(StoreError):
        local.directories.load(bytes.fromhex(tree))
