"""The processes of a mount: several serve as one does, and each of them may be killed."""

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Clone, Mounted, wait_until
from vfs.mount_records import process_start

READERS = 100
KILLS = 12


def children(mount: Mounted) -> list[int]:
    """The processes that the mount's own has started."""
    pid = mount.record.pid
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def is_serving(pid: int) -> bool:
    """Whether a process has the device open."""
    with contextlib.suppress(OSError):
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(opened) == "/dev/fuse":
                    return True
    return False


def serving(mount: Mounted) -> list[int]:
    return [pid for pid in children(mount) if is_serving(pid)]


def keeper(mount: Mounted) -> int:
    (found,) = [pid for pid in children(mount) if not is_serving(pid)]
    return found


def digests(top: Path) -> dict[str, str]:
    """name → hash of each file of `data/many`, and of a large one."""
    names = [f"data/many/{path.name}" for path in (top / "data/many").iterdir()]
    return {name: digest(top / name) for name in [*names, "data/large.bin"]}


def digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        # What the kernel has would not ask the mount.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def killing(mount: Mounted, seed: random.Random) -> Iterator[list[int]]:
    """Meanwhile, kill one serving process after the other; yields the list of those killed."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.05) and len(killed) < KILLS:
            pids = serving(mount)
            if pids:
                killed.append(seed.choice(pids))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("workers", [1, 4])
def test_a_hundred_readers_get_the_same_bytes_while_processes_are_killed(
    in_bucket: InBucket, published: Published, workers: int
) -> None:
    expected = digests(published.checkouts / "v1")
    names = sorted(expected)
    with in_bucket.clone.mounted("v1", None, "--workers", str(workers)) as mount:
        with killing(mount, random.Random(workers)) as killed:

            def read(number: int) -> bool:
                seed = random.Random(number)
                good = True
                until = time.monotonic() + 30
                while good and len(killed) < KILLS and time.monotonic() < until:
                    name = seed.choice(names)
                    good = digest(mount.path / name) == expected[name]
                return good

            with ThreadPoolExecutor(READERS) as pool:
                assert all(pool.map(read, range(READERS)))
        assert len(killed) == KILLS
        assert digests(mount.path) == expected
        assert process_start(mount.record.pid) == mount.record.pid_started


def test_as_many_processes_serve_as_were_asked_for(clone: Clone) -> None:
    for workers in (1, 3):
        with clone.mounted("v1", None, "--workers", str(workers)) as mount:
            assert len(serving(mount)) == workers
            assert len(children(mount)) == workers + 1
            pids = children(mount)
        assert [pid for pid in pids if process_start(pid) is not None] == []


def test_who_asks_one_process_and_then_another_hears_the_same(clone: Clone) -> None:
    with clone.mounted("v1", None, "--workers", "2") as mount:
        listed = {path: path.lstat().st_ino for path in sorted(mount.path.rglob("*"))}
        for pid in serving(mount):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(serving(mount)) == 2)
        # What the kernel still knows is not asked for.
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert {path: path.lstat().st_ino for path in sorted(mount.path.rglob("*"))} == listed


def test_a_keeper_that_is_killed_is_replaced_and_what_it_had_not_fetched_is_fetched(
    in_bucket: InBucket, published: Published
) -> None:
    name = "data/large.bin"
    expected = digest(published.checkouts / "v1" / name)
    with in_bucket.clone.mounted("v1") as mount:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(digest, mount.path / name)
            first = keeper(mount)
            os.kill(first, signal.SIGKILL)
            assert reading.result() == expected
        wait_until(lambda: keeper(mount) != first)
        assert (mount.path / "data/many/001.bin").read_bytes()


def test_the_children_end_with_their_parent_and_the_mount_is_broken(clone: Clone) -> None:
    with clone.mounted("v1", None, "--workers", "2") as mount:
        pids = children(mount)
        os.kill(mount.record.pid, signal.SIGKILL)
        wait_until(lambda: all(process_start(pid) is None for pid in pids))
        with pytest.raises(OSError, match="not connected"):
            os.listdir(mount.path)


def test_a_mount_that_moves_is_broken_when_the_process_that_knows_its_names_is_killed(
    clone: Clone,
) -> None:
    place = clone.fresh_mountpoint()
    clone.revfs("mount", "--all", place, "--workers", "4")
    try:
        record = clone.records.load(place)
        assert record is not None
        mount = Mounted(place, record, clone.records)
        (only,) = serving(mount)
        os.kill(only, signal.SIGKILL)
        wait_until(lambda: process_start(record.pid) is None)
        with pytest.raises(OSError, match="not connected"):
            os.listdir(place)
    finally:
        clone.end_mount(place)
