"""System call by system call: what a mount answers, errno by errno. SEMANTICS.md tells the same."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mounted.conftest import Published

FILE, FOLDER, LINK, MISSING = "data/table.csv", "data/many", "data/link", "data/missing"
LIBC = ctypes.CDLL(None, use_errno=True)
FS_IOC_GETFLAGS = 0x80086601
RENAME_EXCHANGE = 2


@pytest.fixture(scope="module")
def top(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first version, mounted."""
    folder = tmp_path_factory.mktemp("calls")
    clone = published.repository.clone(folder / "clone", folder / "home")
    with clone.mounted("v1") as mount:
        yield mount.path


def errno_of_call(call: Callable[[], object]) -> int:
    """The errno that a call ends with; 0 where it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def checked(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


Call = Callable[[Path], object]
CHANGES: dict[str, Call] = {
    "open to write": lambda top: os.open(top / FILE, os.O_WRONLY),
    "open to read and write": lambda top: os.open(top / FILE, os.O_RDWR),
    "open to append": lambda top: os.open(top / FILE, os.O_WRONLY | os.O_APPEND),
    "open to truncate": lambda top: os.open(top / FILE, os.O_RDONLY | os.O_TRUNC),
    "open to create": lambda top: os.open(top / MISSING, os.O_CREAT | os.O_WRONLY),
    "open to create, reading": lambda top: os.open(top / MISSING, os.O_CREAT | os.O_RDONLY),
    "open of a file without a name": lambda top: os.open(top / FOLDER, os.O_TMPFILE | os.O_RDWR),
    "unlink": lambda top: os.unlink(top / FILE),
    "rename": lambda top: os.rename(top / FILE, top / MISSING),
    "rename over": lambda top: os.rename(top / FILE, top / "data/run.sh"),
    "renameat2 to exchange": lambda top: checked(
        LIBC.renameat2(-100, bytes(top / FILE), -100, bytes(top / "data/run.sh"), RENAME_EXCHANGE)
    ),
    "mkdir": lambda top: os.mkdir(top / MISSING),
    "rmdir": lambda top: os.rmdir(top / FOLDER),
    "chmod": lambda top: os.chmod(top / FILE, 0o644),
    "chown": lambda top: os.chown(top / FILE, 0, 0),
    "lchown": lambda top: os.lchown(top / LINK, 0, 0),
    "truncate": lambda top: os.truncate(top / FILE, 0),
    "utimensat": lambda top: os.utime(top / FILE),
    "link": lambda top: os.link(top / FILE, top / MISSING),
    "symlink": lambda top: os.symlink("target", top / MISSING),
    "mknod of a pipe": lambda top: os.mkfifo(top / MISSING),
    "mknod of a device": lambda top: os.mknod(
        top / MISSING, stat.S_IFCHR | 0o600, os.makedev(1, 3)
    ),
    "bind of a socket": lambda top: bind_socket(top / "data"),
    "setxattr": lambda top: os.setxattr(top / FILE, "user.a", b"b"),
    "removexattr": lambda top: os.removexattr(top / FILE, "user.a"),
    "access to write": lambda top: require(os.access(top / FILE, os.W_OK)),
}


def require(allowed: bool) -> None:
    if not allowed:
        raise OSError(errno.EROFS, "not allowed")


def bind_socket(folder: Path) -> None:
    # From inside: the path of a socket is short.
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.fchdir(here)
        os.close(here)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_as_by_any_read_only_file_system(top: Path, name: str) -> None:
    before = sorted(os.listdir(top / "data"))
    assert errno_of_call(lambda: CHANGES[name](top)) == errno.EROFS
    assert sorted(os.listdir(top / "data")) == before


DESCRIPTOR_CHANGES: dict[str, tuple[Callable[[int], object], int]] = {
    "write": (lambda fd: os.write(fd, b"x"), errno.EBADF),
    "pwrite": (lambda fd: os.pwrite(fd, b"x", 0), errno.EBADF),
    "ftruncate": (lambda fd: os.ftruncate(fd, 0), errno.EINVAL),
    "fallocate": (lambda fd: os.posix_fallocate(fd, 0, 1), errno.EBADF),
    "fchmod": (lambda fd: os.fchmod(fd, 0o644), errno.EROFS),
    "fchown": (lambda fd: os.fchown(fd, 0, 0), errno.EROFS),
    "futimens": (lambda fd: os.utime(fd), errno.EROFS),
    "fsetxattr": (lambda fd: os.setxattr(fd, "user.a", b"b"), errno.EROFS),
    "mmap shared to write": (
        lambda fd: mmap.mmap(fd, 10, mmap.MAP_SHARED, mmap.PROT_WRITE),
        errno.EACCES,
    ),
}


@pytest.mark.parametrize("name", DESCRIPTOR_CHANGES)
def test_a_change_through_an_open_file_is_refused(top: Path, name: str) -> None:
    change, expected = DESCRIPTOR_CHANGES[name]
    with opened(top / FILE) as descriptor:
        assert errno_of_call(lambda: change(descriptor)) == expected


READS: dict[str, tuple[Call, int]] = {
    "stat of a missing name": (lambda top: os.stat(top / MISSING), errno.ENOENT),
    "stat of a name in a file": (lambda top: os.stat(top / FILE / "name"), errno.ENOTDIR),
    "stat of a name that is too long": (lambda top: os.stat(top / ("n" * 256)), errno.ENAMETOOLONG),
    "open of a missing name": (lambda top: os.open(top / MISSING, os.O_RDONLY), errno.ENOENT),
    "open through a dangling link": (lambda top: os.open(top / "data/dangling", 0), errno.ENOENT),
    "open of a link, not followed": (
        lambda top: os.open(top / LINK, os.O_NOFOLLOW),
        errno.ELOOP,
    ),
    "open of a file as a folder": (lambda top: os.open(top / FILE, os.O_DIRECTORY), errno.ENOTDIR),
    "open to create what is there": (
        lambda top: os.open(top / FILE, os.O_CREAT | os.O_EXCL | os.O_RDONLY),
        errno.EEXIST,
    ),
    "mkdir of what is there": (lambda top: os.mkdir(top / FOLDER), errno.EEXIST),
    "unlink of a missing name": (lambda top: os.unlink(top / MISSING), errno.EROFS),
    "rename out of the mount": (lambda top: os.rename(top / FILE, top.parent / "f"), errno.EXDEV),
    "listing of a file": (lambda top: os.listdir(top / FILE), errno.ENOTDIR),
    "readlink of a file": (lambda top: os.readlink(top / FILE), errno.EINVAL),
    "getxattr": (lambda top: os.getxattr(top / FILE, "user.a"), errno.EOPNOTSUPP),
    "listxattr": (lambda top: require(os.listxattr(top / FILE) == []), errno.EOPNOTSUPP),
    "exec of a file without the bit": (
        lambda top: os.execv(top / FILE, ["file"]),
        errno.EACCES,
    ),
}


@pytest.mark.parametrize("name", READS)
def test_a_look_that_cannot_be_ends_with_its_errno(top: Path, name: str) -> None:
    look, expected = READS[name]
    found = errno_of_call(lambda: look(top))
    assert errno.errorcode.get(found, found) == errno.errorcode.get(expected, expected)


def test_a_folder_lists_itself_and_its_parent_with_their_inode_numbers(top: Path) -> None:
    class Row(ctypes.Structure):
        _fields_ = [
            ("inode", ctypes.c_uint64),
            ("offset", ctypes.c_int64),
            ("length", ctypes.c_ushort),
            ("kind", ctypes.c_ubyte),
            ("name", ctypes.c_char * 256),
        ]

    LIBC.fdopendir.restype = ctypes.c_void_p
    LIBC.readdir64.restype = ctypes.POINTER(Row)
    LIBC.readdir64.argtypes = LIBC.closedir.argtypes = [ctypes.c_void_p]
    handle = LIBC.fdopendir(os.open(top / FOLDER, os.O_RDONLY | os.O_DIRECTORY))
    rows = {}
    while row := LIBC.readdir64(handle):
        rows[row.contents.name] = row.contents.inode, row.contents.kind
    LIBC.closedir(handle)
    folder, regular = 4, 8
    assert rows[b"."] == ((top / FOLDER).stat().st_ino, folder)
    assert rows[b".."] == ((top / "data").stat().st_ino, folder)
    assert rows[b"000.bin"] == ((top / FOLDER / "000.bin").stat().st_ino, regular)
    assert len(rows) == 122


def test_a_folder_is_opened_but_not_read(top: Path) -> None:
    with opened(top / FOLDER) as descriptor:
        assert errno_of_call(lambda: os.read(descriptor, 10)) == errno.EISDIR


def test_seeking_holes_finds_one_run_of_data(top: Path) -> None:
    with opened(top / FILE) as descriptor:
        size = os.fstat(descriptor).st_size
        assert os.lseek(descriptor, 0, os.SEEK_END) == size
        assert os.lseek(descriptor, 100, os.SEEK_DATA) == 100
        assert os.lseek(descriptor, 100, os.SEEK_HOLE) == size
        past = errno_of_call(lambda: os.lseek(descriptor, size + 1, os.SEEK_DATA))
        assert past == errno.ENXIO
        assert errno_of_call(lambda: os.lseek(descriptor, -1, os.SEEK_SET)) == errno.EINVAL


def test_the_file_system_is_full_and_has_names_of_255_bytes(top: Path) -> None:
    status = os.statvfs(top)
    assert (status.f_blocks, status.f_bfree, status.f_files, status.f_namemax) == (0, 0, 0, 255)
    assert status.f_flag & os.ST_RDONLY
    assert status.f_flag & os.ST_NOSUID


def test_syncing_and_advising_a_file_succeed(top: Path) -> None:
    with opened(top / FILE) as descriptor:
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        assert os.pread(descriptor, 5, 0) == (top / FILE).read_bytes()[:5]


def test_record_locks_for_reading_are_had_and_for_writing_need_a_file_open_to_write(
    top: Path,
) -> None:
    with opened(top / FILE) as descriptor:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        refused = errno_of_call(lambda: fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
        assert refused == errno.EBADF
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_ioctls_that_ask_a_file_system_are_not_known(top: Path) -> None:
    with opened(top / FILE) as descriptor:
        for request in (FS_IOC_GETFLAGS, termios.TCGETS):
            found = errno_of_call(lambda number=request: fcntl.ioctl(descriptor, number, bytes(64)))
            assert found == errno.ENOTTY
        size = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
        assert size == (os.fstat(descriptor).st_size,)


def test_a_watch_can_be_set_and_sees_the_opening_of_a_file(top: Path) -> None:
    watcher = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        in_open = 0x20
        assert LIBC.inotify_add_watch(watcher, bytes(top / FILE), in_open) > 0
        with opened(top / FILE):
            _, mask, _, _ = struct.unpack_from("iIII", os.read(watcher, 4096))
        assert mask == in_open
    finally:
        os.close(watcher)


def test_access_follows_the_mode_bits(top: Path) -> None:
    assert os.access(top / FILE, os.R_OK)
    assert os.access(top / "data/run.sh", os.X_OK)
    assert not os.access(top / FILE, os.X_OK)
    assert not os.access(top / MISSING, os.F_OK)


def test_modes_tell_folders_executables_files_and_links(top: Path) -> None:
    def mode(name: str) -> str:
        return stat.filemode((top / name).lstat().st_mode)

    assert mode(FOLDER) == mode("") == "dr-xr-xr-x"
    assert mode("data/run.sh") == mode("tool") == "-r-xr-xr-x"
    assert mode(FILE) == mode("README.md") == "-r--r--r--"
    assert mode(LINK) == "lrwxrwxrwx"
