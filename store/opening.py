"""Opening: the one place where the parts of a store are joined."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import trio

from store.catalog import Catalog
from store.chunk_source import ChunkSource
from store.concurrency import TABLE_WRITES
from store.config import RemoteSettings, require_trust
from store.contents import ContentReader
from store.deferred_remote import DeferredRemote
from store.fetch import Fetcher
from store.fetch_client import FetchClient, ServedCatalog
from store.ids import GitId
from store.local_store import LocalSources, LocalStore, identity_of
from store.pack_tables import PackTables
from store.remote import Remote
from store.resident_memory import ResidentMemory
from store.retry import RetryingRemote

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
_IDLE_SECONDS = 10.0
# A call to a remote gives up a little before the reader who waits for it, and says why.
_CALL_SHARE = 0.9


WrapRemote = Callable[[Remote], Remote]


def unwrapped(remote: Remote) -> Remote:
    """The remote as it is."""
    return remote


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
            nursery.start_soon(_forget_when_idle, fetcher, tables)
            yield RemoteParts(catalog, fetcher)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await opened.close()


@dataclass(frozen=True, slots=True)
class Reading:
    """A store opened for reading one commit. `remote` is None where none is configured, and where
    another process fetches."""

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


@asynccontextmanager
async def open_served_reading(
    local: LocalStore, commit: GitId | None, client: FetchClient
) -> AsyncIterator[Reading]:
    """As `open_reading`, where another process fetches (`store.fetch_service`)."""
    remote = local.settings.remote
    catalog = None
    if remote is not None:
        repository = local.settings.repository_id
        identity = identity_of(remote)
        catalog = ServedCatalog(open_remote(remote), identity, repository, local.index, client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_flush_for_ever, local)
        await nursery.start(client.run)
        fetcher = None if catalog is None else client
        with closing(ChunkSource(local.sources, catalog, fetcher, commit)) as source:
            yield Reading(source, ContentReader(source), None)
        nursery.cancel_scope.cancel()


async def _forget_when_idle(fetcher: Fetcher, tables: PackTables) -> None:
    """Tables serve whoever fetches: the one of a pack of small files takes megabytes."""
    while True:
        before = fetcher.fetched_bytes
        await trio.sleep(_IDLE_SECONDS)
        if fetcher.is_idle and fetcher.fetched_bytes == before:
            tables.forget()


async def _flush_for_ever(local: LocalStore) -> None:
    memory = ResidentMemory()

    def flush() -> None:
        local.cache.flush()
        memory.give_back()

    while True:
        await trio.sleep(_FLUSH_SECONDS)
        try:
            await trio.to_thread.run_sync(flush, limiter=TABLE_WRITES)
        except Exception:
            # What is not flushed is fetched again; no reader has to suffer for it.
            log.exception("the tables of the cache cannot be brought up to date")
