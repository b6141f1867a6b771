"""Holding: a reader that lives long says in the remote which commit it needs.

The manifest of a commit that is held is not forgotten, and one that was keeps its packs for as long
as it is held. Who may not write to the remote has the grace of the collectors, and no more.
"""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import trio

from store.errors import RemoteDenied, RemoteError
from store.leases import LeaseKind, encode_lease, new_lease
from store.remote import Remote, lease_key
from store.tool_name import tool_name

log = logging.getLogger(__name__)

FIRST_SECONDS = 300.0
"""A reader that ends before this needs no lease: no grace is shorter than twice as long."""

RENEWAL_SECONDS = 6 * 3600.0
"""After this the lease is written anew; it counts for four times as long."""

_LOOK_SECONDS = 30.0
_DROP_SECONDS = 0.5


@dataclass(slots=True)
class Holder:
    """Holds the commit of `get_commit` (empty for none), for one reader of a repository."""

    remote: Remote
    repository: str
    get_commit: Callable[[], str]
    timeout_seconds: float

    async def run(self) -> None:
        """Hold until cancelled, and let go then. Ends by itself where writing is not allowed."""
        await trio.sleep(FIRST_SECONDS)
        key = lease_key(str(uuid.uuid4()))
        held, written_at = "", 0.0
        try:
            while True:
                commit = self.get_commit()
                is_due = trio.current_time() - written_at >= RENEWAL_SECONDS
                if commit and (commit != held or is_due):
                    await self._write(key, commit)
                    held, written_at = commit, trio.current_time()
                await trio.sleep(_LOOK_SECONDS)
        except RemoteDenied as error:
            log.info("nobody is told that this mount reads here: %s", error)
        finally:
            if held:
                await self._drop(key)

    async def _write(self, key: str, commit: str) -> None:
        lease = new_lease(LeaseKind.HOLD, tool_name(), [f"{self.repository}/{commit}"])
        while True:
            try:
                await self.remote.put(
                    key, encode_lease(lease), timeout_seconds=self.timeout_seconds
                )
                return
            except RemoteDenied:
                raise
            except RemoteError as error:
                log.debug("the lease of this mount is not written yet: %s", error)
            await trio.sleep(_LOOK_SECONDS)

    async def _drop(self, key: str) -> None:
        """In no more time than the end of a mount has; else it ends by itself."""
        with trio.move_on_after(_DROP_SECONDS, shield=True):
            try:
                await self.remote.delete(key, timeout_seconds=_DROP_SECONDS)
            except RemoteError as error:
                log.debug("the lease %s stays until it ends: %s", key, error)
