"""A bug in any handler of a mount, whatever it raises, is EIO for the call that met it; the same
processes go on, and the next call gets its answer."""

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.fakes.planted_errors import KILL
from tests.fakes.processes import ROOT
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Clone, Mounted
from tests.mounted.system_calls import AT_FDCWD, LIBC, checked, errno_of_call, named, opened

ERRORS = (
    *("ValueError", "KeyError", "OSError", "MemoryError", "RecursionError", "StoreError"),
    *("ExceptionGroup", "BaseExceptionGroup", "SystemExit", "KeyboardInterrupt", "TooSlowError"),
    "StopIteration",
)
FORCE_SYNC = 0x2000
FS_IOC_GETFLAGS = 0x80086601
FILE = "data/many/003.bin"
numbers = count()


def failing(clone: Clone) -> Path:
    """Have the clone's mounts fail as a file tells, whose path it gives."""
    plan = clone.home / "planted"
    clone.command = (sys.executable, "-m", "tests.fakes.planted_errors")
    clone.environment |= {"PYTHONPATH": str(ROOT), "PLANTED": str(plan)}
    return plan


@contextlib.contextmanager
def planted(plan: Path, *words: str) -> Iterator[None]:
    """Meanwhile, the handler fails that the words name."""
    new = plan.with_name("planted-new")
    new.write_text(" ".join(words))
    new.rename(plan)
    try:
        yield
    finally:
        plan.unlink()


def look_up(top: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.stat(top / f"missing-{next(numbers)}")


def get_attributes(top: Path) -> None:
    buffer = ctypes.create_string_buffer(256)
    checked(LIBC.statx(AT_FDCWD, bytes(top / FILE), FORCE_SYNC, 0x7FF, buffer))


def read(top: Path) -> None:
    with opened(top / FILE) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(descriptor, 10, 0)


def list_folder(top: Path) -> None:
    with opened(top / "data/many", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        # Listings are kept in the page cache too.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert len(os.listdir(descriptor)) == 120


def ioctl(top: Path) -> None:
    with opened(top / FILE) as descriptor:
        number = errno_of_call(lambda: fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8)))
    if number != errno.ENOTTY:
        raise OSError(number, "no flags")


CALLS: dict[str, Callable[[Path], None]] = {
    "lookup": look_up,
    "getattr": get_attributes,
    "readlink": lambda top: require(os.readlink(top / "data/link") == "run.sh"),
    "read": read,
    "statfs": lambda top: require(os.statvfs(top).f_namemax == 255),
    "readdirplus": list_folder,
    "ioctl": ioctl,
}


def require(holds: bool) -> None:
    assert holds


@dataclass(frozen=True)
class Failing:
    """A mount, and the file that says what fails in it."""

    mount: Mounted
    plan: Path

    def processes(self) -> str:
        pid = self.mount.record.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text()


@pytest.fixture(scope="module")
def mount(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    folder = tmp_path_factory.mktemp("planted")
    clone = published.repository.clone(folder / "clone", folder / "home")
    plan = failing(clone)
    with clone.mounted("v1", None, "--workers", "2") as mounted:
        yield Failing(mounted, plan)


@pytest.mark.parametrize("when", ["now", "later"])
@pytest.mark.parametrize("handler", CALLS)
def test_a_bug_in_a_handler_is_eio_for_that_call_alone(
    mount: Failing, handler: str, when: str
) -> None:
    top, call = mount.mount.path, CALLS[handler]
    for known in CALLS.values():
        known(top)
    before = mount.processes()
    for error in ERRORS:
        with planted(mount.plan, handler, error, when):
            assert named(errno_of_call(lambda: call(top))) == "EIO", error
            for other in CALLS.keys() - {handler}:
                CALLS[other](top)
        call(top)
    assert mount.processes() == before


@pytest.mark.parametrize("when", ["now", "later"])
def test_a_bug_in_opening_a_folder_that_moves_is_eio_and_the_next_one_opens(
    clone: Clone, when: str
) -> None:
    plan = failing(clone)
    clone.git("branch", "moving", "v1")
    with clone.mounted("moving", None, "--follow") as mounted:
        mount = Failing(mounted, plan)
        listed = os.listdir(mounted.path)
        assert "README.md" in listed
        before = mount.processes()
        for error in ERRORS:
            with planted(plan, "opendir", error, when):
                assert named(errno_of_call(lambda: os.listdir(mounted.path))) == "EIO", error
            with planted(plan, "releasedir", error, when):
                assert os.listdir(mounted.path) == listed
        assert mount.processes() == before


def test_a_bug_in_the_process_that_fetches_is_eio_and_it_goes_on(in_bucket: InBucket) -> None:
    plan = failing(in_bucket.clone)
    with in_bucket.clone.mounted("v1", None, "--timeout", "2") as mounted:
        mount = Failing(mounted, plan)
        before = mount.processes()
        files = iter(sorted((mounted.path / "data/many").iterdir()))
        for error, path in zip(ERRORS, files, strict=False):
            with planted(plan, "keeper-fetch", error, "now"):
                assert named(errno_of_call(path.read_bytes)) == "EIO", error
        assert next(files).read_bytes()
        assert mount.processes() == before


def test_a_request_that_ends_every_process_that_takes_it_is_refused_in_the_end(
    clone: Clone, published: Published
) -> None:
    plan = failing(clone)
    with clone.mounted("v1", None, "--workers", "2", "--timeout", "2") as mounted:
        assert (mounted.path / "README.md").read_text()
        began = time.monotonic()
        with planted(plan, "read", KILL, "later"):
            assert named(errno_of_call((mounted.path / FILE).read_bytes)) == "EIO"
        # The timeout, and a pause before the next process is started.
        assert time.monotonic() - began < 20
        assert "each process that took it has ended" in mounted.log
        expected = (published.checkouts / "v1" / FILE).read_bytes()
        assert (mounted.path / FILE).read_bytes() == expected
