"""What a collector sees of a remote: its lists, in the order that makes them safe to act upon.

    tombs → packs → leases → manifests → trash

Manifests come after packs and leases: whoever has named a pack in between is seen. Trash comes
after manifests: one that is forgotten in between is seen in one of the two.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from store.concurrency import run_all
from store.errors import MalformedObject, ObjectMissing, StoreError
from store.ids import PackName
from store.leases import LeaseKind, LeaseSeen, fetch_leases
from store.manifests import MAX_MANIFEST_BYTES, Manifest, parse_manifest, parse_manifest_key
from store.remote import (
    LEASES_PREFIX,
    MANIFESTS_PREFIX,
    PACKS_PREFIX,
    TOMBS_PREFIX,
    TRASH_PREFIX,
    ObjectInfo,
    Remote,
    parse_pack_key,
    parse_tomb_key,
    restored_key,
)

log = logging.getLogger(__name__)

_MANIFESTS_AT_ONCE = 16
# A manifest may be forgotten, or replaced, between the list and its GET; then the list is old.
_LISTS = 4


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A manifest in the trash, and when it came there by the clock of the remote."""

    manifest: Manifest
    since_seconds: float


@dataclass(frozen=True, slots=True)
class Marks:
    """What there is in a remote. `tombs`: pack → when it was condemned; `packs`: pack → what the
    list says of it; `leases`: those of others, live or not; `manifests` and `trash` by key. All
    times by the clock of the remote, in seconds since 1970."""

    now_seconds: float
    tombs: Mapping[PackName, float]
    packs: Mapping[PackName, ObjectInfo]
    leases: Sequence[LeaseSeen]
    manifests: Mapping[str, Manifest]
    trash: Mapping[str, Forgotten]

    def live_leases(self, kind: LeaseKind) -> list[LeaseSeen]:
        """The leases of a kind that count."""
        return [
            seen for seen in self.leases if seen.kind is kind and seen.is_live(self.now_seconds)
        ]

    def held_commits(self) -> set[str]:
        """What readers hold, as repository/commit."""
        leases = [seen.lease for seen in self.live_leases(LeaseKind.HOLD)]
        return {held for lease in leases if lease is not None for held in lease.holds}


@dataclass(frozen=True, slots=True)
class MarkTaker:
    """Looks at a remote for a collector. `own_lease` is the key of his, which is no other's."""

    remote: Remote
    timeout_seconds: float
    own_lease: str | None

    async def take(self, now_seconds: float) -> Marks:
        """All that there is now. Raises RemoteError, and StoreError for a manifest that cannot be
        read: what it needs is then not known."""
        tombs = await self._list(TOMBS_PREFIX)
        packs = await self._list(PACKS_PREFIX)
        leases = [info for info in await self._list(LEASES_PREFIX) if info.key != self.own_lease]
        seen = await fetch_leases(self.remote, leases, self.timeout_seconds)
        manifests = await self._fetch_listed(MANIFESTS_PREFIX)
        trash = await self._fetch_listed(TRASH_PREFIX)
        return Marks(
            now_seconds,
            {name: t.modified_seconds for t in tombs if (name := parse_tomb_key(t.key))},
            {name: pack for pack in packs if (name := parse_pack_key(pack.key))},
            seen,
            {info.key: manifest for info, manifest in manifests},
            {info.key: Forgotten(found, info.modified_seconds) for info, found in trash},
        )

    async def _list(self, prefix: str) -> Sequence[ObjectInfo]:
        return await self.remote.list_objects(prefix, timeout_seconds=self.timeout_seconds)

    async def _fetch_listed(self, prefix: str) -> list[tuple[ObjectInfo, Manifest]]:
        """Every manifest below a prefix. Where one is gone that was listed, the list is made anew:
        what stands for it now may not be in the old one."""
        known: dict[str, Manifest] = {}
        for _ in range(_LISTS):
            listed = await self._list(prefix)
            gone: list[str] = []
            calls = [
                partial(self._fetch, info.key, known, gone)
                for info in listed
                if info.key not in known
            ]
            await run_all(calls, at_once=_MANIFESTS_AT_ONCE)
            if not gone:
                return [(info, known[info.key]) for info in listed]
        raise StoreError(
            f"{self.remote.url}: manifests go faster than they can be read; try again later"
        )

    async def _fetch(self, key: str, known: dict[str, Manifest], gone: list[str]) -> None:
        place = parse_manifest_key(key if key.startswith(MANIFESTS_PREFIX) else restored_key(key))
        try:
            if place is None:
                raise MalformedObject("its name is not that of a manifest")
            raw = await self.remote.fetch(
                key, max_bytes=MAX_MANIFEST_BYTES, timeout_seconds=self.timeout_seconds
            )
            manifest = parse_manifest(raw)
            if (manifest.repository, manifest.commit) != place[:2]:
                raise MalformedObject("it is of another commit")
        except ObjectMissing:
            gone.append(key)
            return
        except MalformedObject as error:
            raise StoreError(
                f"{self.remote.url}: {key} cannot be read, so that nobody knows what it needs, and "
                f"nothing is collected: {error}; `revfs verify --remote` says more, and a newer "
                "revfs may know it"
            ) from error
        known[key] = manifest
