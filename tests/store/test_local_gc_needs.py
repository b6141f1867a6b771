"""Which packs are needed, against a slow and plain answer over made packs."""

import random

from store.ids import ChunkId, PackName
from store.local_gc_needs import PackNeeds


def chunk(number: int) -> ChunkId:
    return ChunkId(b"%032d" % number)


def test_a_pack_is_needed_where_one_of_its_chunks_is() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        contents = {
            PackName(f"pack-{number}"): [chunk(rng.randrange(30)) for _ in range(rng.randrange(6))]
            for number in range(rng.randrange(8))
        }
        wanted = [chunk(rng.randrange(30)) for _ in range(rng.randrange(12))]
        needs = PackNeeds(contents)
        half = rng.randrange(len(wanted) + 1)
        needs.take(iter(wanted[:half]))
        needs.take(wanted[half:])
        idle = {name for name, chunks in contents.items() if not set(chunks) & set(wanted)}
        assert needs.unneeded == idle, seed
