"""Every system call that would change something, on a mount, as root: what refuses it, and that
nothing changed. SEMANTICS.md tells the same."""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mounted.conftest import Published
from tests.mounted.system_calls import (
    AT_FDCWD,
    LIBC,
    MAP_FAILED,
    checked,
    errno_of_call,
    inside,
    named,
    opened,
    require,
    system_call,
)
from tests.mounted.trees import summaries

FILE, FOLDER, LINK, MISSING = "data/table.csv", "data/many", "data/link", "data/missing"
OTHER, EMPTY_FOLDER = "data/run.sh", "data/deep/a/b/c"
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW = 0x1000, 0x100
OPENAT2, FCHMODAT2 = 437, 452
FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION = 0x40086602, 0x401C5820, 0x40087602
FICLONE, FITRIM = 0x40049409, 0xC0185879
MAP_SHARED_VALIDATE, MAP_SYNC = 0x3, 0x80000
PUNCH, KEEP_SIZE, COLLAPSE, ZERO, INSERT = 2, 1, 8, 16, 32
# An attribute of an ACL that gives the owner, group and others all rights.
ACL = struct.pack("<IHHIHHIHHI", 2, 1, 7, 2**32 - 1, 4, 7, 2**32 - 1, 32, 7, 2**32 - 1)


