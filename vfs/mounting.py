"""Mounting: puts a mount together, serves it, takes it down."""

import ctypes
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from store.errors import CacheUnusable, StoreError
from store.ids import GitId
from store.local_folders import make_private_folder
from store.local_store import LocalStore
from store.opening import Reading, open_reading
from store.plain_files import PlainFiles
from vfs.daemon import Ready
from vfs.filesystem import RevisionFilesystem
from vfs.fuse import Mount, Ownership, RevisionOperations
from vfs.keeping import Kept, keep_mount, refresh_original
from vfs.mount_request import MountKind, MountRequest
from vfs.mountpoints import detach, device_at, place_of, remove_default_mountpoint
from vfs.shown import Shown, open_shown

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0
_M_ARENA_MAX = -8
_MOST_ARENAS = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve_mount(request: MountRequest, ready: Ready) -> None:
    """Mount, call `ready` when the mount answers, and serve until it is taken down or this process
    is told to end. Raises StoreError where the mount cannot be made."""
    _raise_file_limit()
    _share_arenas()
    try:
        with LocalStore(request.settings, to_write=_will_see_staged(request)) as local:
            trio.run(_serve, request, local, open_shown(request, local), ready)
    finally:
        remove_default_mountpoint(request.settings.paths, request.mountpoint)


def _will_see_staged(request: MountRequest) -> bool:
    """Whether commits may come whose data is only staged here; then there are folders for it."""
    if request.kind is MountKind.REVISION:
        return False
    try:
        make_private_folder(request.settings.paths.state_dir)
    except CacheUnusable as error:
        log.debug("nothing can be staged, so nothing will be: %s", error)
        return False
    return True


async def _serve(request: MountRequest, local: LocalStore, shown: Shown, ready: Ready) -> None:
    async with _signals() as told_to_end, open_reading(local, shown.reading_commit) as reading:
        filesystem = RevisionFilesystem(
            shown.tree,
            reading.contents,
            PlainFiles(local.repository, request.settings.cache_directory),
            request.settings.timeout_seconds,
        )
        operations = RevisionOperations(filesystem, Ownership(os.getuid(), os.getgid()))
        mount = Mount(
            operations, request.mountpoint, request.label, allow_other=request.allow_other
        )
        device = device_at(request.mountpoint) or ""
        try:
            kept = Kept(request, local, shown, reading, device)
            await _serve_mounted(kept, mount, filesystem, told_to_end, ready)
        finally:
            _take_down(mount, request.mountpoint, device)


def _take_down(mount: Mount, mountpoint: Path, device: str) -> None:
    """Unmount wherever the mount is by now: somebody may have moved the folder that it is in, and
    another mount may be at its old place."""
    # Without a number it was not found in the kernel's table, and is taken to be where it was.
    place = place_of(device, mountpoint) if device else mountpoint
    if place is not None and place != mountpoint:
        try:
            detach(place)
        except StoreError as error:
            log.warning("%s", error)
    mount.close(unmount=place == mountpoint)
    if place is None:
        log.info("%s was unmounted from outside", mountpoint)
    else:
        log.info("unmounted %s", place)


@asynccontextmanager
async def _signals() -> AsyncIterator[trio.Event]:
    """An event that the first signal to end sets. Later ones change nothing, so that an impatient
    second one does not cut the unmounting short."""
    told = trio.Event()

    async def listen(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                log.info("ending on signal %d", number)
                told.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        yield told
        nursery.cancel_scope.cancel()


async def _serve_mounted(
    kept: Kept,
    mount: Mount,
    filesystem: RevisionFilesystem,
    told_to_end: trio.Event,
    ready: Ready,
) -> None:
    """Serve until the first of: a signal with its grace, an unmount from outside."""
    async with trio.open_nursery() as nursery:

        async def first_to_end(work: Callable[[], Awaitable[None]]) -> None:
            await work()
            nursery.cancel_scope.cancel()

        async def end_on_signal() -> None:
            await told_to_end.wait()
            with trio.move_on_after(_GRACE_SECONDS):
                await filesystem.finish_reads()

        async def moved(commit: GitId) -> None:
            nursery.start_soon(_learn, partial(_fetch_indexes, kept.reading, commit))

        nursery.start_soon(first_to_end, mount.serve)
        nursery.start_soon(first_to_end, end_on_signal)
        nursery.start_soon(keep_mount, kept, ready)
        nursery.start_soon(_learn, kept.reading.source.learn_commit)
        nursery.start_soon(kept.shown.keep_up, moved)
        nursery.start_soon(refresh_original, kept)


async def _learn(work: Callable[[], Awaitable[None]]) -> None:
    """Have the index at hand before the first read, which says what is wrong if something is."""
    try:
        await work()
    except StoreError as error:
        log.debug("the remote was not asked ahead of the first read: %s", error)
    except Exception:
        log.exception("asking the remote ahead of the first read failed as it should not")


async def _fetch_indexes(reading: Reading, commit: GitId) -> None:
    if reading.remote is not None and not reading.remote.catalog.knows_commit(commit):
        await reading.remote.catalog.fetch_commit_indexes(commit)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _share_arenas() -> None:
    """Have glibc's allocator keep few arenas: with one for each thread, buffers of some megabytes
    that were freed stay with the process, a hundred megabytes of them in all."""
    with suppress(AttributeError, OSError):
        # mallopt(3); a C library without it needs none.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _MOST_ARENAS)
