"""Learning: asking a remote what it holds, at most once in a while, for all who miss something."""

import math
from functools import partial

import trio

from store.catalog import Catalog
from store.concurrency import TABLE_WRITES, SharedCalls
from store.ids import GitId, PackName

_PAUSE_SECONDS = 5.0
# What a damaged table has lost is asked for again, but a chunk that was never pushed looks alike.
_ANEW_PAUSE_SECONDS = 600.0


class Learning:
    """What readers of one commit (or, with None, of any) have to know of a remote. Belongs to one
    trio loop."""

    def __init__(self, catalog: Catalog, commit: GitId | None) -> None:
        self._catalog = catalog
        self._commit = commit
        self._refreshed = self._learnt_anew = -math.inf
        self._generation = catalog.index.generation
        self._forgotten: set[PackName] = set()
        self._asking: SharedCalls[None, None] = SharedCalls()
        self._asking_anew: SharedCalls[None, None] = SharedCalls()

    async def refresh(self, doubtful: PackName | None = None, *, once: bool = False) -> None:
        """Learn what the remote holds, unless that was just done. What is known of a `doubtful`
        pack is forgotten before; with `once`, only if that was not done yet.

        Whoever comes while somebody is at it shares the outcome, an error as well. Raises
        StoreError.
        """
        if once and doubtful in self._forgotten:
            doubtful = None
        # What was learnt into tables that were lost since is not known any more.
        lost = self._generation != self._catalog.index.generation
        if lost or trio.current_time() - self._refreshed >= _PAUSE_SECONDS:
            await self._asking.run(None, partial(self._refresh_now, doubtful))

    async def learn_anew(self) -> None:
        """Learn also what the tables say that they know: they lack a chunk that a commit needs.
        Done seldom. Raises StoreError."""
        if trio.current_time() - self._learnt_anew >= _ANEW_PAUSE_SECONDS:
            await self._asking_anew.run(None, self._learn_anew_now)

    async def _learn_anew_now(self) -> None:
        store = self._catalog.get_store()
        if store is not None:
            forget = partial(self._catalog.index.forget_indexes, store)
            await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
            await self._refresh_now(None)
            self._learnt_anew = trio.current_time()

    async def _refresh_now(self, doubtful: PackName | None) -> None:
        self._generation = self._catalog.index.generation
        store = self._catalog.get_store()
        if doubtful is not None and store is not None:
            self._forgotten.add(doubtful)
            forget = partial(self._catalog.index.forget_pack, store, doubtful)
            await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
        if self._commit is None:
            await self._catalog.fetch_all_indexes()
        else:
            await self._catalog.fetch_commit_indexes(self._commit)
        self._refreshed = trio.current_time()
