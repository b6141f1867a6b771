"""Folders of our own on the local disk: that they are ours alone, on a disk that can lock, and how
their files are locked and made to last; and what file systems are mounted where."""

import os
import re
import stat
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO, Any, NamedTuple

from store.errors import CacheUnusable

MOUNT_TYPE = "fuse.revfs"
"""What the kernel calls the file system of a mounted revision."""

# LMDB needs mmap and locks that are coherent between processes; these do not promise both. And any
# of them may stop to answer.
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse", "9p", "afs")


def make_private_folder(folder: Path) -> Path:
    """Create `folder` (mode 0700) if it is missing, and refuse one that others could have prepared.

    Raises CacheUnusable for a symbolic link, a folder of another user, one that group or others
    can write, or one on a network file system.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise CacheUnusable(f"the folder {folder} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUnusable(f"{folder} is a symbolic link or a file, not a folder of its own")
    if status.st_uid != os.geteuid():
        raise CacheUnusable(f"the folder {folder} belongs to another user")
    if status.st_mode & 0o022:
        raise CacheUnusable(
            f"the folder {folder} can be written by others; run chmod go-w on it or choose another"
        )
    kind = file_system_type(folder)
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        raise CacheUnusable(
            f"the folder {folder} is on {kind}, where locks are not safe; choose a local disk"
        )
    return folder


def is_on_network(path: Path) -> bool:
    """Whether a path is on a file system that other machines or programs serve."""
    return file_system_type(path).startswith(_NETWORK_FILE_SYSTEMS)


def file_system_type(path: Path) -> str:
    """The kernel's name of the file system that holds `path`: "ext4", "nfs4", "fuse.x"; empty where
    it cannot be told."""
    place = os.path.realpath(path)
    best_length, best_type = -1, ""
    for mountpoint, kind in mounted_file_systems():
        inside = place == mountpoint or place.startswith(mountpoint.rstrip("/") + "/")
        # Not "greater": of two mounts on one place the later one is what is seen.
        if inside and len(mountpoint) >= best_length:
            best_length, best_type = len(mountpoint), kind
    return best_type


def mounted_file_systems() -> list[tuple[str, str]]:
    """(mountpoint, type) of every mount this process sees, in the order of mounting."""
    return [(mount.place, mount.kind) for mount in load_mounts()]


class MountLine(NamedTuple):
    """A line of the kernel's table of mounts: where, the type of the file system, the kernel's
    number for it ("0:57"), and the folder of it that is seen there."""

    place: str
    kind: str
    device: str
    root: str


def load_mounts() -> list[MountLine]:
    """Every mount that this process sees, in the order of mounting; none without /proc."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return []
    return [_parse_mount(line) for line in lines if line]


def _parse_mount(line: bytes) -> MountLine:
    # proc(5): id, parent, device, root, mountpoint, options, optional fields, " - ", type.
    before, _, after = line.partition(b" - ")
    _, _, device, root, place, *_ = before.split(b" ")
    return MountLine(
        _unescape(place), _unescape(after.split(b" ")[0]), device.decode(), _unescape(root)
    )


def _unescape(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), field))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process and those it forks, if nobody else has; whether it is."""
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True
