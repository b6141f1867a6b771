"""Tables of packs that are nowhere, for what is planned over them."""

import random
import struct
from collections.abc import Sequence

from store.packs import PACK_HEADER_BYTES, PackTable

_ENTRY = struct.Struct("<32sIIIB")


def made_table(sizes: Sequence[int]) -> PackTable:
    """A table of entries of these stored lengths."""
    rows, offset = [], PACK_HEADER_BYTES
    for number, size in enumerate(sizes):
        rows.append(_ENTRY.pack(number.to_bytes(32, "big"), offset, size, size, 0))
        offset += size
    return PackTable.trusted(b"".join(rows))


def made_packs(chosen: random.Random, files: int) -> list[PackTable]:
    """So many files of 60 to 140 KB in packs of 64 MiB."""
    sizes = [chosen.randint(60_000, 140_000) for _ in range(files)]
    return [made_table(sizes[start : start + 660]) for start in range(0, files, 660)]
