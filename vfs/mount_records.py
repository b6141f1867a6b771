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
from dataclasses import asdict, dataclass, fields
from fcntl import LOCK_UN, flock
from functools import partial
from pathlib import Path

from store.errors import Busy, StoreError
from store.ids import hash_bytes
from store.local_folders import make_private_folder, try_lock
from vfs.mountpoints import detach, is_mounted, real_place

_END_SECONDS = 6.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A mount as its process describes it. `pid_started` is the start of the process in clock ticks
    since boot, which tells it from a later one of the same number."""

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

    def is_alive(self) -> bool:
        """Whether the process that serves the mount is still there."""
        return process_start(self.pid) == self.pid_started


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

    def remove(self, mountpoint: Path) -> None:
        """Forget a mount."""
        self._path(mountpoint).unlink(missing_ok=True)

    def load(self, mountpoint: Path) -> MountRecord | None:
        """The record of a mountpoint, if there is one."""
        return _parse(self._path(mountpoint))

    def load_all(self) -> list[MountRecord]:
        """Every mount that is alive or still in the tree, by mountpoint; others are forgotten."""
        found = []
        for record in self._records():
            if record.is_alive() or is_mounted(Path(record.mountpoint)):
                found.append(record)
            else:
                self.remove(Path(record.mountpoint))
        return sorted(found, key=lambda record: record.mountpoint)

    @contextmanager
    def claimed(self, mountpoint: Path) -> Iterator[Callable[[], None]]:
        """Be the only one to mount there, until the context ends or the function that it gives is
        called. Raises Busy. A process that is forked meanwhile holds no claim of its own."""
        with self._path(mountpoint).with_suffix(".lock").open("w") as lock:
            if not try_lock(lock):
                raise Busy(f"another revfs is mounting on {mountpoint} just now")
            yield partial(flock, lock, LOCK_UN)
            flock(lock, LOCK_UN)

    def _records(self) -> Iterator[MountRecord]:
        for path in sorted(self._folder.glob("*.json")):
            record = _parse(path)
            if record is not None:
                yield record

    def _path(self, mountpoint: Path) -> Path:
        return self._folder / f"{mount_id(mountpoint)}.json"


def unmount(records: MountRecords, mountpoint: Path) -> None:
    """End the process behind a mount and wait until both are gone, at most 6 s.

    Raises StoreError where nothing is mounted, or it does not end.
    """
    place = real_place(mountpoint)
    record = records.load(place)
    if record is not None and record.is_alive():
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        _wait_for_end(record)
    elif not is_mounted(place):
        raise StoreError(f"no revision is mounted on {place}; revfs mounts lists those that are")
    # Still there where its process was killed, before or just now.
    if is_mounted(place):
        detach(place)
    records.remove(place)


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
        return MountRecord(**{field.name: values[field.name] for field in fields(MountRecord)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
