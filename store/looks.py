"""Looks: what a writer relies on when he names packs in a manifest, and for how long.

A look is the list of tombs and then the list of packs. A pack without a tomb in the first and there
in the second stays for at least the grace of the collectors from then on, which is far longer than
a look may be relied on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from store.clocks import Clock
from store.ids import PackName
from store.remote import (
    PACKS_PREFIX,
    TOMBS_PREFIX,
    Remote,
    parse_pack_key,
    parse_tomb_key,
)

LOOK_LIFE_SECONDS = 300.0
"""How long after its first call a manifest may still arrive in a remote that relies on a look."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is condemned, the sizes in bytes of all packs, and when the look began."""

    condemned: frozenset[PackName]
    pack_sizes: Mapping[PackName, int]
    begun_at: float
    clock: Clock

    @property
    def remaining_seconds(self) -> float:
        """How long it may still be relied on; not above 0 once that is over."""
        return LOOK_LIFE_SECONDS - (self.clock.running() - self.begun_at)


async def take_look(remote: Remote, timeout_seconds: float, clock: Clock) -> Look:
    """Look at the remote now. Raises RemoteError."""
    begun_at = clock.running()
    tombs = await remote.list_objects(TOMBS_PREFIX, timeout_seconds=timeout_seconds)
    packs = await remote.list_objects(PACKS_PREFIX, timeout_seconds=timeout_seconds)
    condemned = {name for info in tombs if (name := parse_tomb_key(info.key)) is not None}
    sizes = {name: info.size for info in packs if (name := parse_pack_key(info.key)) is not None}
    return Look(frozenset(condemned), sizes, begun_at, clock)
