"""WarmService: what the keeper of a mount does besides fetching what is read: it warms what it is
asked to, by commands over the mount's socket or by whoever mounted, and records reads.
"""

import logging
import math
import os
from functools import partial
from pathlib import Path

import trio

from store.concurrency import DISK_READS, GIT_READS
from store.errors import MalformedObject, StoreError
from store.fetch_service import Answer, Call, FetchService
from store.local_store import LocalStore
from store.messages import (
    Facts,
    Kind,
    pack_told,
    parse_numbered,
    parse_paths,
    parse_reads,
)
from store.opening import Reading
from store.order_files import MountPaths, read_order
from store.pack_tables import PackTables
from store.paths import load_path
from store.warm_plan import WarmPlanner
from store.warming import Warmer
from vfs.asked import Asked
from vfs.mount_request import MountKind, MountRequest, split_revision
from vfs.recording import Recorder
from vfs.ref_names import RefNames
from vfs.shown import Root
from vfs.shown_roots import NamedRoots, OneRoot, ShownRoots
from vfs.warmings import Warming, Warmings

log = logging.getLogger(__name__)

# An order of no size that anybody could mean.
_MOST_DIGITS = 18


class WarmService:
    """Warms and records for one mount. Belongs to one trio loop."""

    def __init__(
        self,
        request: MountRequest,
        local: LocalStore,
        reading: Reading,
        root: Root | None,
        asked: Asked,
    ) -> None:
        self._request = request
        self._local = local
        self._root = root
        self._names: RefNames | None = None
        self._is_first = asked.is_new()
        warmer = None if reading.remote is None else _open_warmer(local, reading, root)
        self._warmings = Warmings(local, warmer, self._load_roots, asked, self._watch)
        self._recorder = None if request.record is None else Recorder(request.record)
        # The other half of the keeper, which has the connections.
        self.fetches = FetchService(local.cache, reading.remote, self._calls())

    async def run(
        self, answers: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Warm and record until cancelled. What was asked when it was mounted begins when the mount
        `answers`."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._warmings.run)
            task_status.started()
            self._watch(orders=False)
            if self._recorder is not None:
                nursery.start_soon(self._recorder.run)
            await answers.wait()
            try:
                await self._begin()
            except (OSError, StoreError) as error:
                log.warning("what was to be warmed is not: %s", error)

    async def finish(self) -> None:
        """Write what is still to be recorded."""
        if self._recorder is not None:
            await self._recorder.write(math.inf)

    async def _begin(self) -> None:
        if not self._is_first:
            await self._warmings.resume()
            return
        if self._request.warm:
            await self._warmings.warm(self._request.warm)
        if self._request.order is not None:
            await self._follow_file(self._request.order)

    async def _follow_file(self, path: Path) -> None:
        warming = await self._warmings.add_order(self._request.ahead_bytes)
        base = MountPaths([os.fsencode(self._request.mountpoint)])
        with path.open("rb") as file:
            batches = read_order(file, base)
            read = partial(next, batches, None)
            while (batch := await trio.to_thread.run_sync(read, limiter=DISK_READS)) is not None:
                await self._warmings.add_paths(warming.number, batch)
        order = (await self._warmings.follow(warming.number)).order
        if order is not None and order.unknown:
            first = order.first_unknown
            log.warning("%d paths of %s are no files here, as %s", order.unknown, path, first)

    def _watch(self, orders: bool) -> None:
        self.fetches.watch_reads(orders or self._recorder is not None)

    async def _load_roots(self) -> ShownRoots:
        if self._root is not None:
            return OneRoot(self._local.directories, self._root.tree)
        if self._request.kind is MountKind.ALL:
            repository = self._local.repository
            if self._names is None:
                open_names = partial(RefNames, repository)
                self._names = await trio.to_thread.run_sync(open_names, limiter=GIT_READS)
            snapshot = await self._names.load()
            return NamedRoots(self._local.directories, snapshot, repository.refs)
        return await trio.to_thread.run_sync(self._load_followed, limiter=GIT_READS)

    def _load_followed(self) -> ShownRoots:
        text, path = split_revision(self._request.revision)
        revision = self._local.repository.resolve(self.fetches.shown_commit or text)
        directories = self._local.directories
        found = load_path(directories, revision.tree, os.fsencode(path))
        return OneRoot(directories, found.entry.tree)

    def _calls(self) -> dict[int, Call]:
        return {
            Kind.READS: self._note_reads,
            Kind.WARM: self._warm,
            Kind.ORDER: self._add_order,
            Kind.ORDER_PATHS: self._add_paths,
            Kind.FOLLOW: self._follow,
            Kind.WARMINGS: self._tell_all,
            Kind.STOP: self._stop,
        }

    async def _note_reads(self, body: bytes) -> Answer:
        reads = parse_reads(body)
        self._warmings.note_reads(reads)
        if self._recorder is not None:
            self._recorder.note(reads)
        return Kind.DONE, b""

    async def _warm(self, body: bytes) -> Answer:
        return _told_of(await self._warmings.warm(parse_paths(body)))

    async def _add_order(self, body: bytes) -> Answer:
        if not body.isdigit() or len(body) > _MOST_DIGITS:
            raise MalformedObject("an order is to be ahead by no number of bytes")
        return _told_of(await self._warmings.add_order(int(body)))

    async def _add_paths(self, body: bytes) -> Answer:
        number, rest = parse_numbered(body)
        return _told_of(await self._warmings.add_paths(number, parse_paths(rest)))

    async def _follow(self, body: bytes) -> Answer:
        number, _ = parse_numbered(body)
        return _told_of(await self._warmings.follow(number))

    async def _tell_all(self, body: bytes) -> Answer:
        return _told(self._warmings.all_facts())

    async def _stop(self, body: bytes) -> Answer:
        return _told(self._warmings.stop())


def require_warmable(request: MountRequest, local: LocalStore, root: Root | None) -> None:
    """Raise PathNotFound unless all that is to be warmed is in the one commit that is shown."""
    if root is not None:
        for path in request.warm:
            load_path(local.directories, root.tree, path)


def _open_warmer(local: LocalStore, reading: Reading, root: Root | None) -> Warmer:
    remote = reading.remote
    assert remote is not None
    tables = PackTables(local.index, remote.catalog)
    planner = WarmPlanner(reading.source, local.cache, tables)
    catalog = remote.catalog

    async def learn() -> None:
        # Also where the commit is known: what makes it known comes before all that it needs.
        if root is None:
            await catalog.fetch_all_indexes()
        else:
            await catalog.fetch_commit_indexes(root.commit)

    return Warmer(planner, reading.contents, remote.fetcher, tables, learn)


def _told(facts: Facts) -> Answer:
    return Kind.TOLD, pack_told(facts)


def _told_of(warming: Warming) -> Answer:
    return _told(warming.facts())
