"""Which of many chunks need not be staged: looked up in bulk, for whoever adds a million files."""

from collections.abc import Sequence

from store.ids import ChunkId
from store.local_store import LocalStore

_LOOKUPS_AT_ONCE = 8192


class KnownChunks:
    """What a local store knows of chunks: those that are staged, and those that are in the remote
    as far as this machine knows. Safe from any thread."""

    def __init__(self, local: LocalStore) -> None:
        self._staging = local.staging
        self._index = local.index
        self._store = local.load_store_id()

    def load(self, chunks: Sequence[ChunkId]) -> list[bool]:
        """Whether each chunk is known, in the order asked."""
        known: list[bool] = []
        for start in range(0, len(chunks), _LOOKUPS_AT_ONCE):
            known += self._load(chunks[start : start + _LOOKUPS_AT_ONCE])
        return known

    def _load(self, chunks: Sequence[ChunkId]) -> list[bool]:
        known = [False] * len(chunks)
        if self._staging is not None:
            known = self._staging.rely_on(chunks)
        if self._store is not None:
            absent = [number for number, is_known in enumerate(known) if not is_known]
            spans = self._index.load_spans(self._store, [chunks[number] for number in absent])
            for number, span in zip(absent, spans, strict=True):
                known[number] = span is not None
        return known
