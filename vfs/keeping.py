"""Keeping: the process of a mount beside those that serve it. It alone fetches, keeps the record of
the mount true, and has an eye on the repository.
"""

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from socket import socket

import trio

from store.concurrency import DISK_READS, TABLE_WRITES
from store.deferred_remote import import_ahead
from store.errors import RepositoryGone, StoreError, find_store_error
from store.fetch_service import FetchService
from store.git_refs import require_repository
from store.holding import Holder
from store.kept_clones import kept_clones
from store.local_store import LocalStore
from store.opening import Reading, open_reading
from store.remote import get_refusals
from vfs.asked import Asked
from vfs.child_processes import TOLD_TO_END, Line
from vfs.mount_records import MountRecord, process_start
from vfs.mount_request import MountKind, MountRequest
from vfs.mountpoints import place_of
from vfs.shown import Root, load_root, will_see_staged
from vfs.warm_service import WarmService, require_warmable

log = logging.getLogger(__name__)

_RECORD_SECONDS = 1.0
_WATCH_SECONDS = 0.5
_REFRESH_SECONDS = 30.0
_REFRESHES = trio.CapacityLimiter(1)


@dataclass(frozen=True, slots=True)
class KeptMount:
    """What there is to keep: `listening` is the socket of the mount, at the path `control`; `asked`
    is what its keepers were asked."""

    request: MountRequest
    listening: socket
    control: Path
    asked: Asked = field(default_factory=Asked)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What there is to keep, opened. `device` is the kernel's number for the mount."""

    mount: KeptMount
    local: LocalStore
    reading: Reading
    service: FetchService
    root: Root | None
    device: str

    @property
    def request(self) -> MountRequest:
        return self.mount.request

    @property
    def commit(self) -> str:
        """The commit that is shown now; empty where there are more than one."""
        return self.service.shown_commit or ("" if self.root is None else self.root.commit)


def keep(mount: KeptMount, line: Line) -> int:
    """Say what is to be shown (`root`) or why it cannot be (`failed`); then wait to hear of the
    `device`, and keep the mount with that number until SIGTERM comes, saying `ready` when it
    answers. The exit code."""
    request = mount.request
    try:
        with LocalStore(request.settings, to_write=will_see_staged(request)) as local:
            root = load_root(request, local)
            require_warmable(request, local, root)
            known = None if root is None else [root.commit, root.tree.hex(), root.time_seconds]
            line.tell({"root": known})
            _import_ahead(local, root)
            try:
                device = line.wait()["device"]
            except EOFError:
                return TOLD_TO_END
            trio.run(_keep, mount, local, root, device, line)
    except Exception as error:
        reason = find_store_error(error)
        if reason is None:
            raise
        log.debug("the mount cannot be kept", exc_info=True)
        line.tell({"failed": str(reason)})
        return 1
    return TOLD_TO_END


def _import_ahead(local: LocalStore, root: Root | None) -> None:
    """What is asked of a bucket right after the mount is there need not wait for an import."""
    remote = local.settings.remote
    if remote is not None and root is not None and not local.knows_commit(root.commit):
        import_ahead(remote)


async def _keep(
    mount: KeptMount, local: LocalStore, root: Root | None, device: str, line: Line
) -> None:
    commit = None if root is None else root.commit
    async with open_reading(local, commit) as reading:
        warm = WarmService(mount.request, local, reading, root, mount.asked)
        kept = _Kept(mount, local, reading, warm.fetches, root, device)
        answers = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(warm.run, answers)
            nursery.start_soon(warm.fetches.serve, mount.listening)
            nursery.start_soon(_keep_record, kept, line, answers)
            nursery.start_soon(_learn, reading.source.learn_commit)
            nursery.start_soon(_refresh_original, kept)
            nursery.start_soon(_hold, kept)
            nursery.start_soon(_watch_refusals, reading)
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            nursery.cancel_scope.cancel()
        await warm.finish()


async def _learn(work: Callable[[], Awaitable[None]]) -> None:
    """Have the index at hand before the first read, which says what is wrong if something is."""
    try:
        await work()
    except StoreError as error:
        log.debug("the remote was not asked ahead of the first read: %s", error)
    except Exception:
        log.exception("asking the remote ahead of the first read failed as it should not")


async def _hold(kept: _Kept) -> None:
    """Tell the remote which commit is read here, so that it is not forgotten meanwhile."""
    remote, repository = kept.reading.remote, kept.request.settings.repository_id
    if remote is None or repository is None:
        return

    def get_commit() -> str:
        return kept.commit

    seconds = kept.request.settings.timeout_seconds
    try:
        await Holder(remote.catalog.remote, repository, get_commit, seconds).run()
    except Exception:
        # The mount must not end because nobody is told of it.
        log.exception("holding what is read failed as it should not")


