"""Learning: asking a remote what it holds, at most once in a while, for all who miss something."""

import math
from dataclasses import dataclass, field
from functools import partial

import trio

from store.catalog import Catalog
from store.concurrency import TABLE_WRITES
from store.errors import StoreError
from store.ids import GitId, PackName

_PAUSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Refresh:
    """The remote being asked, and how that ended."""

    done: trio.Event = field(default_factory=trio.Event)
    error: StoreError | None = None


class Learning:
    """What readers of one commit (or, with None, of any) have to know of a remote. Belongs to one
    trio loop."""

    def __init__(self, catalog: Catalog, commit: GitId | None) -> None:
        self._catalog = catalog
        self._commit = commit
        self._refreshed = -math.inf
        # Present exactly while one task asks the remote.
        self._refreshing: _Refresh | None = None

    async def refresh(self, doubtful: PackName | None = None) -> None:
        """Learn what the remote holds, unless that was just done. What is known of a `doubtful`
        pack is forgotten before.

        Whoever comes while somebody is at it shares the outcome, an error as well. Raises
        StoreError.
        """
        while trio.current_time() - self._refreshed >= _PAUSE_SECONDS:
            shared = self._refreshing
            if shared is None:
                await self._lead(doubtful)
                break
            await shared.done.wait()
            if shared.error is not None:
                raise shared.error

    async def _lead(self, doubtful: PackName | None) -> None:
        refresh = self._refreshing = _Refresh()
        try:
            await self._refresh_now(doubtful)
        except StoreError as error:
            refresh.error = error
            raise
        finally:
            self._refreshing = None
            refresh.done.set()
        # Where this task is cancelled there is no outcome, and one who waits begins anew.
        self._refreshed = trio.current_time()

    async def _refresh_now(self, doubtful: PackName | None) -> None:
        store = self._catalog.get_store()
        if doubtful is not None and store is not None:
            forget = partial(self._catalog.index.forget_pack, store, doubtful)
            await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
        if self._commit is None:
            await self._catalog.fetch_all_indexes()
        else:
            await self._catalog.fetch_commit_indexes(self._commit)
