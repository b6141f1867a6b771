"""Warmings: what the keeper of a mount was asked to bring ahead of need, and how far it is with it.

Several may go on at once. Orders share what may be ahead of their readers: half of the cache.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from store.concurrency import DISK_READS, GIT_READS
from store.directories import TRACKED_KINDS
from store.errors import ConfigError, MalformedObject, StoreError
from store.local_store import LocalStore
from store.messages import Facts, FileRead, Kind, Message, pack_paths, parse_paths
from store.order_paths import OrderPaths
from store.order_window import OrderWindow
from store.shown_names import escape_name
from store.warm_lane import WarmState
from store.warming import Moved, Order, PlacedFiles, Warmer, WarmFile, no_room
from vfs.asked import Asked
from vfs.shown_roots import ShownRoots, load_entries, walk_tracked

log = logging.getLogger(__name__)

# So many are remembered: those under way, and the last that ended.
_MOST_REMEMBERED = 256
# What stays free on the disk where the cache has no size.
_FREE_SHARE = 0.10


@dataclass(slots=True, eq=False)
class PlacedOrder:
    """The paths of an order, and how far it is followed. `unknown` of those that were named are no
    files of the mount, as `first_unknown`."""

    wanted_ahead_bytes: int
    paths: OrderPaths = field(default_factory=OrderPaths)
    unknown: int = 0
    first_unknown: str = ""
    window: OrderWindow = field(default_factory=lambda: OrderWindow(0))
    moved: Moved = field(default_factory=Moved)


@dataclass(slots=True, eq=False)
class Warming:
    """One of them, of what the mount showed when it was asked for. `order` is None for one of whole
    folders; `begun` is False for an order that has not all its paths yet."""

    number: int
    roots: ShownRoots
    order: PlacedOrder | None = None
    begun: bool = False
    state: WarmState = field(default_factory=WarmState)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun and not ended."""
        return self.begun and not self.state.has_ended

    def facts(self) -> Facts:
        """What others are told of it."""
        state, order = self.state, self.order
        return {
            "number": self.number,
            "is_order": order is not None,
            "has_ended": state.has_ended,
            "files": state.files,
            "wanted_bytes": state.wanted_bytes,
            "done_bytes": state.done_bytes,
            "fetched_bytes": state.fetched_bytes,
            "failed": len(state.failed),
            "error": state.error,
            "unknown": 0 if order is None else order.unknown,
            "first_unknown": "" if order is None else order.first_unknown,
        }


