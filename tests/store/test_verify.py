"""`verify` of a remote: each kind of damage names the object, and just the files that it hurts."""

from dataclasses import replace
from pathlib import Path

import pytest

from store.errors import StoreError
from store.ids import GitId, PackName, hash_bytes
from store.manifests import Manifest, encode_manifest, manifest_key, new_ulid, parse_manifest
from store.packs import PACK_HEADER_BYTES, PackKind, PackTable, pack_tail, parse_pack_header
from store.remote import index_key, pack_key, tomb_key
from store.remote_index import IndexedPack, encode_index, index_hash, parse_index
from store.sealed_text import seal
from tests.fakes.bucket_damage import flip
from tests.fakes.buckets import Bucket, manifests, to, version
from tests.fakes.repositories import REPOSITORY_ID, Repository
from tests.fakes.verifying import (
    FIRST,
    SECOND,
    TwoVersions,
    named,
    publish_two_versions,
    verify,
)

pytestmark = [pytest.mark.usefixtures("in_no_hurry_for_git"), pytest.mark.expects_warnings]

OLD, NEW = set(FIRST), set(SECOND) - set(FIRST)
ALL = set(SECOND)


@pytest.fixture
def two(repository: Repository, tmp_path: Path) -> TwoVersions:
    return publish_two_versions(repository, tmp_path)


def change(bucket: Bucket, key: str, raw: bytes | None) -> None:
    del bucket.objects[key]
    if raw is not None:
        bucket.objects[key] = raw, 0.0


def raw_of(bucket: Bucket, key: str) -> bytes:
    return bucket.objects[key][0]


def packs_of(bucket: Bucket, commit: str) -> set[str]:
    """The keys of the packs that a commit's manifest names."""
    return {pack_key(name) for name in manifests(bucket)[commit].packs}


def first_pack(two: TwoVersions, kind: PackKind) -> str:
    """The key of the pack of that kind which the first version came with."""
    commit = two.repository.git("rev-parse", "v1").decode().strip()
    (key,) = (
        key
        for key in packs_of(two.bucket, commit)
        if parse_pack_header(raw_of(two.bucket, key)[:PACK_HEADER_BYTES]) is kind
    )
    return key


def second_pack(two: TwoVersions) -> str:
    """The key of the pack that the second version came with."""
    tags = [two.repository.git("rev-parse", tag).decode().strip() for tag in ("v1", "v2")]
    (key,) = packs_of(two.bucket, tags[1]) - packs_of(two.bucket, tags[0])
    return key


def indexed(bucket: Bucket, key: str) -> IndexedPack:
    """What the index objects say of the pack at that key."""
    raws = [raw_of(bucket, index) for index in bucket.keys("index/")]
    (found,) = (p for raw in raws for p in parse_index(raw) if pack_key(p.name) == key)
    return found


async def check(
    two: TwoVersions, folder: Path, *texts: str, read: bool = False, every: bool = False
) -> dict[str, set[bytes]]:
    """key → hurt paths, as a machine with an empty cache finds them."""
    with two.another_machine(folder) as local:
        found = await verify(local, to(two.bucket), *texts, read=read, every=every)
        return named(local, found)


@pytest.mark.parametrize("read", [False, True])
async def test_where_all_is_well_nothing_is_found(
    two: TwoVersions, tmp_path: Path, read: bool
) -> None:
    assert await check(two, tmp_path / "other", read=read, every=True) == {}
    leftovers = [path.name for path in (tmp_path / "other").iterdir()]
    assert sorted(leftovers) == ["index", "packs"]


