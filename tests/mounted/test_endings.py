"""How mounts end: on a signal, on `revfs unmount`, from outside, or by a crash."""

import contextlib
import dataclasses
import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.tcp_proxy import Link
from tests.mounted.conftest import InBucket
from tests.mounted.repositories import Clone, Mounted, fall_silent, is_in_tree, wait_until
from vfs.mount_records import process_start
from vfs.mountpoints import is_dead

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The grace of five seconds and what a busy machine needs to take the mount down: much less than the
# thirty seconds for which the reads would wait.
END_SECONDS = 20


def end_in_time(process: "subprocess.Popen[str]", number: int) -> int:
    """The exit code after a signal, which must come in time."""
    process.send_signal(number)
    return process.wait(END_SECONDS)


def assert_nothing_left(clone: Clone, place: Path) -> None:
    assert not is_in_tree(place)
    assert list(place.iterdir()) == []
    assert clone.records.load(place) is None


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_an_idle_mount_with_exit_code_0(clone: Clone, number: int) -> None:
    place = clone.fresh_mountpoint()
    with clone.serving("v1", place) as process:
        assert (place / "README.md").read_text() == "kept by git itself\n"
        began = time.monotonic()
        assert end_in_time(process, number) == 0
        # Nobody reads, so nobody is waited for.
        assert time.monotonic() - began < 3
        assert_nothing_left(clone, place)


@contextlib.contextmanager
def stuck_readers(place: Path, count: int = 4) -> Iterator[list[int | None]]:
    """Readers that wait for a silent remote, each for his own bytes; what they got in the end."""
    results: list[int | None] = []
    paths = sorted((place / "data/many").iterdir())[10:90:20]

    def read(number: int) -> int | None:
        large = number >= len(paths)
        try:
            with (place / "data/large.bin" if large else paths[number]).open("rb") as file:
                os.pread(file.fileno(), 1, (number - len(paths)) * 40_000 if large else 0)
        except OSError as error:
            return error.errno
        return None

    with ThreadPoolExecutor(count) as pool:
        reads = [pool.submit(read, number) for number in range(count)]
        time.sleep(0.3 if count < 100 else 2)
        assert not any(waiting.done() for waiting in reads)
        yield results
        results += [waiting.result(5) for waiting in reads]


