"""Bucket: where tests of `push` push to, and the proof that what is in it is complete."""

from collections.abc import Callable

from store.chunk_list import parse_chunk_list
from store.chunking import ChunkingParameters
from store.directories import TRACKED_KINDS
from store.ids import ChunkId
from store.local_store import LocalStore
from store.manifests import Manifest, parse_manifest, parse_manifest_key
from store.packs import unpack_chunk
from store.remote import INDEX_PREFIX, MANIFESTS_PREFIX, Remote, pack_key
from store.remote_index import index_hash, parse_index
from tests.fakes.memory_remote import MemoryRemote
from tests.fakes.repositories import Repository, add, commits_of

FINE = ChunkingParameters(4 << 10, 16 << 10, 64 << 10)


class Bucket(MemoryRemote):
    """A bucket, which is there whoever hangs up."""

    async def close(self) -> None:
        pass

    def keys(self, prefix: str) -> set[str]:
        return {key for key in self.objects if key.startswith(prefix)}

    def puts(self) -> list[str]:
        """The kinds of the objects that were put, in order, but for the lease of each writer."""
        kinds = [call.key.partition("/")[0] for call in self.calls if call.verb == "put"]
        return [kind for kind in kinds if kind != "leases"]

    def put_bytes(self) -> int:
        return sum(call.length or 0 for call in self.calls if call.verb == "put")


def to(remote: Remote) -> Callable[[Remote], Remote]:
    return lambda _: remote


def version(repository: Repository, local: LocalStore, **contents: bytes) -> str:
    """Add files of these contents and commit them."""
    for path, content in contents.items():
        repository.write(path.replace("__", "/"), content)
    add(repository, local, chunking=FINE)
    return repository.commit()


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
