"""Which staged packs hold a chunk that somebody needs: no clock, no disk.

A pack in which one chunk is needed is needed whole.
"""

from collections.abc import Iterable, Mapping

from store.ids import ChunkId, PackName


class PackNeeds:
    """Packs by what is in them, against chunks that are needed."""

    def __init__(self, chunks_of: Mapping[PackName, Iterable[ChunkId]]) -> None:
        """A chunk that lies in several packs is needed in each: none of them may be sound."""
        # As a rule a chunk has one owner, and of a million it matters what that takes.
        self._owners: dict[ChunkId, PackName | tuple[PackName, ...]] = {}
        self._undecided = set(chunks_of)
        for pack, chunks in chunks_of.items():
            for chunk in chunks:
                before = self._owners.get(chunk)
                self._owners[chunk] = pack if before is None else (*_as_tuple(before), pack)

    @property
    def unneeded(self) -> frozenset[PackName]:
        """The packs of which nothing is needed, as far as was heard."""
        return frozenset(self._undecided)

    def take(self, chunks: Iterable[ChunkId]) -> None:
        """These chunks are needed."""
        owners = self._owners
        for chunk in chunks:
            found = owners.get(chunk)
            if found is not None:
                self._undecided.difference_update(_as_tuple(found))


def _as_tuple(owners: PackName | tuple[PackName, ...]) -> tuple[PackName, ...]:
    return owners if isinstance(owners, tuple) else (owners,)
