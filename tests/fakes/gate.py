"""Gate: a remote that answers no range until it is told to, so that readers meet on purpose."""

from collections.abc import Awaitable, Callable

import trio
from trio.testing import wait_all_tasks_blocked

from store.remote import Remote
from tests.fakes.small_store import SmallStore, gather


class Gate:
    """A remote whose range GETs wait until the gate is opened."""

    def __init__(self, inner: Remote) -> None:
        self._inner = inner
        self.opened = trio.Event()
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        self.asked += 1
        await self.opened.wait()
        return await self._inner.fetch_range(key, start, length, timeout_seconds=timeout_seconds)


def gated(store: SmallStore) -> Gate:
    assert isinstance(store.remote, Gate)
    return store.remote


async def open_when_blocked(store: SmallStore) -> None:
    await wait_all_tasks_blocked()
    gated(store).opened.set()


async def gather_through(
    store: SmallStore, calls: list[Callable[[], Awaitable[bytes]]]
) -> list[bytes]:
    """The results of calls that all wait before the first GET is answered."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_when_blocked, store)
        return await gather(calls)
