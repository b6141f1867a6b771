"""ChunkSource: the proven bytes of a chunk, from wherever it lies.

In this order: memory of recent chunks, a staged pack, a folder remote's pack in place, the pack
cache, the remote. Bytes from a disk are hashed at every load; only a chunk that this process has
proven in that very place is read in part.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import trio

from store.cache_rows import PackPlace
from store.catalog import Catalog
from store.codec import Codec
from store.concurrency import DISK_READS, SHARE_READS, TABLE_WRITES
from store.errors import (
    ChunkMissing,
    ChunkUnreadable,
    IntegrityError,
    ObjectMissing,
    StoreError,
)
from store.fetch import chunk_label, entry_number
from store.ids import ChunkId, GitId, PackName
from store.learning import Learning
from store.local_folders import is_on_network
from store.local_store import LocalSources
from store.located import ChunkFetcher, Located
from store.memory_cache import MemoryCache
from store.open_files import NotInMemory, OpenFiles
from store.packs import unpack_chunk
from store.remote import FORMAT_KEY, pack_key

log = logging.getLogger(__name__)

T = TypeVar("T")

_RECENT_BYTES = 48 << 20
# What it takes to remember a chunk, beside its bytes.
_MEMORY_OF_ONE_BYTES = 300
# Up to here a load from the page cache with its hash costs less than handing it to a thread.
_INLINE_BYTES = 256 << 10


class ChunkSource:
    """Chunks for the readers of one commit (or, with None, of any). Belongs to one trio loop."""

    def __init__(
        self,
        local: LocalSources,
        catalog: Catalog | None,
        fetcher: ChunkFetcher | None,
        commit: GitId | None,
    ) -> None:
        """`catalog` and `fetcher` are None where no remote is configured."""
        self._local = local
        self._catalog = catalog
        self._fetcher = fetcher
        self._commit = commit
        self._files = OpenFiles()
        # Apart, since whoever looks at files of a share that does not answer holds up the others.
        self._shared_files = OpenFiles()
        in_place = None if catalog is None else catalog.remote.local_path(FORMAT_KEY)
        self._is_shared = in_place is not None and is_on_network(in_place)
        self._recent: MemoryCache[ChunkId, bytes] = MemoryCache(_RECENT_BYTES)
        self._learning = None if catalog is None else Learning(catalog, commit)

    def close(self) -> None:
        """Let go of open files."""
        self._files.close()
        self._shared_files.close()

    def locate(self, chunk: ChunkId) -> Located | None:
        """Where a chunk is, as far as this machine knows; asks nobody."""
        staging = self._local.staging
        place = None if staging is None else staging.load_place(chunk)
        if staging is not None and place is not None:
            return Located(place, staging.path_of(place.pack), cached=False)
        return self._locate_remote(chunk)

    async def learn_commit(self) -> None:
        """Ask the remote what it holds of the commit, unless that is known here. Raises
        RemoteError."""
        if self._catalog is None or self._commit is None:
            return
        if not self._catalog.knows_commit(self._commit):
            await self._refresh()

    def can_read(self, chunk: ChunkId) -> bool:
        """Whether the chunk is here, or known to be in a remote that it can be fetched from."""
        if self._fetcher is None:
            return self.is_here(chunk)
        return self.locate(chunk) is not None

    def is_here(self, chunk: ChunkId) -> bool:
        """Whether the chunk can be read without a network, as far as the tables know."""
        located = self.locate(chunk)
        if located is None or not located.cached:
            return located is not None
        entry = located.place.entry
        return self._local.cache.covers(located.place.pack, entry.offset, entry.end)

    def prefetch(self, chunks: list[ChunkId]) -> None:
        """Get these ahead of need, as far as they are only in a remote."""
        if self._fetcher is None:
            return
        found = [self.locate(chunk) for chunk in chunks]
        self._fetcher.prefetch(place.place for place in found if place is not None and place.cached)

    async def read_chunk(self, chunk: ChunkId) -> bytes:
        """The whole chunk. Raises ChunkMissing, or ChunkUnreadable naming chunk, pack and cause."""
        found = self._recent.get(chunk)
        if found is not None:
            return found
        located = await self._find(chunk)
        try:
            content = await self._bring(located)
        except StoreError as error:
            content = await self._bring_from_elsewhere(chunk, located, error)
        self._remember(chunk, content)
        return content

    async def read_range(self, chunk: ChunkId, chunk_length: int, start: int, length: int) -> bytes:
        """Bytes start … start + length of a chunk that is `chunk_length` bytes long in all, by
        whoever names it. Raises ChunkUnreadable where it is not, and as `read_chunk` does."""
        found = self._recent.get(chunk)
        if found is None and chunk_length > _INLINE_BYTES:
            part = await self._read_proven_part(chunk, chunk_length, start, length)
            if part is not None:
                return part
        if found is None:
            found = await self.read_chunk(chunk)
        if len(found) != chunk_length:
            raise ChunkUnreadable(
                f"{chunk_label(chunk, None)} has {len(found)} bytes where its pointer or chunk list"
                f" says {chunk_length}"
            )
        return found[start : start + length]

    def read_now(self, chunk: ChunkId, chunk_length: int, start: int, length: int) -> bytes | None:
        """As `read_range`, from memory and the page cache alone; None where that is not enough."""
        found = self._recent.get(chunk)
        if found is None:
            located = self.locate(chunk)
            if located is None or located.shared or not self._may_have(located):
                return None
            if chunk_length > _INLINE_BYTES:
                return self._load_part_now(located, chunk_length, start, length)
            found = self._load_whole_now(located)
            if found is not None and length < chunk_length:
                # The rest of it is most often asked for next.
                self._remember(chunk, found)
        if found is None or len(found) != chunk_length:
            return None
        return found[start : start + length]

    def _remember(self, chunk: ChunkId, content: bytes) -> None:
        self._recent.put(chunk, content, len(content) + _MEMORY_OF_ONE_BYTES)

    def _may_have(self, located: Located) -> bool:
        """Whether the local file has the chunk, as far as the tables know."""
        entry = located.place.entry
        return not located.cached or self._local.cache.covers(
            located.place.pack, entry.offset, entry.end
        )

    def _load_part_now(
        self, located: Located, chunk_length: int, start: int, length: int
    ) -> bytes | None:
        entry = located.place.entry
        if entry.codec != Codec.RAW or entry.raw_length != chunk_length or located.shared:
            return None
        try:
            return self._files.load_part_now(located.path, entry, start, length)
        except (NotInMemory, OSError):
            return None

    def _locate_remote(self, chunk: ChunkId) -> Located | None:
        store = None if self._catalog is None else self._catalog.get_store()
        if store is None or self._catalog is None:
            return None
        place = self._local.index.load_place(store, chunk)
        if place is None:
            return None
        in_place = self._catalog.remote.local_path(pack_key(place.pack))
        if in_place is not None:
            return Located(place, in_place, cached=False, shared=self._is_shared)
        return Located(place, self._local.cache.path_of(place.pack), cached=True)

    async def _find(self, chunk: ChunkId) -> Located:
        located = self.locate(chunk)
        if located is None:
            try:
                await self._refresh()
            except StoreError as error:
                raise ChunkUnreadable(f"{chunk_label(chunk, None)}: {error}") from error
            located = await self._locate_anew(chunk)
        if located is None:
            where = "staged or" if self._catalog is None else "staged, cached or"
            remote = (
                "no remote is configured" if self._catalog is None else self._catalog.remote.url
            )
            raise ChunkMissing(f"{chunk_label(chunk, None)} is not {where} in a remote ({remote})")
        return located

    async def _locate_anew(self, chunk: ChunkId) -> Located | None:
        """Where a chunk is by what was just learnt; else, since tables may have lost rows, by what
        staged packs and the remote say now."""
        located = self.locate(chunk)
        if located is None:
            located = await self._locate_staged_anew(chunk)
        if located is None and self._learning is not None:
            try:
                await self._learning.learn_anew()
            except StoreError as error:
                raise ChunkUnreadable(f"{chunk_label(chunk, None)}: {error}") from error
            located = self.locate(chunk)
        return located

    async def _locate_staged_anew(self, chunk: ChunkId) -> Located | None:
        staging = self._local.staging
        if staging is None:
            return None
        await trio.to_thread.run_sync(staging.name_anew, limiter=TABLE_WRITES)
        place = staging.load_place(chunk)
        return None if place is None else Located(place, staging.path_of(place.pack), cached=False)

    async def _refresh(self, doubtful: PackName | None = None, *, once: bool = False) -> None:
        """Learn what the remote holds, unless that was just done; see Learning."""
        if self._learning is not None:
            await self._learning.refresh(doubtful, once=once)

    async def _bring(self, located: Located) -> bytes:
        if not located.cached:
            return await self._load_whole(located)
        entry = located.place.entry
        if self._may_have(located):
            try:
                return await self._load_whole(located)
            except (IntegrityError, ObjectMissing) as error:
                log.debug("cached bytes are dropped: %s", error)
                drop = partial(
                    self._local.cache.drop, located.place.pack, entry.offset, entry.stored_length
                )
                await trio.to_thread.run_sync(drop, limiter=TABLE_WRITES)
            except StoreError as error:
                log.debug("cached bytes cannot be read: %s", error)
        if self._fetcher is None:
            raise ChunkMissing("its cached bytes are gone, and nothing is fetched here")
        return await self._fetch(self._fetcher, located)

    async def _fetch(self, fetcher: ChunkFetcher, located: Located) -> bytes:
        content = await fetcher.fetch_chunk(located.place)
        if content is not None:
            return content
        try:
            return await self._load_whole(located)
        except StoreError as error:
            log.debug("what is said to be cached is not: %s", error)
        content = await fetcher.fetch_chunk(located.place, anew=True)
        if content is None:
            raise ChunkMissing("its cached bytes are gone, and it was not fetched anew")
        return content

    async def _bring_from_elsewhere(
        self, chunk: ChunkId, failed: Located, cause: StoreError
    ) -> bytes:
        """Where one place failed another may serve: the remote's for a staged pack; for a pack that
        is gone, what the index says when it is loaded anew."""
        try:
            staged = await self._locate_staged_anew(chunk)
            if staged is not None and staged != failed:
                with suppress(StoreError):
                    return await self._bring(staged)
            located = self._locate_remote(chunk)
            if located is None:
                # It was staged; perhaps it was pushed a moment ago.
                await self._refresh()
            elif located == failed and self._is_doubtful(failed.place, cause):
                await self._refresh(failed.place.pack)
                still = self._locate_remote(chunk) == failed and self._is_wrong(failed.place)
                if still and self._learning is not None:
                    # It was just done for another chunk: more rows are wrong.
                    await self._learning.learn_anew()
            elif located == failed and isinstance(cause, IntegrityError):
                # It may have been repaired: there is another place then. What the remote says of
                # the damaged pack need not be fetched again and again.
                await self._refresh(failed.place.pack, once=True)
            located = self._locate_remote(chunk)
            if located is None or located == failed:
                raise cause
            return await self._bring(located)
        except StoreError as error:
            raise _unreadable(failed, error) from error

    def _is_doubtful(self, place: PackPlace, cause: StoreError) -> bool:
        """Whether the place itself may be wrong: its pack is gone, or the tables disagree on it."""
        store = None if self._catalog is None else self._catalog.get_store()
        if store is None or isinstance(cause, ObjectMissing):
            return store is not None
        return self._is_wrong(place)

    def _is_wrong(self, place: PackPlace) -> bool:
        """Whether the tables have no such entry in the table of that pack."""
        store = None if self._catalog is None else self._catalog.get_store()
        if store is None:
            return False
        return entry_number(self._local.index.load_pack_table(store, place.pack), place) is None

    async def _load_whole(self, located: Located) -> bytes:
        """The proven chunk from its local file. Raises ObjectMissing, IntegrityError."""
        content = self._load_whole_now(located)
        if content is None:
            content = await _in_thread(located, partial(self._load_whole_in_thread, located))
        return content

    def _files_of(self, located: Located) -> OpenFiles:
        return self._shared_files if located.shared else self._files

    def _load_whole_now(self, located: Located) -> bytes | None:
        entry = located.place.entry
        # On a share already the opening may wait for ever.
        if entry.raw_length > _INLINE_BYTES or located.shared:
            return None
        try:
            return self._files.load_now(located.path, entry, partial(_prove, located))
        except (NotInMemory, StoreError, OSError):
            return None

    def _load_whole_in_thread(self, located: Located) -> bytes:
        prove = partial(_prove, located)
        try:
            return self._files_of(located).load(located.path, located.place.entry, prove)
        except OSError as error:
            raise StoreError(f"{located.path}: {error.strerror}") from error

    async def _read_proven_part(
        self, chunk: ChunkId, chunk_length: int, start: int, length: int
    ) -> bytes | None:
        located = self.locate(chunk)
        if located is None or located.place.entry.codec != Codec.RAW:
            return None
        if located.place.entry.raw_length != chunk_length or not self._may_have(located):
            return None
        part = self._load_part_now(located, chunk_length, start, length)
        if part is not None:
            return part
        load = partial(self._load_part_in_thread, located, start, length)
        return await _in_thread(located, load)

    def _load_part_in_thread(self, located: Located, start: int, length: int) -> bytes | None:
        try:
            files = self._files_of(located)
            return files.load_part(located.path, located.place.entry, start, length)
        except OSError:
            # The whole load that follows says what is wrong.
            return None


async def _in_thread(located: Located, load: Callable[[], T]) -> T:
    """What `load` returns, which may wait for a disk, or on a share until nobody waits for it."""
    limiter = SHARE_READS if located.shared else DISK_READS
    return await trio.to_thread.run_sync(load, abandon_on_cancel=located.shared, limiter=limiter)


def _prove(located: Located, stored: bytes | None) -> bytes:
    if stored is None:
        raise ObjectMissing(f"the pack {located.path} is missing or cut short")
    return unpack_chunk(located.place.entry, stored)


def _unreadable(located: Located, cause: StoreError) -> ChunkUnreadable:
    return ChunkUnreadable(f"{chunk_label(located.place.entry.chunk, located.place)}: {cause}")