async def _keep_record(kept: _Kept, line: Line, answers: trio.Event) -> None:
    """Say that the mount answers, and what became of it, for as long as it lasts."""
    mountpoint = kept.request.mountpoint
    # In a thread: its answer may need this very loop.
    await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    record = _record(kept)
    kept.request.records.write(record)
    line.tell({"ready": True})
    answers.set()
    watch = _RepositoryWatch(kept.local)
    while True:
        await trio.sleep(_RECORD_SECONDS)
        if _fetched_bytes(kept.reading) != record.fetched_bytes:
            # First the tables, which say how much of it is cached.
            await trio.to_thread.run_sync(kept.local.cache.flush, limiter=TABLE_WRITES)
        record = _renew(kept, record)
        await watch.look()


async def _refresh_original(kept: _Kept) -> None:
    """Where names can move, and the repository is a kept clone of one elsewhere, ask that one now
    and then for what is new."""
    if kept.request.kind is MountKind.REVISION:
        return
    # Checked by the thread, so that no git is left behind that waits for a silent server.
    clones = kept_clones(os.environ, trio.from_thread.check_cancelled)
    refresh = partial(clones.refresh, kept.request.settings.paths)
    while True:
        await trio.sleep(_REFRESH_SECONDS)
        try:
            await trio.to_thread.run_sync(refresh, limiter=_REFRESHES)
        except (OSError, StoreError) as error:
            log.debug("the original was not asked for what is new: %s", error)
        except Exception:
            # The mount must not end because it is not up to date.
            log.exception("asking the original for what is new failed as it should not")


def _renew(kept: _Kept, record: MountRecord) -> MountRecord:
    """Write the record anew where something has changed, and give what stands there now."""
    place = place_of(record.device, Path(record.mountpoint))
    if place is None:
        # Detached, but in use: the record may be that of another mount by now.
        return record
    renewed = replace(
        record,
        mountpoint=str(place),
        commit=kept.commit,
        fetched_bytes=_fetched_bytes(kept.reading),
    )
    if renewed == record:
        return record
    # A full disk must not end the mount for the sake of a counter.
    with suppress(OSError, StoreError):
        renewed = replace(renewed, store=kept.local.load_store_id() or "")
        kept.request.records.write(renewed)
        if renewed.mountpoint != record.mountpoint:
            log.info("the mountpoint %s is now %s", record.mountpoint, renewed.mountpoint)
            kept.request.records.remove_own(record)
        return renewed
    return record


class _RepositoryWatch:
    """Says once that the repository is gone, and once that it is back."""

    def __init__(self, local: LocalStore) -> None:
        self._paths = local.repository.paths
        self._is_gone = False

    async def look(self) -> None:
        """See whether the repository is still there."""
        try:
            await trio.to_thread.run_sync(
                require_repository, self._paths, abandon_on_cancel=True, limiter=DISK_READS
            )
        except RepositoryGone as error:
            if not self._is_gone:
                log.error("%s; until then only what is cached can be read", error)
            self._is_gone = True
        else:
            if self._is_gone:
                log.info("the repository is at %s again", self._paths.common_dir)
            self._is_gone = False


async def _watch_refusals(reading: Reading) -> None:
    """Say once what the remote refuses, and once that it does no more: reads that fail for it are
    not logged one by one."""
    if reading.remote is None:
        return
    remote = reading.remote.catalog.remote
    said: dict[str, str] = {}
    while True:
        refused = get_refusals(remote).said
        for name in refused.keys() - said.keys():
            log.error("%s; until then what it would give cannot be read", refused[name])
        for name in said.keys() - refused.keys():
            log.info("no longer so: %s", said[name])
        said = dict(refused)
        await trio.sleep(_WATCH_SECONDS)


def _record(kept: _Kept) -> MountRecord:
    # The process that takes signals, and unmounts.
    parent = os.getppid()
    started = process_start(parent)
    if started is None:
        raise StoreError("/proc is not mounted, without which a mount cannot be found again")
    request = kept.request
    return MountRecord(
        mountpoint=str(request.mountpoint),
        revision=request.revision,
        commit=kept.commit,
        git_dir=str(request.settings.paths.git_dir),
        repository=request.settings.repository_id or "",
        store=kept.local.load_store_id() or "",
        cache_directory=str(request.settings.cache_directory),
        pid=parent,
        pid_started=started,
        log=str(request.log),
        fetched_bytes=_fetched_bytes(kept.reading),
        kind=MountKind(request.kind).value,
        common_dir=str(request.settings.paths.common_dir),
        device=kept.device,
        first_mountpoint=str(request.mountpoint),
        control=str(kept.mount.control),
    )


def _fetched_bytes(reading: Reading) -> int:
    return 0 if reading.remote is None else reading.remote.fetcher.fetched_bytes
