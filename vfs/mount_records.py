"""Mount records: one small file per mount in the user's folder, so that others can find it.

The process that serves a mount writes its record and brings it up to date; a record whose process
is gone says that the mount crashed.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from fcntl import LOCK_UN, flock
from functools import partial
from pathlib import Path

from store.errors import Busy, StoreError
from store.ids import hash_bytes
from store.local_folders import make_private_folder, mounted_file_systems, try_lock
from vfs.mountpoints import (
    detach,
    is_dead,
    is_mounted,
    mounted_revisions,
    place_of,
    real_place,
)

# A process that is told to end takes at most six, but for a machine that is busy.
_END_SECONDS = 15.0
_POLL_SECONDS = 0.02
# What a killed process leaves to the kernel, its children among it, is gone by then.
_DYING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A mount as its process describes it.

    `pid_started` is the start of the process in clock ticks since boot, which tells it from a later
    one of the same number. `kind` is a value of MountKind; `commit` is empty where the mount shows
    more than one. `device` is the kernel's number for the mount, by which it is found where the
    folder that it is in was moved; `first_mountpoint` is where it was mounted; `control` is its
    socket.
    """

    mountpoint: str
    revision: str
    commit: str
    git_dir: str
    repository: str
    store: str
    cache_directory: str
    pid: int
    pid_started: int
    log: str
    fetched_bytes: int = 0
    kind: str = "revision"
    common_dir: str = ""
    device: str = ""
    first_mountpoint: str = ""
    control: str = ""

    @property
    def title(self) -> str:
        """What was asked for, as on the command line."""
        if self.kind == "revision":
            return self.revision
        return f"--{self.kind} {self.revision}".rstrip()

    def is_alive(self) -> bool:
        """Whether the process that serves the mount is still there."""
        return process_start(self.pid) == self.pid_started

    def place(self) -> Path | None:
        """Where the mount is in the tree now; None where it is not."""
        if self.device:
            return place_of(self.device, Path(self.mountpoint))
        return Path(self.mountpoint) if is_mounted(Path(self.mountpoint)) else None

    def state(self) -> str:
        """What a person should know: `alive`, `dead` without its process, `detached` where it is
        out of the tree but in use, `repository gone`."""
        if not self.is_alive():
            return "dead"
        if self.device and self.place() is None:
            return "detached"
        if self.common_dir and not os.path.isdir(Path(self.common_dir, "objects")):
            return "repository gone"
        return "alive"


def mount_id(mountpoint: Path) -> str:
    """A short name for a mountpoint, for file names."""
    return hash_bytes(os.fsencode(mountpoint))[:8].hex()


