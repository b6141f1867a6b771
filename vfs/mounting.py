"""Mounting: puts a mount together of its processes, looks after them, takes it down.

The process that is told to mount makes the mount and then only supervises: it has no threads and
opens no library, so that it can fork at any time. Its children are one keeper (`vfs.keeping`) and
those that serve (`vfs.serving`); one that is killed is replaced, and what it had not answered is
handed to the others.
"""

import ctypes
import gc
import logging
import os
import resource
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from store.errors import StoreError
from store.ids import GitId
from vfs.child_processes import Child, Line, Words, awaited_signals, start_child
from vfs.control import control_path, listen_on
from vfs.daemon import Ready
from vfs.fuse import KernelMount, raise_read_ahead
from vfs.inodes import DirectoryNumbers
from vfs.keeping import KeptMount, keep
from vfs.mount_records import mount_id
from vfs.mount_request import MountRequest
from vfs.mountpoints import detach, device_at, place_of, remove_default_mountpoint
from vfs.resent_requests import ResentRequests
from vfs.serving import GRACE_SECONDS, MOUNT_GONE, ServedMount, serve_requests
from vfs.shown import Root

log = logging.getLogger(__name__)

# Of mallopt(3).
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
_MOST_ARENAS = 2
_LEAST_MAPPED_BYTES = 16 << 20
_MOST_KEPT_BYTES = 48 << 20
_TICK_SECONDS = 1.0
# Beyond the grace that they give to reads, children get this long to end.
_END_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


def serve_mount(request: MountRequest, ready: Ready) -> None:
    """Mount, call `ready` when the mount answers, and serve until it is taken down or this process
    is told to end. Raises StoreError where the mount cannot be made."""
    _raise_file_limit()
    _set_up_malloc()
    # What is there now is shared with the children for as long as nobody writes to it.
    gc.freeze()
    control = control_path(request.records.folder, mount_id(request.mountpoint))
    try:
        with listen_on(control) as listening, awaited_signals() as (wakeup, told):
            kept = KeptMount(request, listening, control)
            _Supervisor(kept, wakeup, told, ready).run()
    finally:
        control.unlink(missing_ok=True)
        request.records.remove_of_process(os.getpid())
        remove_default_mountpoint(request.settings.paths, request.mountpoint)


