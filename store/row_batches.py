"""Rows in batches, each small enough for one transaction: about 20 ms of puts, the most that
another writer may have to wait."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Row = tuple[bytes, bytes]
T = TypeVar("T")

ROWS_AT_ONCE = 8192
_BYTES_AT_ONCE = 4 << 20


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Items, so many at a time."""
    remaining = iter(items)
    while batch := list(islice(remaining, ROWS_AT_ONCE)):
        yield batch


def row_batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows, so many and so many bytes of them at a time."""
    batch: list[Row] = []
    batch_bytes = 0
    for row in rows:
        batch.append(row)
        batch_bytes += len(row[1])
        if len(batch) >= ROWS_AT_ONCE or batch_bytes >= _BYTES_AT_ONCE:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch
