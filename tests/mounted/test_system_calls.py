"""System call by system call: what a mount answers, errno by errno. SEMANTICS.md tells the same."""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mounted.conftest import Published
from tests.mounted.system_calls import LIBC, errno_of_call, named, opened, require

FILE, FOLDER, LINK, MISSING = "data/table.csv", "data/many", "data/link", "data/missing"
FS_IOC_GETFLAGS = 0x80086601


@pytest.fixture(scope="module")
def top(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first version, mounted."""
    folder = tmp_path_factory.mktemp("calls")
    clone = published.repository.clone(folder / "clone", folder / "home")
    with clone.mounted("v1") as mount:
        yield mount.path


Call = Callable[[Path], object]
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
    assert named(errno_of_call(lambda: look(top))) == named(expected)


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
