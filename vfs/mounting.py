"""Mounting: puts a mount together, serves it, takes it down."""

import ctypes
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import trio

from store.concurrency import GIT_READS
from store.errors import StoreError
from store.git import Revision
from store.opening import LocalStore, Reading, open_reading
from store.plain_files import PlainFiles
from vfs.daemon import Ready
from vfs.filesystem import RevisionFilesystem
from vfs.fuse import Mount, Ownership, RevisionOperations
from vfs.mount_records import MountRecord, process_start
from vfs.mount_request import MountRequest
from vfs.mountpoints import remove_default_mountpoint
from vfs.tree import RevisionTree

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0
_M_ARENA_MAX = -8
_MOST_ARENAS = 2
_RECORD_SECONDS = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve_mount(request: MountRequest, ready: Ready) -> None:
    """Mount, call `ready` when the mount answers, and serve until it is taken down or this process
    is told to end. Raises StoreError where the mount cannot be made."""
    _raise_file_limit()
    _share_arenas()
    try:
        with LocalStore(request.settings, to_write=False) as local:
            revision = local.repository.resolve(request.revision)
            trio.run(_serve, request, local, revision, ready)
    finally:
        remove_default_mountpoint(request.settings.paths, request.mountpoint)


async def _serve(
    request: MountRequest, local: LocalStore, revision: Revision, ready: Ready
) -> None:
    async with _signals() as told_to_end, open_reading(local, revision.commit) as reading:
        filesystem = RevisionFilesystem(
            RevisionTree(local.directories, revision.tree),
            reading.contents,
            PlainFiles(local.repository, request.settings.cache_directory),
            request.settings.timeout_seconds,
        )
        operations = RevisionOperations(
            filesystem, Ownership(os.getuid(), os.getgid(), revision.time_seconds)
        )
        mount = Mount(
            operations, request.mountpoint, revision.text, allow_other=request.allow_other
        )
        try:
            await _serve_mounted(
                _Serving(request, local, revision, reading, filesystem, told_to_end), mount, ready
            )
        finally:
            mount.close()
            log.info("unmounted %s", request.mountpoint)


@dataclass(frozen=True, slots=True)
class _Serving:
    """The parts of a mount that is being served."""

    request: MountRequest
    local: LocalStore
    revision: Revision
    reading: Reading
    filesystem: RevisionFilesystem
    told_to_end: trio.Event


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


async def _serve_mounted(serving: _Serving, mount: Mount, ready: Ready) -> None:
    """Serve until the first of: a signal with its grace, an unmount from outside."""
    async with trio.open_nursery() as nursery:

        async def first_to_end(work: Callable[[], Awaitable[None]]) -> None:
            await work()
            nursery.cancel_scope.cancel()

        async def end_on_signal() -> None:
            await serving.told_to_end.wait()
            with trio.move_on_after(_GRACE_SECONDS):
                await serving.filesystem.finish_reads()

        async def keep_record() -> None:
            await _keep_record(serving, ready)

        nursery.start_soon(first_to_end, mount.serve)
        nursery.start_soon(first_to_end, end_on_signal)
        nursery.start_soon(keep_record)
        nursery.start_soon(_learn_commit, serving.reading)


async def _learn_commit(reading: Reading) -> None:
    """Have the index at hand before the first read, which says what is wrong if something is."""
    try:
        await reading.source.learn_commit()
    except StoreError as error:
        log.debug("the remote was not asked ahead of the first read: %s", error)
    except Exception:
        log.exception("asking the remote ahead of the first read failed as it should not")


async def _keep_record(serving: _Serving, ready: Ready) -> None:
    """Say that the mount answers, and how much it has fetched, for as long as it lasts."""
    mountpoint = serving.request.mountpoint
    # In a thread: the answer comes from this very loop.
    await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    records = serving.request.records
    record = _record(serving)
    records.write(record)
    log.info("mounted %s (%s) on %s", record.revision, record.commit, mountpoint)
    ready()
    try:
        while True:
            await trio.sleep(_RECORD_SECONDS)
            # A full disk must not end the mount for the sake of a counter or a hint.
            with suppress(OSError, StoreError):
                fetched = _fetched_bytes(serving.reading)
                if fetched != record.fetched_bytes:
                    record = replace(record, fetched_bytes=fetched, store=_store_of(serving))
                    records.write(record)
                await trio.to_thread.run_sync(serving.local.directories.save, limiter=GIT_READS)
    finally:
        found = records.load(mountpoint)
        if found is not None and found.pid == record.pid:
            # Else it is that of a mount that took the place of this one, detached but in use.
            records.remove(mountpoint)


def _record(serving: _Serving) -> MountRecord:
    started = process_start(os.getpid())
    if started is None:
        raise StoreError("/proc is not mounted, without which a mount cannot be found again")
    return MountRecord(
        mountpoint=str(serving.request.mountpoint),
        revision=serving.revision.text,
        commit=serving.revision.commit,
        git_dir=str(serving.request.settings.paths.git_dir),
        repository=serving.request.settings.repository_id or "",
        store=_store_of(serving),
        cache_directory=str(serving.request.settings.cache_directory),
        pid=os.getpid(),
        pid_started=started,
        log=str(serving.request.log),
        fetched_bytes=_fetched_bytes(serving.reading),
    )


def _store_of(serving: _Serving) -> str:
    return serving.local.load_store_id() or ""


def _fetched_bytes(reading: Reading) -> int:
    return 0 if reading.remote is None else reading.remote.fetcher.fetched_bytes


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
