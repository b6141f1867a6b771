"""A bounded memory of recently used values: whole entries, least recently used out first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


# Into how many parts the budgets of this process are cut; see share_memory.
_parts = 1
_MOST_PARTS = 4


def share_memory(processes: int) -> None:
    """Say that so many processes do the same work side by side: budgets of memories that this one
    makes from now on are cut down, to a quarter at the most, so that all have little more together
    than one would have."""
    global _parts
    _parts = min(max(processes, 1), _MOST_PARTS)


class MemoryCache(Generic[K, V]):
    """Values with their sizes in bytes, at most `budget_bytes` of them together (or its part, see
    share_memory). Safe from any thread."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes // _parts
        self._lock = threading.Lock()
        # Last used last; `_used_bytes` is the sum of the sizes in it.
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._used_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used_bytes(self) -> int:
        """The sizes of all values together."""
        return self._used_bytes

    def get(self, key: K) -> V | None:
        """The value, which then counts as just used, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Remember a value. One larger than the whole budget is not kept."""
        with self._lock:
            self._forget(key)
            if size_bytes > self._budget_bytes:
                return
            self._entries[key] = (value, size_bytes)
            self._used_bytes += size_bytes
            while self._used_bytes > self._budget_bytes:
                _, (_, freed) = self._entries.popitem(last=False)
                self._used_bytes -= freed

    def drop(self, key: K) -> None:
        """Forget a value; one that is not there is no error."""
        with self._lock:
            self._forget(key)

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._entries.clear()
            self._used_bytes = 0

    def _forget(self, key: K) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self._used_bytes -= found[1]
