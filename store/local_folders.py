"""Folders of our own on the local disk: that they are ours alone, on a disk that can lock, and how
their files are locked and made to last; and what file systems are mounted where."""

import os
import stat
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO, Any

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
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return []
    return [_parse_mount(os.fsdecode(line)) for line in lines if line]


def _parse_mount(line: str) -> tuple[str, str]:
    # proc(5): fields up to " - " vary in number; the fifth is the mountpoint, octal-escaped.
    before, _, after = line.partition(" - ")
    return _unescape(before.split(" ")[4]), after.split(" ")[0]


def _unescape(text: str) -> str:
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace(f"\\{code}", character)
    return text


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