async def test_without_reading_all_only_the_end_of_each_pack_and_the_lists_are_fetched(
    two: TwoVersions, tmp_path: Path
) -> None:
    two.bucket.calls.clear()
    await check(two, tmp_path / "other")
    asked = [(call.key, call.start) for call in two.bucket.calls if call.verb == "fetch_range"]
    packs = two.bucket.keys("packs/")
    assert {key for key, _ in asked} == packs
    # One range for each pack, and one for the chunk list.
    assert len(asked) == len(packs) + 1
    for key in packs - {first_pack(two, PackKind.LISTS)}:
        ((_, start),) = [one for one in asked if one[0] == key]
        assert start == len(raw_of(two.bucket, key)) - len(
            pack_tail(indexed(two.bucket, key).table)
        )


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("how", ["missing", "another pack", "bytes where its index object says"])
async def test_a_pack_deleted_swapped_or_cut_names_its_files(
    two: TwoVersions, tmp_path: Path, how: str, read: bool
) -> None:
    first, second = first_pack(two, PackKind.DATA), second_pack(two)
    expected = {first: OLD}
    raw = raw_of(two.bucket, first)
    if how == "missing":
        change(two.bucket, first, None)
    elif how == "another pack":
        # Of the same size, so that its list does not tell.
        other = bytearray(raw_of(two.bucket, second))
        change(two.bucket, first, bytes(other))
        change(two.bucket, second, raw)
        expected[second] = {b"a", b"b"}
        how = "bytes where its index object says"
    else:
        change(two.bucket, first, raw[: len(raw) // 2])
    with two.another_machine(tmp_path / "other") as local:
        found = await verify(local, to(two.bucket), read=read)
        assert named(local, found) == expected
        assert all(how in finding.problem for finding in found.findings.all())


async def test_a_pack_of_the_same_size_in_the_place_of_another_is_found_by_its_table(
    two: TwoVersions, tmp_path: Path
) -> None:
    """Its own table is sound, and its size is right: only what the index object says tells."""
    bucket, first = two.bucket, first_pack(two, PackKind.DATA)
    raw = bytearray(raw_of(bucket, first))
    # One byte of the first chunk's id in the table, and a footer that fits the table again.
    table = indexed(bucket, first).table.raw
    other = flip(table, 0)
    start = bytes(raw).index(table)
    raw[start : start + len(other)] = other
    raw[-36:-4] = hash_bytes(other)
    change(bucket, first, bytes(raw))
    with two.another_machine(tmp_path / "other") as local:
        verification = await verify(local, to(bucket))
        (finding,) = verification.findings.all()
        assert finding.place == first
        assert "is another pack than index/" in finding.problem
        # Its chunks are where the index object says, all the same.
        assert finding.file_count == 0


async def test_a_flipped_byte_of_a_chunk_is_found_by_reading_and_names_its_file(
    two: TwoVersions, tmp_path: Path
) -> None:
    first = first_pack(two, PackKind.DATA)
    raw = raw_of(two.bucket, first)
    # In the order of their paths: "a" is the first chunk, "d/other" the last.
    change(two.bucket, first, flip(raw, 8 * (PACK_HEADER_BYTES + 1)))
    assert await check(two, tmp_path / "quick") == {}
    assert await check(two, tmp_path / "reads", read=True) == {first: {b"a"}}
    # The second version has another "a".
    assert await check(two, tmp_path / "old", "v1", read=True) == {first: {b"a"}}


async def test_each_commit_counts_with_its_own_files(two: TwoVersions, tmp_path: Path) -> None:
    second = second_pack(two)
    change(two.bucket, second, None)
    assert await check(two, tmp_path / "one", "v1") == {}
    with two.another_machine(tmp_path / "both") as local:
        (finding,) = (await verify(local, to(two.bucket), "v2")).findings.all()
        newest = two.repository.git("rev-parse", "v2").decode().strip()
        assert finding.commits == {newest}
        assert set(finding.paths(local.directories)) == {b"a", b"b"}


@pytest.mark.parametrize(("start", "bits"), [(-10, 3), (-38, 0), (-100, 5), (1, 2)])
async def test_a_damaged_table_footer_or_header_hurts_no_file_yet(
    two: TwoVersions, tmp_path: Path, start: int, bits: int
) -> None:
    first = first_pack(two, PackKind.DATA)
    raw = raw_of(two.bucket, first)
    change(two.bucket, first, flip(raw, 8 * (start % len(raw)) + bits))
    # The first bytes nobody needs but who reads the whole pack.
    assert await check(two, tmp_path / "other", read=start > 0) == {first: set()}


@pytest.mark.parametrize("verb", ["delete", "flip", "swap"])
async def test_an_index_object_lost_or_damaged_names_the_files_of_its_packs(
    two: TwoVersions, tmp_path: Path, verb: str
) -> None:
    (key,) = (
        key
        for key in two.bucket.keys("index/")
        if first_pack(two, PackKind.DATA)
        in {pack_key(pack.name) for pack in parse_index(raw_of(two.bucket, key))}
    )
    raw = raw_of(two.bucket, key)
    (other,) = (raw_of(two.bucket, one) for one in two.bucket.keys("index/") - {key})
    change(two.bucket, key, {"delete": None, "flip": flip(raw, 4 * len(raw)), "swap": other}[verb])
    assert await check(two, tmp_path / "other") == {key: OLD}


async def test_a_list_pack_deleted_names_the_files_of_many_chunks(
    two: TwoVersions, tmp_path: Path
) -> None:
    key = first_pack(two, PackKind.LISTS)
    change(two.bucket, key, None)
    assert await check(two, tmp_path / "other") == {key: {b"d/large", b"d/other"}}


async def test_a_damaged_chunk_list_is_found_without_reading_all(
    two: TwoVersions, tmp_path: Path
) -> None:
    key = first_pack(two, PackKind.LISTS)
    change(two.bucket, key, flip(raw_of(two.bucket, key), 8 * 40))
    found = await check(two, tmp_path / "other")
    assert found.keys() == {key}
    assert found[key] <= {b"d/large", b"d/other"}
    assert found[key]


async def test_a_record_of_a_newer_version_is_refused_and_one_with_a_flipped_version_is_damaged(
    two: TwoVersions, tmp_path: Path
) -> None:
    commit = two.repository.head()
    key = two.only_key(f"manifests/{REPOSITORY_ID}/{commit}/")
    version_bit = 8 * len("revfs-manifest ") + 1
    change(two.bucket, key, flip(raw_of(two.bucket, key), version_bit))
    assert await check(two, tmp_path / "flipped") == {key: ALL}
    change(two.bucket, key, seal("manifest", 3, {"new": "things"}))
    with two.another_machine(tmp_path / "newer") as local, raises_inside("unknown version 3"):
        await verify(local, to(two.bucket))


@pytest.mark.parametrize("verb", ["delete", "cut"])
async def test_a_manifest_lost_or_damaged_names_the_commit_and_its_files(
    two: TwoVersions, tmp_path: Path, verb: str
) -> None:
    commit = two.repository.head()
    key = two.only_key(f"manifests/{REPOSITORY_ID}/{commit}/")
    change(two.bucket, key, None if verb == "delete" else raw_of(two.bucket, key)[:50])
    place = key if verb == "cut" else key.rpartition("/")[0] + "/"
    with two.another_machine(tmp_path / "other") as local:
        (finding,) = (await verify(local, to(two.bucket))).findings.all()
        assert finding.place == place
        assert finding.commits == {commit}
        assert set(finding.paths(local.directories)) == ALL
        if verb == "delete":
            assert "though all its data is" in finding.problem


async def test_a_commit_that_was_never_pushed_is_told_from_one_whose_manifest_is_lost(
    two: TwoVersions, tmp_path: Path
) -> None:
    with two.pushing_machine(tmp_path / "pusher") as local:
        commit = version(two.repository, local, new=b"not pushed")
        (finding,) = (await verify(local, to(two.bucket))).findings.all()
        assert finding.place == f"manifests/{REPOSITORY_ID}/{commit}/"
        assert "not pushed" in finding.problem
        pushed = two.repository.git("rev-parse", "v2").decode().strip()
        change(two.bucket, two.only_key(f"manifests/{REPOSITORY_ID}/{pushed}/"), None)
        (finding,) = (await verify(local, to(two.bucket), "v2")).findings.all()
        assert "was there when this machine last looked" in finding.problem


async def test_an_index_object_that_lies_of_a_pack_is_named(
    two: TwoVersions, tmp_path: Path
) -> None:
    """It hashes to its name, and a manifest names it: only the pack itself contradicts."""
    bucket, commit = two.bucket, two.repository.head()
    key = two.only_key(f"manifests/{REPOSITORY_ID}/{commit}/")
    manifest = parse_manifest(raw_of(bucket, key))
    lies = []
    for name in manifest.indexes:
        for pack in parse_index(raw_of(bucket, index_key(name))):
            lies.append(swap_first_ids(pack))
    raw = encode_index(lies)
    bucket.objects[index_key(index_hash(raw))] = raw, 0.0
    forged = replace(manifest, indexes=(index_hash(raw),))
    change(bucket, key, encode_manifest(forged))
    with two.another_machine(tmp_path / "other") as local:
        found = (await verify(local, to(bucket))).findings.all()
        told = [finding for finding in found if index_key(index_hash(raw)) in str(finding.problem)]
        assert told
        assert any(finding.file_count for finding in found)


def swap_first_ids(pack: IndexedPack) -> IndexedPack:
    """A pack whose first two chunks are said to be each other."""
    raw = pack.table.raw
    if len(pack.table) < 2:
        return pack
    swapped = raw[45:77] + raw[32:45] + raw[:32] + raw[77:]
    return replace(pack, table=PackTable.trusted(swapped))


@pytest.mark.parametrize("named_by_another", [False, True])
async def test_a_manifest_that_names_too_little_is_found(
    two: TwoVersions, tmp_path: Path, named_by_another: bool
) -> None:
    """The data is there and can be read, but nothing would keep it for this commit, also where the
    manifest of another one does."""
    bucket, left_out = two.bucket, second_pack(two)
    keys = {}
    for tag in ("v1", "v2"):
        commit = two.repository.git("rev-parse", tag).decode().strip()
        keys[tag] = two.only_key(f"manifests/{REPOSITORY_ID}/{commit}/")
    manifest = parse_manifest(raw_of(bucket, keys["v2"]))
    packs = tuple(name for name in manifest.packs if pack_key(name) != left_out)
    change(bucket, keys["v2"], encode_manifest(replace(manifest, packs=packs)))
    if named_by_another:
        older = parse_manifest(raw_of(bucket, keys["v1"]))
        everything = replace(older, packs=manifest.packs, indexes=manifest.indexes)
        change(bucket, keys["v1"], encode_manifest(everything))
    assert await check(two, tmp_path / "other") == {keys["v2"]: {b"a", b"b"}}


async def test_what_another_index_object_tells_and_what_is_condemned_is_fine(
    two: TwoVersions, tmp_path: Path
) -> None:
    bucket = two.bucket
    packs: dict[PackName, IndexedPack] = {}
    for key in bucket.keys("index/"):
        packs |= {pack.name: pack for pack in parse_index(raw_of(bucket, key))}
        change(bucket, key, None)
    raw = encode_index(list(packs.values()))
    bucket.objects[index_key(index_hash(raw))] = raw, 0.0
    for pack in packs:
        bucket.objects[tomb_key(pack)] = b"", 0.0
    assert await check(two, tmp_path / "other") == {}


async def test_a_damaged_older_manifest_is_found_and_hurts_no_file(
    two: TwoVersions, tmp_path: Path
) -> None:
    key = manifest_key(REPOSITORY_ID, GitId(two.repository.head()), new_ulid(1))
    two.bucket.objects[key] = b"damaged", 0.0
    assert await check(two, tmp_path / "other") == {key: set()}


async def test_manifests_of_commits_that_a_clone_lacks_are_looked_at_too(
    two: TwoVersions, tmp_path: Path
) -> None:
    unknown = Manifest(REPOSITORY_ID, GitId("ab" * 20), (PackName("cd" * 16),), (), (), "test")
    key = manifest_key(REPOSITORY_ID, unknown.commit, new_ulid(1))
    two.bucket.objects[key] = encode_manifest(unknown), 0.0
    assert await check(two, tmp_path / "one") == {}
    assert await check(two, tmp_path / "all", every=True) == {pack_key(PackName("cd" * 16)): set()}


async def test_a_folder_that_git_lacks_is_named(two: TwoVersions, tmp_path: Path) -> None:
    tree = two.clone.git("rev-parse", "HEAD:d").decode().strip()
    break_tree(two.clone, tree)
    found = await check(two, tmp_path / "other", "v2")
    assert found == {"git folder d": {b"d"}}


def break_tree(repository: Repository, tree: str) -> None:
    """Have all objects loose, and remove that one."""
    git = repository.top / ".git"
    packs = list((git / "objects/pack").glob("*.pack"))
    raws = [pack.read_bytes() for pack in packs]
    for path in (git / "objects/pack").iterdir():
        path.unlink()
    for raw in raws:
        repository.git("unpack-objects", "-q", stdin=raw)
    (git / "objects" / tree[:2] / tree[2:]).unlink()


async def test_an_empty_remote_is_no_finding_but_an_error(two: TwoVersions, tmp_path: Path) -> None:
    two.bucket.objects.clear()
    with two.another_machine(tmp_path / "new") as local, raises_inside("nothing was pushed"):
        await verify(local, to(two.bucket))
    with two.pushing_machine(tmp_path / "known") as local, raises_inside("is it mounted"):
        await verify(local, to(two.bucket))


def raises_inside(words: str) -> pytest.RaisesGroup[StoreError]:
    """A StoreError in the groups that it comes in."""
    return pytest.RaisesGroup(pytest.RaisesExc(StoreError, match=words), flatten_subgroups=True)