class MountRecords:
    """The records of one user's mounts, in a folder of the user's own."""

    def __init__(self, user_folder: Path) -> None:
        make_private_folder(user_folder)
        self._folder = make_private_folder(user_folder / "mounts")

    def write(self, record: MountRecord) -> None:
        """Write or renew a record, whole."""
        path = self._path(Path(record.mountpoint))
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(record)))
        temporary.replace(path)

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    def remove(self, mountpoint: Path) -> None:
        """Forget a mount."""
        record = self.load(mountpoint)
        if record is not None and record.control:
            Path(record.control).unlink(missing_ok=True)
        self._path(mountpoint).unlink(missing_ok=True)

    def load(self, mountpoint: Path) -> MountRecord | None:
        """The record of a mountpoint, if there is one."""
        return _parse(self._path(mountpoint))

    def load_all(self) -> list[MountRecord]:
        """Every mount that is alive or still in the tree, by mountpoint, which is where it is now;
        others are forgotten."""
        found = []
        for record, place in self._placed():
            if record.is_alive() or place is not None:
                found.append(record if place is None else replace(record, mountpoint=str(place)))
            else:
                self.remove(Path(record.mountpoint))
        return sorted(found, key=lambda record: record.mountpoint)

    def find(self, place: Path) -> MountRecord | None:
        """The record of the mount that is at a place, or else of the one that was; as it is stored.
        Raises StoreError where that could be several."""
        placed = self._placed()
        for record, now in placed:
            if now == place:
                return record
        left = [
            (record, now)
            for record, now in placed
            if str(place) in (record.mountpoint, record.first_mountpoint)
        ]
        if len(left) > 1:
            names = ", ".join(str(now or record.mountpoint) for record, now in left)
            raise StoreError(f"several mounts were on {place} before they moved; name one: {names}")
        return left[0][0] if left else None

    def place_left_behind(self, record: MountRecord) -> Path | None:
        """Where the mount of a process that has ended still is, as it is where it was killed.

        Not one that lives: the kernel gives the number of a mount that is gone to the next one,
        which somebody may have made, or be ending, at this very moment.
        """
        deadline = time.monotonic() + _DYING_SECONDS
        while (place := record.place()) is not None:
            if self._is_claimed(record.device):
                return None
            if is_dead(place):
                return place if is_mounted(place) else None
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_SECONDS)
        return None

    def _is_claimed(self, device: str) -> bool:
        records = [_parse(path) for path in self._folder.glob("*.json")]
        known = [record for record in records if record is not None and record.device]
        return any(record.device == device and record.is_alive() for record in known)

    def remove_own(self, record: MountRecord) -> None:
        """Forget a mount of this process, unless another has taken its place (it was detached, but
        in use)."""
        found = self.load(Path(record.mountpoint))
        if found is not None and (found.pid, found.pid_started) == (record.pid, record.pid_started):
            self.remove(Path(record.mountpoint))

    def remove_of_process(self, pid: int) -> None:
        """Forget the mounts of a process, which must be this one or one that has ended."""
        for path in self._folder.glob("*.json"):
            record = _parse(path)
            if record is not None and record.pid == pid:
                self.remove(Path(record.mountpoint))

    @contextmanager
    def claimed(self, mountpoint: Path) -> Iterator[Callable[[], None]]:
        """Be the only one to mount there, until the context ends or the function that it gives is
        called. Raises Busy. A process that is forked meanwhile holds no claim of its own."""
        with self._path(mountpoint).with_suffix(".lock").open("w") as lock:
            if not try_lock(lock):
                raise Busy(f"another revfs is mounting on {mountpoint} just now")
            try:
                yield partial(flock, lock, LOCK_UN)
            finally:
                flock(lock, LOCK_UN)

    def _placed(self) -> list[tuple[MountRecord, Path | None]]:
        """Every record with the place of its mount."""
        records = [_parse(path) for path in sorted(self._folder.glob("*.json"))]
        known = [record for record in records if record is not None]
        return [
            (record, record.place() if record.is_alive() else self.place_left_behind(record))
            for record in known
        ]

    def _path(self, mountpoint: Path) -> Path:
        return self._folder / f"{mount_id(mountpoint)}.json"


def unmount(records: MountRecords, mountpoint: Path) -> Path:
    """End the process behind a mount and wait until both are gone, at most 15 s. The mountpoint may
    be named as it is now or as it was when it was mounted; returned is where it was last.

    Raises StoreError where nothing is mounted, or it does not end.
    """
    place = real_place(mountpoint)
    record = records.find(place)
    if record is not None and record.is_alive():
        here = record.place() or place
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        _wait_for_end(record)
        left = records.place_left_behind(record)
    else:
        left = None if record is None else records.place_left_behind(record)
        left = here = left or place
        if not is_mounted(here):
            raise StoreError(_why_nothing(place))
    if left is not None:
        detach(left)
    if record is not None:
        records.remove_own(record)
    return here


def _why_nothing(place: Path) -> str:
    above = [found.place for found in mounted_revisions() if place.is_relative_to(found.place)]
    if above:
        return f"{place} is a folder of the mount on {above[-1]}; revfs unmount {above[-1]} ends it"
    if any(str(place) == other for other, _ in mounted_file_systems()):
        return f"no revision is mounted on {place}, but another file system; umount takes it down"
    return f"no revision is mounted on {place}; revfs mounts lists those that are"


def _wait_for_end(record: MountRecord) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while record.is_alive():
        if time.monotonic() > deadline:
            raise StoreError(
                f"the process {record.pid} behind {record.mountpoint} does not end; "
                f"its log is {record.log}"
            )
        time.sleep(_POLL_SECONDS)


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat); None if it
    is not there or has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in brackets, which may hold anything.
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])


def _parse(path: Path) -> MountRecord | None:
    try:
        values = json.loads(path.read_text())
        # What an older version did not write has its default.
        names = [
            field.name
            for field in fields(MountRecord)
            if field.name in values or field.default is MISSING
        ]
        return MountRecord(**{name: values[name] for name in names})
    except (OSError, ValueError, KeyError, TypeError):
        return None