class Warmings:
    """All of one mount. Belongs to one trio loop; `run` must be running for them to go on."""

    def __init__(
        self,
        local: LocalStore,
        warmer: Warmer | None,
        load_roots: Callable[[], Awaitable[ShownRoots]],
        asked: Asked,
        watch_orders: Callable[[bool], None],
    ) -> None:
        """`warmer` is None where there is no remote. `watch_orders` hears whether there are orders
        now, for which `note_reads` has to be called."""
        self._local = local
        self._warmer = warmer
        self._load_roots = load_roots
        self._asked = asked
        self._watch_orders = watch_orders
        # What an earlier keeper of the mount was asked and had not ended.
        self._left = asked.take()
        # In the order in which they were asked for.
        self._by_number: dict[int, Warming] = {}
        self._last_number = max((message.call for message in self._left), default=0)
        self._capacity_bytes = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Warm until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    @property
    def under_way(self) -> list[Warming]:
        """Those that have begun and not ended."""
        return [warming for warming in self._by_number.values() if warming.is_under_way]

    def all_facts(self) -> Facts:
        """What others are told of all."""
        return {"warmings": [w.facts() for w in self._by_number.values() if w.begun]}

    async def warm(self, paths: Sequence[bytes], number: int | None = None) -> Warming:
        """Begin to bring what is at and below paths. Raises PathNotFound, PathRefused."""
        warmer = self._require_warmer()
        roots = await self._load_roots()
        check = partial(_find_all, roots, paths)
        await trio.to_thread.run_sync(check, limiter=GIT_READS)
        warming = self._add(number, roots)
        self._asked.append(Kind.WARM, warming.number, pack_paths(paths))
        capacity_bytes = await self._load_capacity()
        files = partial(walk_tracked, roots, paths)
        self._begin(warming, partial(warmer.warm, files, capacity_bytes, warming.state))
        return warming

    async def add_order(self, ahead_bytes: int, number: int | None = None) -> Warming:
        """A new order, which has no paths yet."""
        self._require_warmer()
        warming = self._add(number, await self._load_roots())
        warming.order = PlacedOrder(ahead_bytes)
        warming.state.wanted_bytes = 0
        self._asked.append(Kind.ORDER, warming.number, str(ahead_bytes).encode())
        return warming

    async def add_paths(self, number: int, paths: Sequence[bytes]) -> Warming:
        """More paths of an order, from the top of the mount. Raises MalformedObject where there is
        no such order, or it has begun."""
        warming, order = self._find_order(number)
        add = partial(self._add_known, warming, order, paths)
        await trio.to_thread.run_sync(add, limiter=GIT_READS)
        return warming

    async def follow(self, number: int) -> Warming:
        """Begin to follow an order that has all its paths. Raises as `add_paths` does."""
        warming, order = self._find_order(number)
        warmer = self._require_warmer()
        if not await self._load_capacity():
            raise no_room(0)
        await trio.to_thread.run_sync(order.paths.finish, limiter=DISK_READS)
        self._asked.append(Kind.FOLLOW, number)
        load = partial(_load_some, warming.roots, order.paths)
        followed = Order(len(order.paths), load, order.window, order.moved)
        self._begin(warming, partial(warmer.follow, followed, warming.state))
        self._share()
        return warming

    def note_reads(self, reads: Iterable[FileRead]) -> None:
        """These files began to be read."""
        orders = self._orders()
        for read in reads:
            for order in orders:
                place = order.paths.nearest(read.path, order.window.position)
                if place is not None and order.window.note_read(place):
                    order.moved.tell()

    def stop(self) -> Facts:
        """End all that is under way; which that was."""
        stopped = self.under_way
        for warming in stopped:
            warming.state.error = warming.state.error or "it was told to stop"
            warming.scope.cancel()
        return {"warmings": [warming.facts() for warming in stopped]}

    async def resume(self) -> None:
        """Go on with what an earlier keeper of the mount was asked and had not ended."""
        left, self._left = self._left, []
        for message in left:
            try:
                await self._ask_again(message)
            except StoreError as error:
                log.warning("what was being warmed is not any more: %s", error)

    async def _ask_again(self, message: Message) -> None:
        if message.kind == Kind.WARM:
            await self.warm(parse_paths(message.body), message.call)
        elif message.kind == Kind.ORDER:
            await self.add_order(int(message.body), message.call)
        elif message.kind == Kind.ORDER_PATHS:
            await self.add_paths(message.call, parse_paths(message.body))
        elif message.kind == Kind.FOLLOW:
            await self.follow(message.call)

    def _require_warmer(self) -> Warmer:
        if self._warmer is None:
            raise ConfigError("there is no remote to warm from: `revfs remote add -d NAME URL`")
        return self._warmer

    def _add(self, number: int | None, roots: ShownRoots) -> Warming:
        if number is None:
            self._last_number = number = self._last_number + 1
        warming = self._by_number[number] = Warming(number, roots)
        idle = [other for other in self._by_number.values() if not other.is_under_way]
        for old in idle[:-_MOST_REMEMBERED]:
            del self._by_number[old.number]
        return warming

    def _find_order(self, number: int) -> tuple[Warming, PlacedOrder]:
        warming = self._by_number.get(number)
        if warming is None or warming.order is None or warming.begun:
            raise MalformedObject(f"there is no order {number} that is still to begin")
        return warming, warming.order

    def _add_known(self, warming: Warming, order: PlacedOrder, paths: Sequence[bytes]) -> None:
        """Of these paths add those that are files, and count the others. In a thread."""
        known = []
        for path, entry in zip(paths, load_entries(warming.roots, paths), strict=True):
            if entry is None:
                order.unknown += 1
                order.first_unknown = order.first_unknown or escape_name(path)
            else:
                known.append(path)
                size = entry.size if entry.kind in TRACKED_KINDS else 0
                warming.state.wanted_bytes = (warming.state.wanted_bytes or 0) + size
        warming.state.files += len(known)
        order.paths.append(known)
        self._asked.append(Kind.ORDER_PATHS, warming.number, pack_paths(known))

    def _begin(self, warming: Warming, work: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None
        warming.begun = True
        self._nursery.start_soon(self._run_one, warming, work)

    async def _run_one(self, warming: Warming, work: Callable[[], Awaitable[None]]) -> None:
        state = warming.state
        try:
            with warming.scope:
                await work()
        except Exception as error:
            log.exception("a warming failed as it should not")
            state.error = f"internal error: {error!r}"
        state.has_ended = True
        self._asked.append(Kind.DONE, warming.number)
        if all(other.state.has_ended for other in self._by_number.values()):
            self._asked.forget_all()
        if warming.order is not None:
            self._share()
        _log_end(warming)

    def _orders(self) -> list[PlacedOrder]:
        orders = (warming.order for warming in self.under_way)
        return [order for order in orders if order is not None]

    def _share(self) -> None:
        """Give each order its part of what may be ahead of readers."""
        orders = self._orders()
        for order in orders:
            share_bytes = self._capacity_bytes // 2 // len(orders)
            order.window.most_bytes = min(order.wanted_ahead_bytes, share_bytes)
            order.moved.tell()
        self._watch_orders(bool(orders))

    async def _load_capacity(self) -> int:
        """How many bytes the cache may hold."""
        load = partial(_load_capacity, self._local)
        self._capacity_bytes = await trio.to_thread.run_sync(load, limiter=DISK_READS)
        return self._capacity_bytes


def _find_all(roots: ShownRoots, paths: Sequence[bytes]) -> None:
    for path in paths:
        roots.find(path)


def _load_some(roots: ShownRoots, paths: OrderPaths, first: int, count: int) -> PlacedFiles:
    """The tracked files among `count` of the paths."""
    some = [paths.path(place) for place in range(first, first + count)]
    return [
        (first + number, WarmFile(some[number], entry.pointer))
        for number, entry in enumerate(load_entries(roots, some))
        if entry is not None and entry.kind in TRACKED_KINDS
    ]


def _load_capacity(local: LocalStore) -> int:
    size_bytes = local.settings.cache_size_bytes
    if size_bytes is not None:
        return size_bytes
    status = os.statvfs(local.settings.cache_directory)
    cached_bytes = sum(use.cached_bytes for use in local.index.load_uses())
    free_bytes = (status.f_bavail - int(status.f_blocks * _FREE_SHARE)) * status.f_frsize
    return max(0, cached_bytes + free_bytes)


def _log_end(warming: Warming) -> None:
    state = warming.state
    if warming.scope.cancelled_caught:
        log.info("a warming was told to stop")
    elif state.failed:
        log.warning("%d files could not be warmed, as %s", len(state.failed), state.error)
    elif state.error:
        log.warning("warming ended: %s", state.error)
    else:
        log.info("warmed %d files", state.files)
