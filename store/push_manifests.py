"""The manifests of a push: written while a look at the remote may be relied on, and no longer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import trio

from store.clocks import Clock
from store.concurrency import run_all
from store.ids import GitId, PackName
from store.leases import HeldLease
from store.looks import take_look
from store.manifests import Manifest, encode_manifest, manifest_key, new_ulid
from store.remote import Remote
from store.remote_holdings import RemoteHoldings

_MANIFESTS_AT_ONCE = 16
# With less than this left of a look, it is better to look again than to write in a hurry.
_LEAST_REMAINING_SECONDS = 60.0

Needs = Mapping[GitId, frozenset[PackName]]
"""The packs of each commit."""


class PacksChanged(Exception):
    """Packs that a manifest was to name may no longer be relied on."""


@dataclass(frozen=True, slots=True)
class ManifestWriter:
    """Writes manifests of one repository. `keys` are those that it has written, by commit."""

    repository: str
    tool: str
    remote: Remote
    holdings: RemoteHoldings
    lease: HeldLease
    timeout_seconds: float
    clock: Clock
    looking: trio.Lock = field(default_factory=trio.Lock)

    async def look_again(self, needs: Needs) -> None:
        """Look at the remote anew. Raises PacksChanged where a pack that is needed is condemned or
        not there as it should be."""
        self.holdings.renew(await take_look(self.remote, self.timeout_seconds, self.clock))
        if self.holdings.find_unsound(frozenset().union(*needs.values())):
            raise PacksChanged

    async def write(self, needs: Needs) -> dict[GitId, str]:
        """Write the manifests of these commits; their keys. Raises PacksChanged, with some of them
        written, where that shows in between."""
        keys: dict[GitId, str] = {}
        changed: list[PacksChanged] = []

        async def write(commit: GitId, packs: frozenset[PackName]) -> None:
            async with self.looking:
                try:
                    if not changed and self._remaining() < _LEAST_REMAINING_SECONDS:
                        await self.look_again(needs)
                except PacksChanged as error:
                    changed.append(error)
            if not changed:
                keys[commit] = await self._write(commit, packs)

        calls = [partial(write, commit, packs) for commit, packs in needs.items()]
        await run_all(calls, at_once=_MANIFESTS_AT_ONCE)
        if changed:
            raise changed[0]
        return keys

    async def _write(self, commit: GitId, packs: frozenset[PackName]) -> str:
        index, store = self.holdings.index, self.holdings.store
        indexes = {index.load_index_of_pack(store, pack) for pack in packs}
        manifest = Manifest(
            repository=self.repository,
            commit=commit,
            packs=tuple(sorted(packs)),
            indexes=tuple(sorted(name for name in indexes if name is not None)),
            features=(),
            tool=self.tool,
        )
        raw = encode_manifest(manifest)
        key = manifest_key(self.repository, commit, new_ulid(time.time_ns() // 1_000_000))
        # Whatever happens on the way, it is there before the look is too old, or not at all.
        timeout = self.lease.require(min(self.timeout_seconds, self._remaining()))
        await self.remote.put(key, raw, timeout_seconds=timeout)
        index.keep_manifest(store, self.repository, commit, raw)
        return key

    def _remaining(self) -> float:
        return self.holdings.look.remaining_seconds
