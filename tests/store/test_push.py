"""`push`: what goes up, in which order, and what is left when it ends anywhere in between."""

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from store import add as add_module
from store.chunk_list import parse_chunk_list
from store.chunking import ChunkingParameters
from store.directories import TRACKED_KINDS
from store.errors import ChunkMissing, IntegrityError, RemoteDenied
from store.ids import ChunkId, PackName, is_pack_name
from store.manifests import Manifest, parse_manifest, parse_manifest_key
from store.opening import LocalStore
from store.packs import unpack_chunk
from store.remote import FORMAT_KEY, INDEX_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, Remote, pack_key
from store.remote_index import index_hash, parse_index
from tests.fakes.faulty_remote import FaultyRemote, Raises
from tests.fakes.memory_remote import Call, MemoryRemote
from tests.fakes.repositories import (
    REPOSITORY_ID,
    Repository,
    add,
    bucket_remote,
    commits_of,
    folder_remote,
    make_repository,
    open_local,
    planned_push,
    push,
    random_bytes,
    read_file,
)

FINE = ChunkingParameters(4 << 10, 16 << 10, 64 << 10)


class Bucket(MemoryRemote):
    """A bucket, which is there whoever hangs up."""

    async def close(self) -> None:
        pass

    def keys(self, prefix: str) -> set[str]:
        return {key for key in self.objects if key.startswith(prefix)}

    def puts(self) -> list[str]:
        """The kinds of the objects that were put, in order."""
        return [call.key.partition("/")[0] for call in self.calls if call.verb == "put"]

    def put_bytes(self) -> int:
        return sum(call.length or 0 for call in self.calls if call.verb == "put")


@pytest.fixture(autouse=True)
def in_no_hurry_for_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here rests on git's view of the work tree."""
    monkeypatch.setattr(add_module, "wait_for_git", lambda top, changes: list(changes))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository")


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def local(repository: Repository, tmp_path: Path) -> Iterator[LocalStore]:
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        yield local


def to(remote: Remote) -> Callable[[Remote], Remote]:
    return lambda _: remote


def version(repository: Repository, local: LocalStore, **contents: bytes) -> str:
    """Add files of these contents and commit them."""
    for path, content in contents.items():
        repository.write(path.replace("__", "/"), content)
    add(repository, local, chunking=FINE)
    return repository.commit()


def staged_packs(repository: Repository) -> list[str]:
    return sorted(path.name for path in (repository.top / ".git/revfs/staged").iterdir())


def manifests(bucket: Bucket) -> dict[str, Manifest]:
    """commit → manifest, each proven to lie under its own key."""
    found = {}
    for key in bucket.keys(MANIFESTS_PREFIX):
        parsed = parse_manifest_key(key)
        assert parsed is not None
        manifest = parse_manifest(bucket.objects[key][0])
        assert parsed[:2] == (manifest.repository, manifest.commit)
        found[str(manifest.commit)] = manifest
    return found


async def needed_chunks(local: LocalStore, bucket: Bucket, text: str) -> set[ChunkId]:
    """The chunks of every tracked file of a revision, lists included, from the bucket's bytes."""
    places = {
        entry.chunk: (pack.name, entry)
        for key in bucket.keys(INDEX_PREFIX)
        for pack in parse_index(bucket.objects[key][0])
        for entry in pack.table
    }
    (*_, commit) = commits_of(local.repository, text)
    needed: set[ChunkId] = set()
    for _, entry in local.directories.walk_new(commit.tree, set()):
        if entry.kind in TRACKED_KINDS:
            needed.add(entry.pointer.content)
            if entry.pointer.chunks > 1:
                name, row = places[entry.pointer.content]
                raw = bucket.objects[pack_key(name)][0][row.offset : row.end]
                chunks = parse_chunk_list(unpack_chunk(row, raw), entry.pointer)
                needed |= {chunks.span(number).chunk for number in range(len(chunks))}
    return needed


async def assert_complete(local: LocalStore, bucket: Bucket) -> None:
    """Every commit with a manifest is in the bucket, in the very packs that it names."""
    for commit, manifest in manifests(bucket).items():
        held: dict[str, set[ChunkId]] = {}
        for name in manifest.indexes:
            raw = bucket.objects[f"{INDEX_PREFIX}{name}"][0]
            assert index_hash(raw) == name
            for pack in parse_index(raw):
                held[pack.name] = {entry.chunk for entry in pack.table}
        needed = await needed_chunks(local, bucket, commit)
        assert set(manifest.packs) <= set(held)
        assert needed <= set().union(*(held[name] for name in manifest.packs))
        assert all(needed & held[name] for name in manifest.packs), "a pack nobody needs"
        assert all(pack_key(name) in bucket.objects for name in manifest.packs)


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
    (newest,) = (m for c, m in manifests(bucket).items() if c == repository_head(repository))
    assert all(pack_key(name) in bucket.objects for name in newest.packs)
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "other", bucket_remote()) as o:
        assert await read_file(o, to(bucket), b"large") == random_bytes(100_000)
        assert await read_file(o, to(bucket), b"b") == b"two"


def repository_head(repository: Repository) -> str:
    return repository.git("rev-parse", "HEAD").decode().strip()


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
        # Once for the list of the file's chunks, where there is one, and once for the chunks.
        for _ in range(1 if size < FINE.least_bytes else 2):
            with pytest.raises(ChunkMissing, match=r"folder/a.*revfs add it again"):
                await push(local, to(bucket))
            add(repository, local, chunking=FINE)
        await push(local, to(bucket))
        assert repository_head(repository) in manifests(bucket)


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
    assert calls > 8
    for end in range(calls):
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
            complete = repository_head(repository) in manifests(bucket)
            assert complete or staged_packs(repository) == staged
            await push(local, to(bucket))
            await assert_complete(local, bucket)
            assert repository_head(repository) in manifests(bucket)
            assert staged_packs(repository) == []
        repository.git("fsck", "--strict")


def _fails_from(end: int, error: Raises, call: Call, number: int) -> Raises | None:
    return error if number >= end else None


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
        assert {repository_head(repository), repository_head(clone)} < manifests(bucket).keys()
        await assert_complete_in(bucket, {local: repository, other: clone})
        for store, content in ((local, b"origin"), (other, b"clone")):
            assert await read_file(store, to(bucket), b"mine") == content
    assert len(bucket.keys(FORMAT_KEY)) == 1


async def assert_complete_in(bucket: Bucket, stores: dict[LocalStore, Repository]) -> None:
    """As `assert_complete`, each commit by a clone that knows it."""
    for local, repository in stores.items():
        known = set(repository.git("rev-list", "--all").decode().split())
        view = Bucket()
        view.objects = {
            key: value
            for key, value in bucket.objects.items()
            if not key.startswith(MANIFESTS_PREFIX) or key.split("/")[2] in known
        }
        await assert_complete(local, view)


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


async def test_a_plan_changes_nothing_but_a_new_remotes_format(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=b"one")
    before = staged_packs(repository)
    async with planned_push(local, to(bucket)) as plan:
        assert [commit.commit for commit in plan.commits][-1] == repository_head(repository)
        assert list(plan.whole_packs) == before
        assert plan.loose_chunks == {}
    assert bucket.keys("") == {FORMAT_KEY}
    assert staged_packs(repository) == before


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
    assert repository_head(clone) in manifests(bucket)


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
