"""The checks of what a mount needs of the machine, and of mounts that lost their process."""

import errno
import importlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from store.checks import Finding, not_checked, ok, problem
from vfs.mount_records import MountRecord

DEVICE = Path("/dev/fuse")
FUSE_CONFIGURATION = Path("/etc/fuse.conf")

_HELPER = "fusermount3"
_WITHOUT = "or use `revfs export`, which needs no mount"
_DEVICE_ADVICE = {
    errno.ENOENT: "run `modprobe fuse`; a container needs --device /dev/fuse",
    errno.ENODEV: "run `modprobe fuse`",
    errno.ENXIO: "run `modprobe fuse`",
    errno.EACCES: "run `chmod a+rw` on it, or become a member of its group",
    errno.EPERM: "a container needs --device /dev/fuse --cap-add SYS_ADMIN",
}


def check_library(module: str = "vfs.fuse") -> Finding:
    """That pyfuse3, and the libfuse3 below it, can be loaded."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        words = f"pyfuse3 cannot be loaded ({error}): install libfuse3 and revfs anew"
        return problem("fuse library", f"{words}, {_WITHOUT}")
    return ok("fuse library", "loads")


def check_device(device: Path = DEVICE) -> Finding:
    """That the kernel's FUSE device is there, and can be opened by this user."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        advice = _DEVICE_ADVICE.get(error.errno or 0, "see what the administrator says")
        words = f"{device} cannot be opened ({error.strerror}): {advice}, {_WITHOUT}"
        return problem("fuse device", words)
    return ok("fuse device", f"{device} can be opened")


def check_helper(environment: Mapping[str, str], user_id: int) -> Finding:
    """That the program that mounts for a user is there, and may do so."""
    found = shutil.which(_HELPER, path=environment.get("PATH", os.defpath))
    if found is None:
        return problem(_HELPER, "it is not on the PATH: install the package fuse3")
    status = os.stat(found)
    if user_id != 0 and not (status.st_mode & stat.S_ISUID and status.st_uid == 0):
        return problem(
            _HELPER, f"{found} is not setuid root, so only root can mount: run `chmod u+s {found}`"
        )
    return ok(_HELPER, found)


def check_other_users(user_id: int, configuration: Path = FUSE_CONFIGURATION) -> Finding:
    """Whether a mount can be shown to other users; that it cannot is no problem."""
    name = "--allow-other"
    if user_id == 0:
        return ok(name, "root may use it")
    try:
        lines = configuration.read_text(errors="replace").splitlines()
    except OSError as error:
        return not_checked(name, f"{configuration}: {error.strerror}")
    if "user_allow_other" in map(str.strip, lines):
        return ok(name, f"{configuration} allows it")
    return ok(name, f"for root alone, until {configuration} has a line user_allow_other")


def check_mounts(records: Sequence[MountRecord]) -> list[Finding]:
    """A problem for each mount whose process is gone."""
    dead = [record for record in records if not record.is_alive()]
    if not dead:
        return [ok("mounts", f"alive: {len(records)}")]
    return [
        problem(
            "mounts",
            f"the process of {record.mountpoint} is gone: run `revfs unmount {record.mountpoint}`; "
            f"its log is {record.log}",
        )
        for record in dead
    ]
