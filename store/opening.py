"""Opening: the one place where the parts of a store are joined."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import trio

from store.cache_index import CacheIndex, PackPlace
from store.catalog import Catalog, load_format
from store.chunk_source import ChunkSource, LocalSources, PackTables
from store.chunking import DEFAULT_CHUNKING, ChunkingParameters
from store.concurrency import TABLE_WRITES
from store.config import RemoteSettings, require_trust
from store.contents import ContentReader
from store.deferred_remote import DeferredRemote
from store.directory_loader import DirectoryLoader
from store.fetch import Fetcher
from store.git import GitRepository
from store.ids import ChunkId, GitId
from store.local_folders import make_private_folder
from store.pack_cache import PackCache
from store.remote import Remote
from store.remote_format import RemoteFormat
from store.retry import RetryingRemote
from store.staging import Staging, has_staged_packs, open_repository_tables
from store.stat_cache import StatCache
from store.store_settings import StoreSettings
from store.tables import Tables

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
# A call to a remote gives up a little before the reader who waits for it, and says why.
_CALL_SHARE = 0.9


WrapRemote = Callable[[Remote], Remote]


def unwrapped(remote: Remote) -> Remote:
    """The remote as it is."""
    return remote


class LocalStore:
    """The local parts of a store: git, the cache, staged packs. Open it after any fork."""

    def __init__(self, settings: StoreSettings, *, to_write: bool) -> None:
        """With `to_write` the folder for staged packs is made if there is none."""
        self.settings = settings
        self.repository = GitRepository(settings.paths)
        make_private_folder(settings.cache_directory)
        self.index = CacheIndex(make_private_folder(settings.cache_directory / "index"))
        self.cache = PackCache(
            settings.cache_directory / "packs", self.index, settings.cache_size_bytes
        )
        self.directories = DirectoryLoader(self.repository, self.index)
        # The remote's, once it is known; asked for with every chunk.
        self._store_id: str | None = None
        self._tables: Tables | None = None
        self.staging: Staging | None = None
        state_dir = settings.paths.state_dir
        if to_write or has_staged_packs(state_dir):
            self._tables = open_repository_tables(state_dir)
            self.staging = Staging(state_dir, self._tables)

    def close(self) -> None:
        """Bring the tables up to date and let go of everything."""
        self.directories.save()
        self.cache.flush()
        if self._tables is not None:
            self._tables.close()
        self.index.close()
        self.repository.close()

    def __enter__(self) -> "LocalStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sources(self) -> LocalSources:
        """What of the local disk a chunk may come from."""
        return LocalSources(self.staging, self.index, self.cache)

    def open_stat_cache(self) -> StatCache:
        """The stat cache; the store must be open to write."""
        assert self._tables is not None
        return StatCache(self._tables)

    def load_chunking(self) -> ChunkingParameters:
        """How the remote wants files to be cut, as far as known here; else the usual way."""
        found = self._load_format()
        return DEFAULT_CHUNKING if found is None else found.chunking

    def is_known(self, chunk: ChunkId) -> bool:
        """Whether a chunk is staged, or in the remote as far as this machine knows."""
        if self.staging is not None and self.staging.load_place(chunk) is not None:
            return True
        if self._store_id is None:
            self._store_id = self.load_store_id()
        store = self._store_id
        return store is not None and self.index.load_place(store, chunk) is not None

    def load_absent_place(self, chunk: ChunkId) -> PackPlace | None:
        """Where the remote has a chunk that cannot be read here without it; None for one that is
        here, or of which nothing is known."""
        remote = self.settings.remote
        if remote is None or remote.folder is not None:
            return None
        if self.staging is not None and self.staging.load_place(chunk) is not None:
            return None
        store = self._store_id or self.load_store_id()
        place = None if store is None else self.index.load_place(store, chunk)
        if place is None or self.cache.covers(place.pack, place.entry.offset, place.entry.end):
            return None
        return place

    def load_store_id(self) -> str | None:
        """The store id of the remote, if it was ever seen from here."""
        found = self._load_format()
        return None if found is None else found.store

    def _load_format(self) -> RemoteFormat | None:
        remote = self.settings.remote
        return None if remote is None else load_format(self.index, identity_of(remote))


def identity_of(remote: RemoteSettings) -> str:
    """What tells a remote from all others on this machine."""
    if remote.folder is not None:
        return f"folder {remote.folder}"
    return f"s3 {remote.endpoint or ''} {remote.bucket}/{remote.prefix}"


def open_remote(settings: RemoteSettings, wrap_remote: WrapRemote = unwrapped) -> Remote:
    """The remote of these settings, with retries. Connections are made at its first use.

    Raises UntrustedEndpoint. `wrap_remote` lets a test slip one in below the retries.
    """
    require_trust(settings)
    if settings.folder is not None:
        from store.directory import DirectoryRemote

        return RetryingRemote(wrap_remote(DirectoryRemote(settings.folder)))
    return RetryingRemote(wrap_remote(DeferredRemote(settings)))


@dataclass(frozen=True, slots=True)
class RemoteParts:
    """A remote opened for reading: its catalog, and the fetcher that serves it."""

    catalog: Catalog
    fetcher: Fetcher

    def source(self, local: LocalSources, commit: GitId | None) -> ChunkSource:
        """Chunks from the local disk and this remote, for the readers of `commit`."""
        return ChunkSource(local, self.catalog, self.fetcher, commit)


@asynccontextmanager
async def open_remote_parts(
    local: LocalStore, remote: RemoteSettings, wrap_remote: WrapRemote = unwrapped
) -> AsyncIterator[RemoteParts]:
    """Serve fetches from a remote while the context lasts."""
    settings = local.settings
    timeout_seconds = _CALL_SHARE * settings.timeout_seconds
    opened = open_remote(remote, wrap_remote)
    catalog = Catalog(
        opened,
        identity_of(remote),
        settings.repository_id,
        local.index,
        timeout_seconds,
    )
    tables = PackTables(local.index, catalog)
    fetcher = Fetcher(opened, local.cache, tables, timeout_seconds)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(fetcher.run)
            yield RemoteParts(catalog, fetcher)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await opened.close()


@dataclass(frozen=True, slots=True)
class Reading:
    """A store opened for reading one commit; `remote` is None where none is configured."""

    source: ChunkSource
    contents: ContentReader
    remote: RemoteParts | None


@asynccontextmanager
async def open_reading(
    local: LocalStore, commit: GitId | None, wrap_remote: WrapRemote = unwrapped
) -> AsyncIterator[Reading]:
    """Everything that reads of `commit` need, while the context lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_flush_for_ever, local)
        if local.settings.remote is None:
            with closing(ChunkSource(local.sources, None, None, commit)) as source:
                yield Reading(source, ContentReader(source), None)
        else:
            async with open_remote_parts(local, local.settings.remote, wrap_remote) as parts:
                with closing(parts.source(local.sources, commit)) as source:
                    yield Reading(source, ContentReader(source), parts)
        nursery.cancel_scope.cancel()


async def _flush_for_ever(local: LocalStore) -> None:
    while True:
        await trio.sleep(_FLUSH_SECONDS)
        try:
            await trio.to_thread.run_sync(local.cache.flush, limiter=TABLE_WRITES)
        except Exception:
            # What is not flushed is fetched again; no reader has to suffer for it.
            log.exception("the tables of the cache cannot be brought up to date")
