"""A push opened: what it works with, from an open store and the settings of its remotes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from store.chunk_source import ChunkSource
from store.clocks import Clock
from store.config import RemoteSettings
from store.contents import ContentReader
from store.local_store import LocalSources, LocalStore
from store.opening import WrapRemote, open_remote_parts, unwrapped
from store.push import PushContext
from store.push_contents import TreeContents


@asynccontextmanager
async def open_push(
    local: LocalStore,
    repository: str,
    tool: str,
    others: Sequence[RemoteSettings] = (),
    *,
    wrap_remote: WrapRemote = unwrapped,
    clock: Clock | None = None,
) -> AsyncIterator[PushContext]:
    """What a push to the remote of this store works with, while the context lasts. `others` are the
    other remotes of the repository, which may have what is not here any more."""
    remote = local.settings.remote
    assert remote is not None
    assert local.staging is not None
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_remote_parts(local, remote, wrap_remote))
        # What is here of this very remote may be all that is left of it; never fetched.
        sources = [ChunkSource(local.sources, parts.catalog, None, None)]
        for other in others:
            opened = await stack.enter_async_context(open_remote_parts(local, other))
            elsewhere = LocalSources(None, local.index, local.cache)
            sources.append(opened.source(elsewhere, None))
        itself = parts.source(local.sources, None)
        for source in (itself, *sources):
            stack.callback(source.close)
        readers = [ContentReader(source) for source in (itself, *sources)]
        yield PushContext(
            repository=repository,
            tool=tool,
            remote=parts.catalog.remote,
            catalog=parts.catalog,
            staging=local.staging,
            cache=local.cache,
            trees=TreeContents(local.directories, readers),
            sources=sources,
            itself=itself,
            timeout_seconds=local.settings.timeout_seconds,
            clock=Clock() if clock is None else clock,
        )
