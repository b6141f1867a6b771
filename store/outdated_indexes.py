"""Index objects that lead to packs which are to be deleted: replaced before the packs go.

First an object without those packs, then the old one goes: whoever looks for a chunk finds it by
one of the two at any moment, and nobody is led to a pack that is no more.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import trio

from store.concurrency import DISK_READS, run_all
from store.errors import MalformedObject, ObjectMissing, StoreError, UnsupportedVersion
from store.ids import PackName
from store.leases import HeldLease
from store.remote import INDEX_PREFIX, ObjectInfo, Remote, index_key, parse_index_key
from store.remote_index import (
    MAX_INDEX_BYTES,
    encode_index,
    index_hash,
    index_head_bytes,
    parse_index,
    parse_index_names,
)
from store.retry import get_upload_seconds

log = logging.getLogger(__name__)

_AT_ONCE = 8
# Enough for the packs of nearly every push.
_HEAD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class OutdatedIndexes:
    """Replaces the index objects of a remote that list packs which are to go."""

    remote: Remote
    lease: HeldLease
    timeout_seconds: float

    async def replace(self, dead: Collection[PackName]) -> int:
        """Have no index object list any of `dead`; how many did. Raises StoreError."""
        listed = await self.remote.list_objects(INDEX_PREFIX, timeout_seconds=self.timeout_seconds)
        outdated: list[str] = []
        calls = [partial(self._look_at, info, set(dead), outdated) for info in listed]
        await run_all(calls, at_once=_AT_ONCE)
        await run_all([partial(self._replace, name, set(dead)) for name in outdated], at_once=2)
        return len(outdated)

    async def _look_at(
        self, info: ObjectInfo, dead: Collection[PackName], outdated: list[str]
    ) -> None:
        name = parse_index_key(info.key)
        if name is None:
            return
        try:
            head = await self._fetch_start(info, _HEAD_BYTES)
            head_bytes = index_head_bytes(head, info.size)
            if len(head) < head_bytes:
                head = await self._fetch_start(info, head_bytes)
            packs = parse_index_names(head[:head_bytes])
        except ObjectMissing:
            return
        except UnsupportedVersion:
            raise
        except MalformedObject as error:
            log.warning("%s: %s leads nowhere: %s", self.remote.url, info.key, error)
            return
        if any(pack in dead for pack in packs):
            outdated.append(name)

    async def _fetch_start(self, info: ObjectInfo, length: int) -> bytes:
        # Of an object too small for a header nothing needs to be read to refuse it.
        length = min(length, info.size)
        if not length:
            return b""
        return await self.remote.fetch_range(
            info.key, 0, length, timeout_seconds=self.timeout_seconds
        )

    async def _replace(self, name: str, dead: Collection[PackName]) -> None:
        raw = await self.remote.fetch(
            index_key(name), max_bytes=MAX_INDEX_BYTES, timeout_seconds=self.timeout_seconds
        )
        if index_hash(raw) != name:
            raise StoreError(
                f"{self.remote.url}: the index object {name} is damaged, so that what else it "
                "leads to is not known; `revfs verify --remote --repair` puts it right"
            )
        parsed = await trio.to_thread.run_sync(parse_index, raw, limiter=DISK_READS)
        left = [pack for pack in parsed if pack.name not in dead]
        if left:
            without = await trio.to_thread.run_sync(encode_index, left, limiter=DISK_READS)
            timeout = self.lease.require(get_upload_seconds(len(without), self.timeout_seconds))
            await self.remote.put(index_key(index_hash(without)), without, timeout_seconds=timeout)
        timeout = self.lease.require(self.timeout_seconds)
        await self.remote.delete(index_key(name), timeout_seconds=timeout)