class _Supervisor:
    """One mount and its processes.

    Invariant: `_devices` has the opening of the device of exactly the children that serve.
    """

    def __init__(self, kept: KeptMount, wakeup: int, told: list[int], ready: Ready) -> None:
        self._kept = kept
        self._request = kept.request
        self._wakeup = wakeup
        self._told = told
        self._ready: Ready | None = ready
        self._keeper: Child | None = None
        self._servers: list[Child] = []
        self._devices: dict[int, int] = {}
        self._mount: KernelMount | None = None
        # Twice a read's time: one that was taken just before its process ended had most of it.
        self._resent = ResentRequests(2 * kept.request.settings.timeout_seconds)
        self._device = ""
        self._root: Root | None = None
        self._numbers: DirectoryNumbers | None = None
        self._failed = ""
        # Then the mount is left broken, for all to see: never an empty folder in its place.
        self._crashed = False
        # The kernel may give the number of a mount that is gone to the next one.
        self._gone = False
        # When a child that ended may be replaced, and how long the next pause is.
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def run(self) -> None:
        """From the first child to the last. Raises StoreError where the mount cannot be made."""
        try:
            self._start_keeper()
            while not (self._gone or self._told or self._failed):
                self._wait()
                self._gone = self._look_after_children()
            if self._told:
                log.info("ending on signal %d", self._told[0])
        finally:
            self._end()
        if self._failed:
            raise StoreError(self._failed)

    def _wait(self) -> None:
        children = [child for child in (self._keeper, *self._servers) if child is not None]
        pause = min([_TICK_SECONDS, *(when - time.monotonic() for when, _ in self._due)])
        poll = select.poll()
        for waited in (self._wakeup, *(child.line.fileno() for child in children)):
            poll.register(waited, select.POLLIN)
        poll.poll(1000 * max(0.0, pause))
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        for child in children:
            for words in child.line.hear():
                self._hear(words)

    def _hear(self, words: Words) -> None:
        if "failed" in words:
            self._failed = self._failed or str(words["failed"])
        elif "root" in words and self._mount is None:
            self._make_mount(words["root"])
        elif "ready" in words and self._ready is not None:
            ready, self._ready = self._ready, None
            commit = "by name" if self._root is None else self._root.commit
            log.info("mounted %s (%s) on %s", self._request.label, commit, self._request.mountpoint)
            ready()

    def _make_mount(self, root: tuple[str, str, int] | None) -> None:
        request = self._request
        if root is not None:
            self._root = Root(GitId(root[0]), bytes.fromhex(root[1]), root[2])
            self._numbers = DirectoryNumbers(self._root.tree)
        try:
            self._mount = KernelMount(
                request.mountpoint, request.label, allow_other=request.allow_other
            )
        except StoreError as error:
            self._failed = str(error)
            return
        self._device = device_at(request.mountpoint) or ""
        raise_read_ahead(self._device)
        self._tell_device()
        # What moves is known to one process alone.
        for _ in range(request.workers if root is not None else 1):
            self._start_server()

    def _tell_device(self) -> None:
        if self._keeper is not None and self._mount is not None:
            self._keeper.line.tell({"device": self._device})

    def _start_keeper(self) -> None:
        self._keeper = start_child("keeping", lambda line: self._be_alone(line, keep, self._kept))
        self._tell_device()

    def _start_server(self) -> None:
        assert self._mount is not None
        opened = self._mount.open_device()
        request = self._request
        served = ServedMount(
            request, self._root, self._numbers, self._kept.control, opened, self._resent
        )
        child = start_child("serving", lambda line: self._be_alone(line, serve_requests, served))
        self._servers.append(child)
        self._devices[child.pid] = opened

    def _be_alone(self, line: Line, work: Callable[..., int], what: KeptMount | ServedMount) -> int:
        """In a child: do its work, without what belongs to its parent and sisters."""
        for opened in self._devices.values():
            os.close(opened)
        for child in (self._keeper, *self._servers):
            if child is not None:
                child.line.close()
        if self._mount is not None:
            self._mount.release()
        return work(what, line)

    def _look_after_children(self) -> bool:
        """Replace children that have ended; True when the mount is gone."""
        now = time.monotonic()
        due = [start for when, start in self._due if when <= now]
        self._due = [(when, start) for when, start in self._due if when > now]
        for start in due:
            start()
        if self._keeper is not None and (code := self._keeper.reap()) is not None:
            child, self._keeper = self._keeper, None
            self._replace(child, code, self._start_keeper)
        for child in list(self._servers):
            if (code := child.reap()) is not None:
                if code == MOUNT_GONE:
                    return True
                self._replace_server(child, code)
        return False

    def _replace_server(self, child: Child, code: int) -> None:
        self._servers.remove(child)
        assert self._mount is not None
        # First: what the device has not given to anybody when it is closed would fail.
        self._mount.resend()
        os.close(self._devices.pop(child.pid))
        if self._root is None:
            # The names that it knew are gone with it: to go on would be to show others.
            self._failed = f"the process that serves the mount ended ({_how(code)})"
            self._crashed = self._ready is None
        else:
            self._replace(child, code, self._start_server)

    def _replace(self, child: Child, code: int, start: Callable[[], None]) -> None:
        for words in child.line.hear():
            self._hear(words)
        child.line.close()
        if self._ready is not None:
            self._failed = self._failed or (
                f"a process of the mount ended before it was ready ({_how(code)})"
            )
            return
        log.warning("the %s process ended (%s); another takes its place", child.name, _how(code))
        if time.monotonic() - child.started > _LONGEST_PAUSE_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            start()
        else:
            self._due.append((time.monotonic() + self._pause_seconds, start))
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _end(self) -> None:
        """Have reads under way finished, unmount, and leave no child behind."""
        for child in self._servers:
            child.tell_to_end()
        deadline = time.monotonic() + GRACE_SECONDS + _END_SECONDS
        _end_all(self._servers, deadline)
        gone = self._gone or any(child.reap() == MOUNT_GONE for child in self._servers)
        if self._keeper is not None:
            # First: it must not take the next mount of that number for this one.
            self._keeper.tell_to_end()
        if self._mount is not None and self._crashed:
            self._mount.close(unmount=False)
        elif self._mount is not None:
            place = None if gone else self._place()
            _take_down(self._mount, self._request.mountpoint, place)
        if self._keeper is not None:
            _end_all([self._keeper], time.monotonic() + _END_SECONDS)
        for opened in self._devices.values():
            os.close(opened)

    def _place(self) -> Path | None:
        """Where the mount is by now. Without a number it was not found in the kernel's table, and
        is taken to be where it was."""
        mountpoint = self._request.mountpoint
        return place_of(self._device, mountpoint) if self._device else mountpoint


def _end_all(children: list[Child], deadline: float) -> None:
    for child in children:
        if not child.wait_until_ended(deadline):
            child.kill()
            child.wait_until_ended(time.monotonic() + _END_SECONDS)
        child.line.close()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _take_down(mount: KernelMount, mountpoint: Path, place: Path | None) -> None:
    """Unmount at `place`, where the mount is by now: somebody may have moved the folder that it is
    in, and another mount may be at its old place."""
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


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _set_up_malloc() -> None:
    """Have glibc's allocator keep few arenas: with one for each thread, buffers of some megabytes
    that were freed stay with the process, a hundred megabytes of them in all. And have it keep such
    buffers from one range to the next, which would else be cleared by the kernel each time;
    `store.resident_memory` gives them back when they are not needed."""
    with suppress(AttributeError, OSError):
        # A C library without it needs none.
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _MOST_ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LEAST_MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
