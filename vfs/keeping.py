"""Keeping: what the process of a mount does beside serving it: its record, kept true, and an eye on
the repository."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from store.concurrency import DISK_READS, GIT_READS
from store.errors import RepositoryGone, StoreError
from store.git_refs import require_repository
from store.kept_clones import kept_clones
from store.local_store import LocalStore
from store.opening import Reading
from vfs.daemon import Ready
from vfs.mount_records import MountRecord, process_start
from vfs.mount_request import MountKind, MountRequest
from vfs.mountpoints import place_of
from vfs.shown import Shown

log = logging.getLogger(__name__)

_RECORD_SECONDS = 1.0
_REFRESH_SECONDS = 30.0
_REFRESHES = trio.CapacityLimiter(1)


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is to keep. `device` is the kernel's number for the mount."""

    request: MountRequest
    local: LocalStore
    shown: Shown
    reading: Reading
    device: str


async def keep_mount(kept: Kept, ready: Ready) -> None:
    """Say that the mount answers, and what became of it, for as long as it lasts."""
    mountpoint = kept.request.mountpoint
    # In a thread: the answer comes from this very loop.
    await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    records = kept.request.records
    record = _record(kept)
    records.write(record)
    log.info("mounted %s (%s) on %s", record.title, record.commit or "by name", mountpoint)
    ready()
    watch = _RepositoryWatch(kept.local)
    try:
        while True:
            await trio.sleep(_RECORD_SECONDS)
            record = _renew(kept, record)
            await watch.look()
            # A full disk must not end the mount for the sake of a hint.
            with suppress(OSError, StoreError):
                await trio.to_thread.run_sync(kept.local.directories.save, limiter=GIT_READS)
    finally:
        records.remove_own(record)


async def refresh_original(kept: Kept) -> None:
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


def _renew(kept: Kept, record: MountRecord) -> MountRecord:
    """Write the record anew where something has changed, and give what stands there now."""
    place = place_of(record.device, Path(record.mountpoint))
    if place is None:
        # Detached, but in use: the record may be that of another mount by now.
        return record
    renewed = replace(
        record,
        mountpoint=str(place),
        commit=kept.shown.commit,
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


def _record(kept: Kept) -> MountRecord:
    started = process_start(os.getpid())
    if started is None:
        raise StoreError("/proc is not mounted, without which a mount cannot be found again")
    request = kept.request
    return MountRecord(
        mountpoint=str(request.mountpoint),
        revision=request.revision,
        commit=kept.shown.commit,
        git_dir=str(request.settings.paths.git_dir),
        repository=request.settings.repository_id or "",
        store=kept.local.load_store_id() or "",
        cache_directory=str(request.settings.cache_directory),
        pid=os.getpid(),
        pid_started=started,
        log=str(request.log),
        fetched_bytes=_fetched_bytes(kept.reading),
        kind=MountKind(request.kind).value,
        common_dir=str(request.settings.paths.common_dir),
        device=kept.device,
        first_mountpoint=str(request.mountpoint),
    )


def _fetched_bytes(reading: Reading) -> int:
    return 0 if reading.remote is None else reading.remote.fetcher.fetched_bytes
