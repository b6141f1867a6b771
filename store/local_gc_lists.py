"""Chunk lists that are not here, from whichever remote of the repository has them."""

from collections.abc import Sequence

from store.config import RemoteSettings
from store.contents import ContentReader
from store.local_chunks import LocalChunks
from store.local_store import LocalStore
from store.many_lists import TakeList, visit_chunk_lists
from store.opening import Reading, WrapRemote, open_remote_parts
from store.pointer import Pointer


async def fetch_lists(
    local: LocalStore,
    remotes: Sequence[RemoteSettings],
    wrap_remote: WrapRemote,
    pointers: Sequence[Pointer],
    take: TakeList,
) -> list[Pointer]:
    """Hand the chunk list of each of these files to `take`; those that no remote has. Raises
    StoreError where a remote cannot be asked."""
    missing = list(pointers)
    for remote in remotes:
        if not missing:
            break
        async with open_remote_parts(local, remote, wrap_remote) as parts:
            # They belong to many commits, of which this machine may know none.
            await parts.catalog.fetch_all_indexes()
            source = parts.source(local.sources, None)
            try:
                reading = Reading(source, ContentReader(source), parts)
                missing = await visit_chunk_lists(LocalChunks(local), reading, missing, take)
            finally:
                source.close()
    return missing
