"""Fetches whose readers have gone before they began."""

from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

from store.fetch_schedule import DEMANDS_AT_ONCE as SLOTS
from tests.fakes.gate import Gate, gated
from tests.fakes.small_store import build_remote, open_store, random_files


async def test_what_nobody_waits_for_any_more_is_not_fetched(tmp_path: Path) -> None:
    # A pack for each file, so that no fetch brings what another one is for.
    built = build_remote(random_files(4 * SLOTS, 1000), chunks_per_pack=1)
    places = [pack.place(0) for pack in built.packs]
    async with open_store(built, tmp_path, wrap_remote=Gate) as store:
        async with trio.open_nursery() as readers:
            for group in (places[:SLOTS], places[SLOTS:]):
                for place in group:
                    readers.start_soon(store.fetcher.fetch_chunk, place)
                await wait_all_tasks_blocked()
            readers.cancel_scope.cancel()
        async with trio.open_nursery() as late:
            late.start_soon(store.fetcher.fetch_chunk, places[-1])
            await wait_all_tasks_blocked()
            gated(store).opened.set()
        await store.until_quiet()
        assert len(store.gets) == SLOTS + 1
        # Nothing is left in the way of a reader who comes later.
        for place in places:
            await store.fetcher.fetch_chunk(place)
