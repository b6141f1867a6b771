"""A whole small store in this process: packs, index and manifest in a MemoryRemote, the cache in a
folder, and everything that reads.

content = build_remote({"a": b"...", "b": b"..."})
async with open_store(content, tmp_path) as store:
    assert await store.read("a") == b"..."
"""

import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from store.cache_index import CacheIndex
from store.cache_rows import PackPlace
from store.catalog import Catalog
from store.chunk_list import encode_chunk_list
from store.chunk_source import ChunkSource
from store.chunking import ChunkingParameters, read_chunks
from store.codec import Codec, compress_chunk
from store.contents import ContentReader
from store.fetch import Fetcher
from store.ids import ChunkId, GitId, PackName, chunk_id, new_pack_name
from store.local_folders import make_private_folder
from store.local_store import LocalSources
from store.manifests import Manifest, encode_manifest, manifest_key, new_ulid
from store.pack_cache import PackCache
from store.pack_tables import PackTables
from store.packs import PackKind, PackTable, PackWriter
from store.pointer import Pointer
from store.remote import FORMAT_KEY, Remote, index_key, pack_key
from store.remote_format import RemoteFormat, encode_remote_format
from store.remote_index import IndexedPack, encode_index, index_hash
from tests.fakes.memory_remote import Call, MemoryRemote

STORE = "11111111-2222-4333-8444-555555555555"
REPOSITORY = "66666666-7777-4888-9999-aaaaaaaaaaaa"
COMMIT = GitId("c0" * 20)
SMALL_CHUNKING = ChunkingParameters(64, 256, 1024)
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class BuiltPack:
    """A pack as bytes, and as an index object tells of it."""

    raw: bytes
    indexed: IndexedPack

    @property
    def name(self) -> PackName:
        return self.indexed.name

    @property
    def table(self) -> PackTable:
        return self.indexed.table

    def place(self, number: int) -> PackPlace:
        return PackPlace(self.name, self.table.entry(number))


def build_pack(
    chunks: list[bytes],
    kind: PackKind = PackKind.DATA,
    *,
    compress: bool = False,
    name: PackName | None = None,
) -> BuiltPack:
    """A pack of these chunks, which differ from one another."""
    file = io.BytesIO()
    writer = PackWriter(file, kind)
    for chunk in chunks:
        codec, stored = compress_chunk(chunk) if compress else (Codec.RAW, chunk)
        writer.append(chunk_id(chunk), codec, stored, len(chunk))
    summary = writer.finish()
    indexed = IndexedPack(name or new_pack_name(), summary.size, summary.hash, summary.table)
    return BuiltPack(file.getvalue(), indexed)


@dataclass(slots=True)
class BuiltRemote:
    """A remote with one push in it. `packs` are in the order of the files' chunks, that of the
    chunk lists, if there is one, last."""

    remote: MemoryRemote
    contents: dict[str, bytes]
    pointers: dict[str, Pointer]
    packs: list[BuiltPack]
    index: str

    def chunk(self, number: int, pack: int = 0) -> ChunkId:
        return self.packs[pack].table.entry(number).chunk


def publish(remote: MemoryRemote, packs: list[BuiltPack], *, manifest: bool = True) -> str:
    """Put packs, their index object and a manifest of COMMIT; the hash of the index object."""
    for pack in packs:
        remote.objects[pack_key(pack.name)] = pack.raw, 0.0
    raw_index = encode_index([pack.indexed for pack in packs])
    name = index_hash(raw_index)
    remote.objects[index_key(name)] = raw_index, 0.0
    remote.objects[FORMAT_KEY] = (encode_remote_format(RemoteFormat(STORE, SMALL_CHUNKING)), 0.0)
    if manifest:
        names = tuple(sorted(pack.name for pack in packs))
        record = Manifest(REPOSITORY, COMMIT, names, (name,), (), "test")
        key = manifest_key(REPOSITORY, COMMIT, new_ulid(len(remote.objects)))
        remote.objects[key] = encode_manifest(record), 0.0
    return name