@pytest.mark.parametrize("number", SIGNALS[:1], ids=lambda number: number.name)
def test_a_signal_ends_a_mount_whose_readers_are_stuck(in_bucket: InBucket, number: int) -> None:
    place = in_bucket.clone.fresh_mountpoint()
    with in_bucket.clone.serving("v1", place) as process:
        (place / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        with stuck_readers(place) as results:
            assert end_in_time(process, number) == 0
        assert None not in results
        assert len(results) == 4
        assert_nothing_left(in_bucket.clone, place)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_a_mount_with_two_hundred_stuck_readers(
    in_bucket: InBucket, workers: str
) -> None:
    place = in_bucket.clone.fresh_mountpoint()
    with in_bucket.clone.serving("v1", place, "--workers", workers) as process:
        (place / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        with stuck_readers(place, 200) as results:
            assert end_in_time(process, signal.SIGTERM) == 0
            assert_nothing_left(in_bucket.clone, place)
        assert None not in results
        assert len(results) == 200


def test_readers_that_get_their_bytes_within_the_grace_have_them(in_bucket: InBucket) -> None:
    place = in_bucket.clone.fresh_mountpoint()
    with in_bucket.clone.serving("v1", place) as process:
        (place / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        with stuck_readers(place) as results:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            in_bucket.proxy.set_link(Link())
            assert process.wait(END_SECONDS) == 0
        assert results == [None] * 4


def test_an_impatient_second_signal_does_not_leave_a_dead_mount(in_bucket: InBucket) -> None:
    place = in_bucket.clone.fresh_mountpoint()
    with in_bucket.clone.serving("v1", place) as process:
        (place / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        with stuck_readers(place):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert end_in_time(process, signal.SIGTERM) == 0
        assert_nothing_left(in_bucket.clone, place)


def test_unmount_ends_an_idle_mount_and_says_so(clone: Clone) -> None:
    with clone.mounted("v1") as mount:
        assert str(mount.path) in clone.revfs("unmount", mount.path)
        assert mount.is_gone()
        assert list(mount.path.iterdir()) == []
        assert re.search(r"INFO .*unmounted", mount.log)
        assert "no revision is mounted" in clone.fails("unmount", mount.path)


def test_unmount_ends_a_mount_whose_readers_are_stuck(in_bucket: InBucket) -> None:
    with in_bucket.clone.mounted("v1") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        with stuck_readers(mount.path):
            in_bucket.clone.revfs("unmount", mount.path)
            assert mount.is_gone()


def test_unmount_takes_a_busy_mount_down(clone: Clone) -> None:
    with clone.mounted("v1") as mount, (mount.path / "data/table.csv").open("rb") as file:
        file.read(10)
        clone.revfs("unmount", mount.path)
        assert mount.is_gone()


def test_unmount_by_a_link_and_by_a_relative_path_works(clone: Clone) -> None:
    link = clone.home / "link"
    with clone.mounted("v1") as mount:
        link.symlink_to(mount.path)
        clone.revfs("unmount", link)
        assert mount.is_gone()
    with clone.mounted("v1", clone.fresh_mountpoint()) as mount:
        clone.revfs("-C", mount.path.parent, "unmount", f"./{mount.path.name}/")
        assert mount.is_gone()


def kill(mount: Mounted) -> None:
    os.kill(mount.record.pid, signal.SIGKILL)
    wait_until(mount.has_ended)
    # The last of its threads lets go of the mount.
    wait_until(lambda: is_dead(mount.path))


def assert_broken(place: Path) -> None:
    """Every look at a dead mount is an error, never an empty folder."""
    for look in (lambda: os.listdir(place), lambda: (place / "README.md").read_bytes()):
        with pytest.raises(OSError) as raised:
            look()
        assert raised.value.errno == errno.ENOTCONN


def test_a_killed_mount_is_broken_and_the_next_mount_clears_it(clone: Clone) -> None:
    with clone.mounted("v1") as mount:
        kill(mount)
        assert_broken(mount.path)
        (listed,) = clone.mounts()
        assert listed["state"] == "dead"
        with clone.mounted("v2", mount.path) as again:
            assert (again.path / "data/empty").read_text() == "no longer"
            assert [entry["revision"] for entry in clone.mounts()] == ["v2"]
        assert not is_in_tree(mount.path)


def test_a_killed_mount_is_cleared_through_a_link_too(clone: Clone) -> None:
    link = clone.home / "link"
    with clone.mounted("v1") as mount:
        link.symlink_to(mount.path)
        kill(mount)
        clone.revfs("mount", "v2", link)
        assert (mount.path / "data/empty").read_text() == "no longer"


def test_unmount_clears_a_killed_mount(clone: Clone) -> None:
    with clone.mounted("v1") as mount:
        kill(mount)
        clone.revfs("unmount", mount.path)
        assert mount.is_gone()
        assert list(mount.path.iterdir()) == []


@pytest.mark.parametrize("command", [("umount",), ("fusermount3", "-u")], ids=" ".join)
def test_an_unmount_from_outside_ends_the_process_cleanly(
    clone: Clone, command: tuple[str, ...]
) -> None:
    place = clone.fresh_mountpoint()
    with clone.serving("v1", place) as process:
        subprocess.run([*command, place], check=True)
        assert process.wait(END_SECONDS) == 0
        assert_nothing_left(clone, place)


def test_a_mount_detached_in_use_leaves_its_successor_alone(clone: Clone) -> None:
    place = clone.fresh_mountpoint()
    with clone.mounted("v1", place) as first, (place / "data/table.csv").open("rb") as file:
        subprocess.run(["umount", "--lazy", place], check=True)
        with clone.mounted("v2", place) as second:
            assert len(file.read()) == len((place / "data/table.csv").read_bytes())
            file.close()
            wait_until(first.has_ended)
            assert is_in_tree(place)
            assert second.load_record() == second.record
            assert (place / "data/empty").read_text() == "no longer"


@pytest.mark.parametrize("ends", ["just now", "before"])
def test_unmount_leaves_the_next_mount_of_the_same_number_alone(clone: Clone, ends: str) -> None:
    """The kernel gives the number of a mount that is gone to the next one."""
    gone = clone.fresh_mountpoint()
    with clone.mounted("v1") as mount:
        behind = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
        try:
            record = dataclasses.replace(
                mount.record,
                mountpoint=str(gone),
                first_mountpoint=str(gone),
                pid=behind.pid,
                pid_started=process_start(behind.pid) or 0,
                control="",
            )
            clone.records.write(record)
            if ends == "before":
                behind.kill()
                behind.wait()
                assert "no revision is mounted" in clone.fails("unmount", gone)
            else:
                clone.revfs("unmount", gone)
        finally:
            behind.kill()
            behind.wait()
        assert (mount.path / "data/table.csv").stat().st_size > 0
        assert mount.load_record() == mount.record
        assert [listed["mountpoint"] for listed in clone.mounts()] == [str(mount.path)]
