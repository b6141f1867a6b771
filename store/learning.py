"""Learning: asking a remote what it holds, at most once in a while, for all who miss something."""

import math
from functools import partial

import trio

from store.catalog import Catalog
from store.concurrency import TABLE_WRITES, SharedCalls
from store.ids import GitId, PackName

_PAUSE_SECONDS = 5.0


class Learning:
    """What readers of one commit (or, with None, of any) have to know of a remote. Belongs to one
    trio loop."""

    def __init__(self, catalog: Catalog, commit: GitId | None) -> None:
        self._catalog = catalog
        self._commit = commit
        self._refreshed = -math.inf
        self._forgotten: set[PackName] = set()
        self._asking: SharedCalls[None, None] = SharedCalls()

    async def refresh(self, doubtful: PackName | None = None, *, once: bool = False) -> None:
        """Learn what the remote holds, unless that was just done. What is known of a `doubtful`
        pack is forgotten before; with `once`, only if that was not done yet.

        Whoever comes while somebody is at it shares the outcome, an error as well. Raises
        StoreError.
        """
        if once and doubtful in self._forgotten:
            doubtful = None
        if trio.current_time() - self._refreshed >= _PAUSE_SECONDS:
            await self._asking.run(None, partial(self._refresh_now, doubtful))

    async def _refresh_now(self, doubtful: PackName | None) -> None:
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
