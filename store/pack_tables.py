"""PackTables: the tables of the packs of one remote, recently used ones in memory."""

from store.cache_index import CacheIndex
from store.catalog import Catalog
from store.ids import PackName
from store.memory_cache import MemoryCache
from store.packs import PackTable

_TABLE_BYTES = 64 << 20


class PackTables:
    """The tables of the packs of one remote, recently used ones in memory."""

    def __init__(self, index: CacheIndex, catalog: Catalog) -> None:
        self._index = index
        self._catalog = catalog
        self._recent: MemoryCache[PackName, PackTable] = MemoryCache(_TABLE_BYTES)

    def get_pack_table(self, pack: PackName) -> PackTable | None:
        """The table of a pack, if its index object is known here."""
        table = self._recent.get(pack)
        store = self._catalog.get_store()
        if table is None and store is not None:
            table = self._index.load_pack_table(store, pack)
            if table is not None:
                self._recent.put(pack, table, len(table.raw))
        return table

    def forget(self) -> None:
        """Let go of all tables; the next one asked for is loaded again."""
        self._recent.clear()
