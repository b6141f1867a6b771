"""The kernel's side of a mount: made and taken down through pyfuse3, with openings of /dev/fuse for
the processes that serve it.

pyfuse3 mounts and unmounts. The requests themselves are taken by `vfs.requests`: through pyfuse3
each costs several times as much, and a file two more of them (DESIGN.md has the figures).
"""

import fcntl
import logging
import os
import struct
from contextlib import suppress
from pathlib import Path

import pyfuse3

from store.errors import StoreError
from store.local_folders import MOUNT_TYPE
from vfs.kernel_messages import REQUEST_BYTES, answer_to_init, ask_to_resend

log = logging.getLogger(__name__)

_DEVICE = "/dev/fuse"
# FUSE_DEV_IOC_CLONE of linux/fuse.h: _IOR(229, 0, uint32_t).
_CLONE = 0x8004E500
READ_AHEAD_BYTES = 1 << 20
"""How far the kernel reads ahead in a file that is read in order, where that can be set. Its own
choice, 128 KiB, is one request for each eighth of what a request can carry."""


class KernelMount:
    """A mountpoint, and the connection to the kernel behind it. One in a process."""

    def __init__(self, mountpoint: Path, label: str, *, allow_other: bool) -> None:
        """Mount, and tell the kernel what is wanted of it. Raises StoreError where the kernel or
        its helper refuses."""
        before = _openings()
        try:
            pyfuse3.init(pyfuse3.Operations(), str(mountpoint), _options(label, allow_other))
        except RuntimeError as error:
            raise StoreError(
                f"{mountpoint} cannot be mounted ({error}); is fuse3 installed, may you use "
                "/dev/fuse, and does /etc/fuse.conf allow what was asked for?"
            ) from error
        try:
            (self._descriptor,) = _openings() - before
            self._introduce()
        except BaseException:
            self.close(unmount=True)
            raise

    def open_device(self) -> int:
        """Another opening of the device for this mount, which does not block. What was taken from
        it ends with an error for its reader when the last process that holds it closes it."""
        opened = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.ioctl(opened, _CLONE, struct.pack("=I", self._descriptor))
        except OSError:
            os.close(opened)
            raise
        return opened

    def resend(self) -> None:
        """Have all requests without an answer handed out again: whoever took them is gone. Kernels
        before Linux 6.9 cannot."""
        try:
            os.write(self._descriptor, ask_to_resend())
        except OSError as error:
            log.warning("reads under way in a process that was killed fail: %s", error.strerror)

    def release(self) -> None:
        """Let go of the connection in a process that has no part in it."""
        os.close(self._descriptor)

    def close(self, *, unmount: bool) -> None:
        """Let go of the mount; with `unmount`, take away what is at its mountpoint."""
        pyfuse3.close(unmount=unmount)

    def _introduce(self) -> None:
        buffer = bytearray(REQUEST_BYTES)
        os.readv(self._descriptor, [buffer])
        os.write(self._descriptor, answer_to_init(buffer, READ_AHEAD_BYTES))


def raise_read_ahead(device: str) -> None:
    """Have the kernel read further ahead on the mount with that number (`major:minor`), where this
    user may say so."""
    # As root only; without it sequential reads take more and smaller requests.
    with suppress(OSError):
        knob = Path(f"/sys/class/bdi/{device}/read_ahead_kb")
        knob.write_text(str(READ_AHEAD_BYTES >> 10))


def _openings() -> set[int]:
    """The descriptors of this process that are openings of the device."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == _DEVICE:
                found.add(int(name))
    return found


def _options(label: str, allow_other: bool) -> set[str]:
    options = {
        "ro",
        "nosuid",
        "nodev",
        "default_permissions",
        f"fsname=revfs:{_plain_label(label)}",
        f"subtype={MOUNT_TYPE.removeprefix('fuse.')}",
    }
    return options | {"allow_other"} if allow_other else options


def _plain_label(label: str) -> str:
    # Commas separate options, and a blank would shift the columns of /proc/mounts.
    return "".join(c if c.isalnum() or c in "-_./~^@:" else "_" for c in label)
