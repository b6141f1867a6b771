"""RemoteHoldings: what of a remote a writer may rely on, by the remote's own lists."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from store.cache_index import CacheIndex
from store.catalog import ListedIndexes
from store.ids import ChunkId, PackName, pack_name_from_bytes
from store.looks import Look
from store.packs import PackTable


@dataclass(slots=True)
class RemoteHoldings:
    """What a remote holds: its store id and index objects, and the last look at its packs.

    A chunk counts as missing whose only known pack is absent, not of the size that its table makes,
    condemned, in no index object that the remote lists, or to be `avoided`.
    """

    listed: ListedIndexes
    look: Look
    index: CacheIndex
    avoided: frozenset[PackName] = frozenset()
    # By raw name, as the rows of chunks have it.
    _sound: dict[bytes, bool] = field(default_factory=dict)
    # Index objects and packs that this very process has put since the last look.
    _own_indexes: set[str] = field(default_factory=set)
    _own_sizes: dict[PackName, int] = field(default_factory=dict)

    @property
    def store(self) -> str:
        """The id of the remote's store."""
        return self.listed.store

    def renew(self, look: Look) -> None:
        """Go by a newer look."""
        self.look = look
        self._own_sizes.clear()
        self._sound.clear()

    def size_of(self, pack: PackName) -> int | None:
        """The size in bytes of a pack that is in the remote, condemned or not."""
        return self._own_sizes.get(pack, self.look.pack_sizes.get(pack))

    def load_packs(self, chunks: Sequence[ChunkId]) -> list[bytes | None]:
        """The raw name of the pack in which the remote has each of the chunks, or None."""
        spans = self.index.load_spans(self.store, chunks)
        return [s.pack if s is not None and self._is_sound(s.pack) else None for s in spans]

    def find_unsound(self, packs: Iterable[PackName]) -> set[PackName]:
        """Those of these packs that may not be relied on (any more)."""
        return {pack for pack in packs if not self._is_sound(bytes.fromhex(pack))}

    def _is_sound(self, raw_name: bytes) -> bool:
        known = self._sound.get(raw_name)
        if known is None:
            known = self._sound[raw_name] = self._looks_sound(pack_name_from_bytes(raw_name))
        return known

    def _looks_sound(self, pack: PackName) -> bool:
        if pack in self.look.condemned or pack in self.avoided:
            return False
        table = self.index.load_pack_table(self.store, pack)
        if table is None or self.size_of(pack) != table.pack_size:
            return False
        return self._is_listed(pack)

    def _is_listed(self, pack: PackName) -> bool:
        name = self.index.load_index_of_pack(self.store, pack)
        return name in self.listed.names or name in self._own_indexes

    def find_unlisted(self) -> list[PackName]:
        """Packs in the remote that are known here by an index object alone that it does not list
        (any more): another one may tell of them."""
        known = self.index.load_known_packs(self.store)
        return [
            pack for pack in known if pack in self.look.pack_sizes and not self._is_listed(pack)
        ]

    def move_to_sound(self) -> None:
        """Have each chunk that lies in a sound pack, too, be known there."""
        known = self.index.load_known_packs(self.store)
        unsound = self.find_unsound(known)
        if unsound:
            sound = (pack for pack in known if pack not in unsound)
            self.index.move_chunks(self.store, unsound, sound)

    def forget_unsound(self) -> None:
        """Drop what is known of chunks in packs that are absent or wrong, asked for or not, so that
        one `add` stages all of them anew. Nothing of them can be read from the cache after that;
        what is condemned can still be read where it is."""
        lost = self.find_unsound(self.index.load_known_packs(self.store))
        for pack in lost - self.look.condemned - self.avoided:
            self.index.forget_chunks(self.store, pack)

    def add_pack(self, pack: PackName, table: PackTable, index_name: str) -> None:
        """Take note of a pack that was just uploaded and whose rows are in the index."""
        self._own_indexes.add(index_name)
        self._own_sizes[pack] = table.pack_size
        self._sound.pop(bytes.fromhex(pack), None)
