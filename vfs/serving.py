"""Serving: a process that answers the requests to a mount, beside others that do the same.

It looks at git and at what is cached for itself, and asks the keeper (`vfs.keeping`) for what has
to be fetched.
"""

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from store.concurrency import GIT_READS
from store.errors import StoreError, find_store_error
from store.fetch_client import FetchClient
from store.ids import GitId
from store.local_store import LocalStore
from store.memory_cache import share_memory
from store.opening import open_served_reading
from store.plain_files import PlainFiles
from vfs.child_processes import TOLD_TO_END, Line
from vfs.control import connect_to
from vfs.filesystem import RevisionFilesystem
from vfs.first_reads import FirstReads
from vfs.inodes import DirectoryNumbers
from vfs.kernel_messages import Owner
from vfs.mount_request import MountRequest
from vfs.operations import Operations
from vfs.requests import RequestLoop
from vfs.resent_requests import ResentRequests
from vfs.shown import Root, open_shown, will_see_staged

log = logging.getLogger(__name__)

MOUNT_GONE = 0
"""The exit code of a process that serves no more because the mount was taken away."""
GRACE_SECONDS = 5.0
"""How long reads under way may take when the mount is to end."""
_SAVE_SECONDS = 1.0
# How long the keeper may take to hear of the last reads.
_TELL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ServedMount:
    """What a process needs that serves a mount: `root` and `numbers` are None where what is shown
    moves; `descriptor` is its own opening of the device; `resent` is shared with all that serve."""

    request: MountRequest
    root: Root | None
    numbers: DirectoryNumbers | None
    control: Path
    descriptor: int
    resent: ResentRequests


def serve_requests(mount: ServedMount, line: Line) -> int:
    """Answer requests until the mount is gone or SIGTERM comes; the exit code says which."""
    request = mount.request
    share_memory(request.workers if mount.root is not None else 1)
    try:
        with LocalStore(request.settings, to_write=will_see_staged(request)) as local:
            return trio.run(_serve, mount, local)
    except Exception as error:
        reason = find_store_error(error)
        if reason is not None:
            line.tell({"failed": str(reason)})
        raise


async def _serve(mount: ServedMount, local: LocalStore) -> int:
    settings = mount.request.settings
    shown = open_shown(mount.request, local, mount.root, mount.numbers)
    reads = FirstReads(shown.tree)
    client = FetchClient(partial(connect_to, mount.control), local.cache, reads.watch)
    async with open_served_reading(local, shown.reading_commit, client) as reading:
        filesystem = RevisionFilesystem(
            shown.tree,
            reading.contents,
            PlainFiles(local.repository, settings.cache_directory),
            settings.timeout_seconds,
            reads,
        )
        operations = Operations(filesystem, Owner(os.getuid(), os.getgid()))
        loop = RequestLoop(mount.descriptor, operations.by_opcode, mount.resent)

        async def moved(commit: GitId) -> None:
            client.tell_shown(commit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.keep_up, moved)
            nursery.start_soon(_save_directories, local)
            nursery.start_soon(reads.run, client.tell_reads)
            code = await _first_of(
                (MOUNT_GONE, loop.serve), (TOLD_TO_END, partial(_end_when_told, filesystem))
            )
            with trio.move_on_after(_TELL_SECONDS):
                await reads.tell_waiting(client.tell_reads)
            nursery.cancel_scope.cancel()
    return code


async def _first_of(*works: tuple[int, Callable[[], Awaitable[None]]]) -> int:
    """The number of the work that ends first; the others are cancelled."""
    codes: list[int] = []
    async with trio.open_nursery() as nursery:

        async def run(code: int, work: Callable[[], Awaitable[None]]) -> None:
            await work()
            codes.append(code)
            nursery.cancel_scope.cancel()

        for code, work in works:
            nursery.start_soon(run, code, work)
    return codes[0]


async def _end_when_told(filesystem: RevisionFilesystem) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            break
        with trio.move_on_after(GRACE_SECONDS):
            await filesystem.finish_reads()


async def _save_directories(local: LocalStore) -> None:
    """Keep what was read of git for the next time."""
    while True:
        await trio.sleep(_SAVE_SECONDS)
        try:
            await trio.to_thread.run_sync(local.directories.save, limiter=GIT_READS)
        except (OSError, StoreError) as error:
            # A full disk must not end the mount for the sake of a hint.
            log.debug("directories are not kept for the next time: %s", error)
