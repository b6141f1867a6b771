"""What a push sends: staged packs as they are, and chunks that must be written into new ones.

Of a million chunks not one is held where whole packs have them all.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import trio

from store.errors import MalformedObject
from store.git import Commit
from store.ids import ChunkId, PackName, pack_name_from_bytes
from store.packs import PackKind, PackTable
from store.progress import ByteProgress
from store.push_contents import LostChunk, ReadsChunks, TreeContents, Wanted
from store.remote_holdings import RemoteHoldings
from store.staging import Staging

log = logging.getLogger(__name__)

# A staged pack goes up as it is if at least this share of it is needed.
_NEEDED_SHARE = 0.8
# Below this, packs of one kind are written anew as one, if there are several.
_SMALL_PACK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Stock:
    """Where a push finds what it may send: trees, staged packs, and sources of single chunks;
    `url` names the remote in messages."""

    trees: TreeContents
    staging: Staging
    sources: Sequence[ReadsChunks]
    url: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Staged packs that go up as they are, with their sizes in bytes, and chunks to be written
    into new packs, in order of path."""

    whole_packs: dict[PackName, int]
    loose_chunks: dict[ChunkId, Wanted]


async def select(
    stock: Stock, commits: Sequence[Commit], holdings: RemoteHoldings, progress: ByteProgress
) -> Selection:
    """Look at every file of the commits, and tell `progress` so. Raises LostChunk naming the path
    of a chunk that is nowhere to be had."""
    demand = await _measure_demand(stock, commits, holdings, progress)
    whole = _choose_whole_packs(stock.staging, demand.staged_bytes, holdings)
    loose: dict[ChunkId, Wanted] = {}
    if demand.elsewhere or demand.staged_bytes.keys() - whole.keys():
        loose = await _collect_loose(stock, commits, holdings, whole.keys())
    return Selection(whole, loose)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What the remote lacks: bytes by the staged pack that has them, and whether more than that."""

    staged_bytes: dict[PackName, int]
    elsewhere: bool


async def _measure_demand(
    stock: Stock, new: Sequence[Commit], holdings: RemoteHoldings, progress: ByteProgress
) -> _Demand:
    needed: defaultdict[bytes, int] = defaultdict(int)
    elsewhere = False
    for files in stock.trees.new_files(new):
        missing = await stock.trees.load_missing(files, holdings)
        for span in stock.staging.load_spans(list(missing)):
            if span is None:
                elsewhere = True
            else:
                needed[span.pack] += span.end - span.start
        progress.advance(0, items=len(files))
        await trio.lowlevel.checkpoint()
    return _Demand({pack_name_from_bytes(p): size for p, size in needed.items()}, elsewhere)


async def _collect_loose(
    stock: Stock,
    new: Sequence[Commit],
    holdings: RemoteHoldings,
    whole: Collection[PackName],
) -> dict[ChunkId, Wanted]:
    """Every chunk that the remote lacks and that is in no `whole` pack, in order of path. Raises
    LostChunk for one that is nowhere."""
    covering = {bytes.fromhex(pack) for pack in whole}
    loose: dict[ChunkId, Wanted] = {}
    for files in stock.trees.new_files(new):
        missing = await stock.trees.load_missing(files, holdings)
        spans = stock.staging.load_spans(list(missing))
        for (chunk, wanted), span in zip(missing.items(), spans, strict=True):
            if span is None or span.pack not in covering:
                loose.setdefault(chunk, wanted)
        await trio.lowlevel.checkpoint()
    for chunk, wanted in loose.items():
        _require_source(stock, chunk, wanted)
    return loose


def _choose_whole_packs(
    staging: Staging, needed_bytes: Mapping[PackName, int], holdings: RemoteHoldings
) -> dict[PackName, int]:
    """The staged packs that go up as they are, with their sizes: large ones, or the only small one
    of a kind, that hold nothing that the remote has and little that nobody needs, and of which
    nothing is known to be damaged."""
    whole: dict[PackName, int] = {}
    small: defaultdict[PackKind, list[PackName]] = defaultdict(list)
    for pack, needed in needed_bytes.items():
        try:
            kind, table = staging.load_table(pack)
        except MalformedObject as error:
            log.warning("a staged pack does not go up as it is: %s", error)
            continue
        if _goes_as_it_is(staging, pack, table, needed, holdings):
            whole[pack] = table.pack_size
            if table.pack_size < _SMALL_PACK_BYTES:
                small[kind].append(pack)
    for packs in small.values():
        # Of many a git add of a file or two; together they are one object, and one GET.
        if len(packs) > 1:
            for pack in packs:
                del whole[pack]
    return whole


def _goes_as_it_is(
    staging: Staging, pack: PackName, table: PackTable, needed: int, holdings: RemoteHoldings
) -> bool:
    chunks = [chunk for chunk, _ in table.rows()]
    # A chunk whose row is gone, or another pack's, was found to be damaged here.
    raw_name = bytes.fromhex(pack)
    if any(span is None or span.pack != raw_name for span in staging.load_spans(chunks)):
        return False
    # Under a name that is condemned it would be deleted again.
    if pack in holdings.look.condemned or pack in holdings.avoided:
        return False
    return needed >= _NEEDED_SHARE * table.stored_bytes and not any(holdings.load_packs(chunks))


def _require_source(stock: Stock, chunk: ChunkId, wanted: Wanted) -> None:
    if not any(source.can_read(chunk) for source in stock.sources):
        raise LostChunk(
            f"the data of {wanted} is not staged, not cached and not in {stock.url} "
            f"(chunk {chunk.hex()}); revfs push where it was added, or revfs add it again where "
            "the file still is",
            chunk,
        )