@pytest.fixture(scope="module")
def top(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first version, mounted; at the end it must be what it was."""
    folder = tmp_path_factory.mktemp("changes")
    clone = published.repository.clone(folder / "clone", folder / "home")
    with clone.mounted("v1") as mount:
        yield mount.path
        assert summaries(mount.path) == summaries(published.checkouts / "v1")


Call = Callable[[Path], object]


def rename(top: Path, source: str, target: str, flags: int) -> int:
    return checked(
        LIBC.renameat2(AT_FDCWD, bytes(top / source), AT_FDCWD, bytes(top / target), flags)
    )


def bind_socket(folder: Path) -> None:
    with inside(folder), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")


def open_again_to_write(path: Path) -> int:
    with opened(path) as descriptor:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)


def link_of_descriptor(path: Path, target: Path) -> None:
    with opened(path) as descriptor:
        checked(LIBC.linkat(descriptor, b"", AT_FDCWD, bytes(target), AT_EMPTY_PATH))


def open_by_handle(path: Path, flags: int) -> int:
    """Open a file by what the kernel names it by, as file servers do."""
    handle = bytearray(struct.pack("=Ii", 128, 0) + bytes(128))
    raw = (ctypes.c_char * len(handle)).from_buffer(handle)
    number = ctypes.c_int()
    checked(LIBC.name_to_handle_at(AT_FDCWD, bytes(path), raw, ctypes.byref(number), 0))
    with opened(path.parent) as folder:
        return checked(LIBC.open_by_handle_at(folder, raw, flags))


def utimes(path: Path, flags: int = 0) -> int:
    return checked(LIBC.utimensat(AT_FDCWD, bytes(path), None, flags))


CHANGES: dict[str, Call] = {
    "open to write": lambda top: os.open(top / FILE, os.O_WRONLY),
    "open to read and write": lambda top: os.open(top / FILE, os.O_RDWR),
    "open to append": lambda top: os.open(top / FILE, os.O_WRONLY | os.O_APPEND),
    "open to truncate": lambda top: os.open(top / FILE, os.O_RDONLY | os.O_TRUNC),
    "open to write past the page cache": lambda top: os.open(top / FILE, os.O_RDWR | os.O_DIRECT),
    "open to write through a link": lambda top: os.open(top / LINK, os.O_WRONLY),
    "open to create": lambda top: os.open(top / MISSING, os.O_CREAT | os.O_WRONLY),
    "open to create, reading": lambda top: os.open(top / MISSING, os.O_CREAT | os.O_RDONLY),
    "open to create anew": lambda top: os.open(top / MISSING, os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "open to create through a dangling link": lambda top: os.open(
        top / "data/deep/a/none", os.O_CREAT | os.O_WRONLY
    ),
    "open of a file without a name": lambda top: os.open(top / FOLDER, os.O_TMPFILE | os.O_RDWR),
    "open of a file without a name, to write": lambda top: os.open(
        top / FOLDER, os.O_TMPFILE | os.O_WRONLY | os.O_EXCL
    ),
    "open of what is open, to write": lambda top: open_again_to_write(top / FILE),
    "openat2 to write": lambda top: system_call(
        OPENAT2, AT_FDCWD, bytes(top / FILE), struct.pack("=QQQ", os.O_RDWR, 0, 0), 24
    ),
    "open_by_handle_at to write": lambda top: open_by_handle(top / FILE, os.O_RDWR),
    "creat": lambda top: checked(LIBC.creat(bytes(top / FILE), 0o644)),
    "creat of a new name": lambda top: checked(LIBC.creat(bytes(top / MISSING), 0o644)),
    "truncate": lambda top: os.truncate(top / FILE, 0),
    "truncate to be longer": lambda top: os.truncate(top / FILE, 1 << 40),
    "unlink": lambda top: os.unlink(top / FILE),
    "unlink of a link": lambda top: os.unlink(top / LINK),
    "unlink of a missing name": lambda top: os.unlink(top / MISSING),
    "rmdir": lambda top: os.rmdir(top / FOLDER),
    "rmdir of a file": lambda top: os.rmdir(top / FILE),
    "rename": lambda top: os.rename(top / FILE, top / MISSING),
    "rename over": lambda top: os.rename(top / FILE, top / OTHER),
    "rename of a folder": lambda top: os.rename(top / FOLDER, top / MISSING),
    "rename of a missing name": lambda top: os.rename(top / MISSING, top / "data/other"),
    "renameat2 over nothing": lambda top: rename(top, FILE, MISSING, RENAME_NOREPLACE),
    "renameat2 to exchange": lambda top: rename(top, FILE, OTHER, RENAME_EXCHANGE),
    "renameat2 that leaves a whiteout": lambda top: rename(top, FILE, MISSING, RENAME_WHITEOUT),
    "link": lambda top: os.link(top / FILE, top / MISSING),
    "link into the mount": lambda top: os.link(outside(top), top / MISSING),
    "linkat of a descriptor": lambda top: link_of_descriptor(top / FILE, top / MISSING),
    "symlink": lambda top: os.symlink("target", top / MISSING),
    "mkdir": lambda top: os.mkdir(top / MISSING),
    "mknod of a file": lambda top: os.mknod(top / MISSING, stat.S_IFREG | 0o600),
    "mknod of a pipe": lambda top: os.mkfifo(top / MISSING),
    "mknod of a socket": lambda top: os.mknod(top / MISSING, stat.S_IFSOCK | 0o600),
    "mknod of a device": lambda top: os.mknod(
        top / MISSING, stat.S_IFCHR | 0o600, os.makedev(1, 3)
    ),
    "mknod of a disk": lambda top: os.mknod(top / MISSING, stat.S_IFBLK | 0o600, os.makedev(7, 0)),
    "bind of a socket": lambda top: bind_socket(top / "data"),
    "chmod": lambda top: os.chmod(top / FILE, 0o644),
    "chmod of a folder": lambda top: os.chmod(top / FOLDER, 0o755),
    "chmod to what it is": lambda top: os.chmod(top / FILE, 0o444),
    "fchmodat2": lambda top: system_call(
        FCHMODAT2, AT_FDCWD, bytes(top / FILE), 0o644, AT_SYMLINK_NOFOLLOW
    ),
    "chown": lambda top: os.chown(top / FILE, 0, 0),
    "chown to nobody new": lambda top: os.chown(top / FILE, -1, -1),
    "lchown": lambda top: os.lchown(top / LINK, 0, 0),
    "utimensat": lambda top: utimes(top / FILE),
    "utimensat of a link": lambda top: utimes(top / LINK, AT_SYMLINK_NOFOLLOW),
    "utime": lambda top: os.utime(top / FOLDER, (1, 1)),
    "setxattr": lambda top: os.setxattr(top / FILE, "user.a", b"b"),
    "lsetxattr": lambda top: os.setxattr(top / LINK, "trusted.a", b"b", follow_symlinks=False),
    "setxattr of a capability": lambda top: os.setxattr(
        top / OTHER, "security.capability", struct.pack("<5I", 0x02000000, 1, 0, 0, 0)
    ),
    "setxattr of an ACL": lambda top: os.setxattr(top / FILE, "system.posix_acl_access", ACL),
    "removexattr": lambda top: os.removexattr(top / FILE, "user.a"),
    "lremovexattr": lambda top: os.removexattr(top / LINK, "trusted.a", follow_symlinks=False),
    "access to write": lambda top: require(os.access(top / FILE, os.W_OK)),
    "access to write to a folder": lambda top: require(os.access(top / FOLDER, os.W_OK)),
    "swapon": lambda top: checked(LIBC.swapon(bytes(top / FILE), 0)),
    "acct": lambda top: checked(LIBC.acct(bytes(top / FILE))),
}


# Root in a container may not do all that root may, and older kernels do not know all calls.
NOT_HERE = {
    "acct": "EPERM",
    "swapon": "EPERM",
    "open_by_handle_at to write": "EPERM",
    "fchmodat2": "ENOSYS",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_as_by_any_read_only_file_system(top: Path, name: str) -> None:
    before = sorted(os.listdir(top / "data"))
    refusal = named(errno_of_call(lambda: CHANGES[name](top)))
    if refusal == NOT_HERE.get(name):
        pytest.skip(f"{name} cannot be called here: {refusal}")
    assert refusal == "EROFS"
    assert sorted(os.listdir(top / "data")) == before


# What the kernel answers before it asks whether anything can be written here.
OTHER_REFUSALS: dict[str, tuple[Call, int]] = {
    "mkdir of what is there": (lambda top: os.mkdir(top / FOLDER), errno.EEXIST),
    "symlink of what is there": (lambda top: os.symlink("target", top / FILE), errno.EEXIST),
    "link to what is there": (lambda top: os.link(top / FILE, top / OTHER), errno.EEXIST),
    "mknod of what is there": (lambda top: os.mkfifo(top / FILE), errno.EEXIST),
    "bind of what is there": (
        lambda top: bind_at(top / "data", "run.sh"),
        errno.EADDRINUSE,
    ),
    "open to create anew what is there": (
        lambda top: os.open(top / FILE, os.O_CREAT | os.O_EXCL | os.O_RDWR),
        errno.EEXIST,
    ),
    "open of a folder to write": (lambda top: os.open(top / FOLDER, os.O_WRONLY), errno.EISDIR),
    "truncate of a folder": (lambda top: os.truncate(top / FOLDER, 0), errno.EISDIR),
    "unlink of a folder": (lambda top: os.unlink(top / FOLDER), errno.EROFS),
    "rmdir of the mountpoint": (lambda top: os.rmdir(top), errno.EBUSY),
    "rename out of the mount": (lambda top: os.rename(top / FILE, top.parent / "f"), errno.EXDEV),
    "rename into the mount": (
        lambda top: os.rename(outside(top), top / MISSING),
        errno.EXDEV,
    ),
    "link out of the mount": (lambda top: os.link(top / FILE, top.parent / "f"), errno.EXDEV),
}


def outside(top: Path) -> Path:
    place = top.parent / "outside"
    place.touch()
    return place


def bind_at(folder: Path, name: str) -> None:
    with inside(folder), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)


@pytest.mark.parametrize("name", OTHER_REFUSALS)
def test_a_change_that_could_not_be_anywhere_has_its_own_errno(top: Path, name: str) -> None:
    call, expected = OTHER_REFUSALS[name]
    assert named(errno_of_call(lambda: call(top))) == named(expected)


def splice_into(descriptor: int) -> int:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"bytes")
        return os.splice(reader, descriptor, 5)
    finally:
        os.close(reader)
        os.close(writer)


def protect_to_write(descriptor: int) -> int:
    """Map to read, and ask for more afterwards."""
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]
    address = LIBC.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    try:
        return checked(
            LIBC.mprotect(
                ctypes.c_void_p(address), ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE
            )
        )
    finally:
        LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096))


def map_for_ever(descriptor: int) -> None:
    """Map as persistent memory is."""
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = MAP_SHARED_VALIDATE | MAP_SYNC
    if LIBC.mmap(None, 4096, protection, flags, descriptor, 0) == MAP_FAILED:
        checked(-1)


def fallocate(descriptor: int, mode: int) -> int:
    length = ctypes.c_long(4096)
    return checked(LIBC.fallocate64(descriptor, mode, ctypes.c_long(0), length))


def from_outside(call: Callable[[int], object]) -> object:
    """A call with the descriptor of a file that can be read."""
    with opened(Path(__file__)) as source:
        return call(source)


BAD = errno.EBADF
DESCRIPTOR_CHANGES: dict[str, tuple[Callable[[int], object], int]] = {
    "write": (lambda fd: os.write(fd, b"x"), BAD),
    "writev": (lambda fd: os.writev(fd, [b"x"]), BAD),
    "pwrite": (lambda fd: os.pwrite(fd, b"x", 0), BAD),
    "pwritev2": (lambda fd: os.pwritev(fd, [b"x"], 0, os.RWF_APPEND), BAD),
    "splice into": (splice_into, BAD),
    "sendfile into": (lambda fd: from_outside(lambda source: os.sendfile(fd, source, 0, 9)), BAD),
    "copy_file_range into": (
        lambda fd: from_outside(lambda source: os.copy_file_range(source, fd, 9)),
        BAD,
    ),
    "clone into": (lambda fd: fcntl.ioctl(fd, FICLONE, fd), BAD),
    "clone from another file system": (
        lambda fd: from_outside(lambda source: fcntl.ioctl(fd, FICLONE, source)),
        errno.EXDEV,
    ),
    "ftruncate": (lambda fd: os.ftruncate(fd, 0), errno.EINVAL),
    "posix_fallocate": (lambda fd: os.posix_fallocate(fd, 0, 1), BAD),
    "fallocate": (lambda fd: fallocate(fd, 0), BAD),
    "fallocate to punch": (lambda fd: fallocate(fd, PUNCH | KEEP_SIZE), BAD),
    "fallocate to collapse": (lambda fd: fallocate(fd, COLLAPSE), BAD),
    "fallocate to insert": (lambda fd: fallocate(fd, INSERT), BAD),
    "fallocate of zeros": (lambda fd: fallocate(fd, ZERO), BAD),
    "fchmod": (lambda fd: os.fchmod(fd, 0o644), errno.EROFS),
    "fchown": (lambda fd: os.fchown(fd, 0, 0), errno.EROFS),
    "futimens": (lambda fd: os.utime(fd), errno.EROFS),
    "fsetxattr": (lambda fd: os.setxattr(fd, "user.a", b"b"), errno.EROFS),
    "fremovexattr": (lambda fd: os.removexattr(fd, "user.a"), errno.EROFS),
    "mmap shared to write": (
        lambda fd: mmap.mmap(fd, 10, mmap.MAP_SHARED, mmap.PROT_WRITE),
        errno.EACCES,
    ),
    "mmap as persistent memory": (map_for_ever, errno.EOPNOTSUPP),
    "mprotect to write": (protect_to_write, errno.EACCES),
    "FS_IOC_SETFLAGS": (lambda fd: fcntl.ioctl(fd, FS_IOC_SETFLAGS, bytes(8)), errno.EROFS),
    "FS_IOC_FSSETXATTR": (lambda fd: fcntl.ioctl(fd, FS_IOC_FSSETXATTR, bytes(28)), errno.EROFS),
    "FS_IOC_SETVERSION": (lambda fd: fcntl.ioctl(fd, FS_IOC_SETVERSION, bytes(8)), errno.ENOTTY),
    "FITRIM": (lambda fd: fcntl.ioctl(fd, FITRIM, bytes(24)), errno.ENOTTY),
}


@pytest.mark.parametrize("name", DESCRIPTOR_CHANGES)
def test_a_change_through_an_open_file_is_refused(top: Path, name: str) -> None:
    change, expected = DESCRIPTOR_CHANGES[name]
    with opened(top / FILE) as descriptor:
        assert named(errno_of_call(lambda: change(descriptor))) == named(expected)
