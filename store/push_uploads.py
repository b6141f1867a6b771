"""What a push puts into a remote before any manifest: packs, and index objects for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from store.concurrency import DISK_READS, TABLE_WRITES, run_all
from store.errors import IntegrityError, MalformedObject
from store.ids import PackName
from store.leases import HeldLease
from store.packs import verify_pack
from store.progress import ByteProgress
from store.remote import Remote, index_key, pack_key
from store.remote_holdings import RemoteHoldings
from store.remote_index import IndexedPack, encode_index, index_hash
from store.retry import get_upload_seconds
from store.staging import Staging

_UPLOADS_AT_ONCE = 8
# Two packs are proven at a time, which is faster than any link: were it all that are to go up, none
# of them would be on its way before the last is done.
_VERIFYING = trio.CapacityLimiter(2)
# Keeps index objects at some tens of megabytes, so that one is parsed at a go.
_INDEX_ENTRIES = 500_000


@dataclass(frozen=True, slots=True)
class Uploads:
    """Puts staged packs into a remote, and takes note of them in `holdings`."""

    remote: Remote
    staging: Staging
    holdings: RemoteHoldings
    lease: HeldLease
    timeout_seconds: float

    async def upload(
        self, packs: Sequence[PackName], progress: ByteProgress
    ) -> dict[PackName, int]:
        """Have these packs and their index in the remote; the sizes of those that went up."""
        indexed: list[IndexedPack] = []
        # Those that a push which was stopped has left there already; a name is never used twice.
        there = {pack: self.holdings.size_of(pack) for pack in packs}
        calls = [partial(self._upload_pack, pack, indexed, progress) for pack in packs]
        await run_all(calls, at_once=_UPLOADS_AT_ONCE)
        for group in index_groups(sorted(indexed, key=lambda pack: pack.name)):
            await self._upload_index(group)
        return {pack.name: pack.size for pack in indexed if there[pack.name] != pack.size}

    async def _upload_pack(
        self, pack: PackName, indexed: list[IndexedPack], progress: ByteProgress
    ) -> None:
        path = self.staging.path_of(pack)
        # The last moment at which a flipped bit on our disk is an error here and not a loss there.
        try:
            summary = await trio.to_thread.run_sync(verify_pack, path, limiter=_VERIFYING)
        except (IntegrityError, MalformedObject) as error:
            forget = partial(self.staging.forget_damaged_chunks, pack)
            await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
            raise IntegrityError(f"{error}; push again to hear which file to add again") from error
        if self.holdings.size_of(pack) != summary.size:
            timeout = self.lease.require(get_upload_seconds(summary.size, self.timeout_seconds))
            await self.remote.put(pack_key(pack), path, timeout_seconds=timeout)
        indexed.append(IndexedPack(pack, summary.size, summary.hash, summary.table))
        progress.advance(summary.size, items=1)

    async def _upload_index(self, packs: Sequence[IndexedPack]) -> None:
        raw = await trio.to_thread.run_sync(encode_index, packs, limiter=DISK_READS)
        name = index_hash(raw)
        timeout = self.lease.require(get_upload_seconds(len(raw), self.timeout_seconds))
        await self.remote.put(index_key(name), raw, timeout_seconds=timeout)
        keep = partial(self.holdings.index.keep_index, self.holdings.store, name, packs)
        await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)
        for pack in packs:
            self.holdings.add_pack(pack.name, pack.table, name)


def index_groups(packs: Iterable[IndexedPack]) -> list[list[IndexedPack]]:
    """Packs in groups of which each gets an index object."""
    groups: list[list[IndexedPack]] = []
    entries = 0
    for pack in packs:
        if not groups or entries + len(pack.table) > _INDEX_ENTRIES:
            groups.append([])
            entries = 0
        groups[-1].append(pack)
        entries += len(pack.table)
    return groups
