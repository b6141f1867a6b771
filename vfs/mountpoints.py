"""Mountpoints: whether a folder can be one, and how a dead one is cleared away."""

import errno
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from store.errors import PathRefused, StoreError
from store.git_command import RepositoryPaths
from store.local_folders import MOUNT_TYPE, load_mounts, mounted_file_systems

_UNMOUNT_SECONDS = 10


def real_place(mountpoint: Path) -> Path:
    """The mountpoint as the kernel names it. A mount itself is not looked at: nobody may answer."""
    place = Path(os.path.realpath(mountpoint.parent)) / mountpoint.name
    return place if is_mounted(place) else Path(os.path.realpath(place))


def is_mounted(mountpoint: Path) -> bool:
    """Whether a revision is mounted there, alive or dead. Never touches the mount itself."""
    return (str(mountpoint), MOUNT_TYPE) in mounted_file_systems()


class MountedRevision(NamedTuple):
    """Where a revision is mounted, and the number that the kernel knows the mount by for as long as
    it lasts, whatever becomes of the folders above it."""

    place: Path
    device: str


def mounted_revisions() -> list[MountedRevision]:
    """Every mount of ours that this process sees, whole ones only, in the order of mounting."""
    return [
        MountedRevision(Path(mount.place), mount.device)
        for mount in load_mounts()
        if mount.kind == MOUNT_TYPE and mount.root == "/"
    ]


def device_at(mountpoint: Path) -> str | None:
    """The kernel's number for the revision that is mounted there."""
    found = [mounted.device for mounted in mounted_revisions() if mounted.place == mountpoint]
    return found[-1] if found else None


def place_of(device: str, expected: Path) -> Path | None:
    """Where the mount of that number is now: at `expected`, if it is there too. None where it is
    nowhere."""
    places = [mounted.place for mounted in mounted_revisions() if mounted.device == device]
    if expected in places:
        return expected
    return places[0] if places else None


def is_dead(mountpoint: Path) -> bool:
    """Whether what is mounted there has lost its process."""
    try:
        # Not stat: the kernel remembers the attributes of a dead mount's root for ever.
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def detach(mountpoint: Path) -> None:
    """Take a mount out of the tree, busy or dead. Raises StoreError with the helper's words."""
    # fusermount3 may do for the user who mounted what umount may do only for root.
    try:
        completed = subprocess.run(
            ["fusermount3", "-u", "-z", "--", str(mountpoint)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_UNMOUNT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise StoreError("fusermount3 is not installed; install the package fuse3") from error
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"{mountpoint} cannot be unmounted: fusermount3 hangs") from error
    if completed.returncode:
        words = completed.stderr.decode(errors="replace").strip()
        raise StoreError(f"{mountpoint} cannot be unmounted: {words}")


def prepare(mountpoint: Path, paths: RepositoryPaths, cache_directory: Path) -> Path:
    """The real path of a folder that can be mounted on; a dead mount on it is cleared away.

    Raises PathRefused where it is missing, no folder, not empty, mounted already, or inside the
    cache or the git directory.
    """
    place = real_place(mountpoint)
    if is_mounted(place):
        if not is_dead(place):
            raise PathRefused(f"{place} is mounted already; revfs unmount it first")
        detach(place)
    if not place.is_dir():
        what = (
            "is not a folder"
            if place.exists()
            else f"does not exist; mkdir -p {shlex.quote(str(place))} makes it"
        )
        raise PathRefused(f"the mountpoint {place} {what}")
    for forbidden in (paths.git_dir, paths.common_dir, cache_directory):
        if place.is_relative_to(Path(os.path.realpath(forbidden))):
            raise PathRefused(f"the mountpoint {place} is inside {forbidden}; choose another")
    if any(place.iterdir()):
        raise PathRefused(f"the mountpoint {place} is not empty; choose another")
    return place


def default_mountpoint(paths: RepositoryPaths, revision: str) -> Path:
    """`mnt/<revision>` at the top of the work tree, made if missing and kept out of git. Slashes
    and colons in it become hyphens.

    Raises PathRefused in a bare repository, and where the folder would be made beyond a link.
    """
    if paths.work_tree is None:
        raise PathRefused(
            "the repository has no work tree to mount in: name a mountpoint, an empty folder"
        )
    name = re.sub("[/:]", "-", revision.rstrip("/:")).lstrip(".-") or "revision"
    place = paths.work_tree / "mnt" / name
    for folder in (place.parent, place):
        # A commit can hold a link, which must not say where things are made.
        if not is_mounted(folder) and folder.is_symlink():
            raise PathRefused(f"{folder} is a symbolic link; name a mountpoint")
    if not is_mounted(place):
        place.mkdir(parents=True, exist_ok=True)
    # This folder alone: what else lies in mnt/ is the user's, for git to see.
    # As it stands: a revision like `HEAD^{/v[12]}` is no pattern of gitignore(5).
    literal = re.sub(r"([][*?\\ ])", r"\\\1", name)
    _exclude(paths, f"/mnt/{literal}/")
    return place


def remove_default_mountpoint(paths: RepositoryPaths, mountpoint: Path) -> None:
    """Remove a folder that `default_mountpoint` made, and `mnt` if it is the last in it."""
    if paths.work_tree is None or mountpoint.parent != paths.work_tree / "mnt":
        return
    for folder in (mountpoint, mountpoint.parent):
        try:
            folder.rmdir()
        except OSError:
            return


def _exclude(paths: RepositoryPaths, pattern: str) -> None:
    exclude = paths.common_dir / "info" / "exclude"
    existing = exclude.read_text(errors="surrogateescape") if exclude.exists() else ""
    if pattern in existing.splitlines():
        return
    exclude.parent.mkdir(exist_ok=True)
    separator = "" if not existing or existing.endswith("\n") else "\n"
    with exclude.open("a") as file:
        file.write(f"{separator}{pattern}\n")