def build_remote(
    contents: Mapping[str, bytes], *, chunks_per_pack: int = 10_000, compress: bool = False
) -> BuiltRemote:
    """A remote that holds these files, cut by SMALL_CHUNKING where they are larger than its least,
    but for those whose names begin with "whole"."""
    pieces: dict[bytes, None] = {}
    lists: dict[bytes, None] = {}
    pointers = {}
    for name, content in contents.items():
        chunks = [content]
        if len(content) > SMALL_CHUNKING.least_bytes and not name.startswith("whole"):
            chunks = list(read_chunks(io.BytesIO(content), SMALL_CHUNKING))
        pieces.update(dict.fromkeys(chunks))
        identity = chunk_id(content)
        if len(chunks) > 1:
            raw_list = encode_chunk_list([(chunk_id(chunk), len(chunk)) for chunk in chunks])
            lists[raw_list] = None
            identity = chunk_id(raw_list)
        pointers[name] = Pointer(identity, len(content), len(chunks))
    in_order = list(pieces)
    groups = [
        in_order[start : start + chunks_per_pack]
        for start in range(0, len(in_order), chunks_per_pack)
    ]
    packs = [build_pack(group, compress=compress) for group in groups]
    if lists:
        packs.append(build_pack(list(lists), PackKind.LISTS, compress=compress))
    remote = MemoryRemote()
    return BuiltRemote(remote, dict(contents), pointers, packs, publish(remote, packs))


@dataclass(slots=True)
class SmallStore:
    """An open store. `remote` is what the fetcher asks, all wrapping included."""

    built: BuiltRemote
    remote: Remote
    index: CacheIndex
    cache: PackCache
    catalog: Catalog
    fetcher: Fetcher
    source: ChunkSource
    reader: ContentReader
    first_call: int

    @property
    def gets(self) -> list[Call]:
        """The range GETs that reached the MemoryRemote since this was opened."""
        calls = self.built.remote.calls[self.first_call :]
        return [call for call in calls if call.verb == "fetch_range"]

    async def read(self, name: str) -> bytes:
        """A whole file."""
        pointer = self.built.pointers[name]
        return await self.reader.read(pointer, 0, pointer.size)

    async def until_quiet(self) -> None:
        """Wait until no fetch is under way or waiting."""
        while not self.fetcher.is_idle:
            await trio.sleep(0.001)


def _unwrapped(remote: Remote) -> Remote:
    return remote


@asynccontextmanager
async def open_store(
    built: BuiltRemote,
    folder: Path,
    *,
    wrap_remote: Callable[[Remote], Remote] = _unwrapped,
    budget_bytes: int | None = 1 << 40,
    know_index: bool = True,
    commit: GitId | None = COMMIT,
) -> AsyncIterator[SmallStore]:
    """Everything that reads, over a cache in `folder`. With `know_index` the index object is known
    already, so that every call that is counted belongs to the test."""
    make_private_folder(folder / "cache")
    index = CacheIndex(make_private_folder(folder / "cache" / "index"))
    cache = PackCache(folder / "cache" / "packs", index, budget_bytes)
    remote = wrap_remote(built.remote)
    catalog = Catalog(remote, "memory", REPOSITORY, index, TIMEOUT_SECONDS)
    fetcher = Fetcher(remote, cache, PackTables(index, catalog), TIMEOUT_SECONDS)
    source = ChunkSource(LocalSources(None, index, cache), catalog, fetcher, commit)
    if know_index:
        index.keep_format("memory", built.remote.objects[FORMAT_KEY][0])
        index.keep_index(STORE, built.index, [pack.indexed for pack in built.packs])
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(fetcher.run)
            reader = ContentReader(source)
            calls = len(built.remote.calls)
            yield SmallStore(built, remote, index, cache, catalog, fetcher, source, reader, calls)
            nursery.cancel_scope.cancel()
    finally:
        source.close()
        index.close()


def random_files(count: int, size: int) -> dict[str, bytes]:
    """`count` files of one chunk of `size` random bytes each."""
    return {f"whole-{number:05}": os.urandom(size) for number in range(count)}


def content(built: BuiltRemote, number: int) -> bytes:
    """What the file of this number holds."""
    return list(built.contents.values())[number]


def without_memory(store: SmallStore) -> ChunkSource:
    """A source over the same store, as of another process: it remembers no chunk."""
    local = LocalSources(None, store.index, store.cache)
    return ChunkSource(local, store.catalog, store.fetcher, None)


async def gather(calls: Sequence[Callable[[], Awaitable[bytes]]]) -> list[bytes]:
    """What the calls return, all made at once, in their order."""
    results: dict[int, bytes] = {}

    async def run(number: int) -> None:
        results[number] = await calls[number]()

    async with trio.open_nursery() as nursery:
        for number in range(len(calls)):
            nursery.start_soon(run, number)
    return [results[number] for number in range(len(calls))]
