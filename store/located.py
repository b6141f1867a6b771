"""Located: where a chunk is on this machine; and ChunkFetcher, who fetches it where it is not."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from store.cache_rows import PackPlace


@dataclass(frozen=True, slots=True)
class Located:
    """Where a chunk is: its place, and the local file to read it from. `cached` tells a file of
    the pack cache, which may lack it, from one that holds the whole pack; `shared` is one on a
    network share, which may not answer."""

    place: PackPlace
    path: Path
    cached: bool
    shared: bool = False


class ChunkFetcher(Protocol):
    """What fetches chunks: here, or in another process."""

    async def fetch_chunk(self, place: PackPlace, *, anew: bool = False) -> bytes | None:
        """The proven bytes of a chunk; None where the pack cache has it by now, unless it is to be
        fetched `anew`. Raises StoreError."""
        ...

    def prefetch(self, places: Iterable[PackPlace]) -> None:
        """Get these ahead of need, in this order, as far as there is room for it."""
        ...
