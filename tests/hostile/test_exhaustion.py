"""A mount whose machine gives it no more descriptors, memory or inodes: calls fail with an errno,
or are served from the remote, and all is well when there is room again."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hostile.bucket_parts import FIRST, OTHER, SECOND, SMALL, TEXT
from tests.hostile.test_hostile_buckets import processes_of
from tests.hostile.test_hostile_repositories import assert_log_is_harmless
from tests.hostile.test_lying_servers import Lying, kept_bytes
from tests.hostile.test_lying_servers import lying as lying
from tests.hostile.test_lying_servers import served as served
from tests.mounted.repositories import Mounted, wait_until

CONTENTS = {
    "small": SMALL,
    "text": TEXT,
    "other": OTHER,
    "first": b"".join(FIRST),
    "second": b"".join(SECOND),
}
TIMEOUT = ("--timeout", "3")


@contextmanager
def limited(which: int, most: dict[int, int]) -> Iterator[None]:
    """No more of something than `most` says of each process."""
    before = {pid: resource.prlimit(pid, which) for pid in most}
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, which, (most[pid], hard))
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, which, limits)


def first_free_descriptor(pid: int) -> int:
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(used) + 1)) - used)


def address_space(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def try_all(mount: Mounted) -> int:
    """Read every file: the right bytes, or an errno. How many gave the right bytes."""
    right = 0
    for name, content in CONTENTS.items():
        try:
            found = (mount.path / name).read_bytes()
        except OSError:
            continue
        assert found == content
        right += 1
    return right


def assert_lives_and_recovers(mount: Mounted, pids: list[int]) -> None:
    assert [pid for pid in pids if not Path(f"/proc/{pid}").exists()] == []
    wait_until(lambda: try_all(mount) == len(CONTENTS))
    assert "small" in os.listdir(mount.path)


@pytest.mark.parametrize("spare", [0, 3])
def test_without_descriptors_reads_fail_and_the_mount_lives(lying: Lying, spare: int) -> None:
    with lying.clone.mounted("HEAD", None, *TIMEOUT) as mount:
        pids = processes_of(mount)
        most = {pid: first_free_descriptor(pid) + spare for pid in pids}
        with limited(resource.RLIMIT_NOFILE, most):
            assert spare or try_all(mount) < len(CONTENTS)
        assert_lives_and_recovers(mount, pids)


def test_without_memory_reads_fail_and_the_mount_lives(lying: Lying) -> None:
    with lying.clone.mounted("HEAD", None, *TIMEOUT) as mount:
        pids = processes_of(mount)
        # So much as each has got: any larger piece is refused.
        with limited(resource.RLIMIT_AS, {pid: address_space(pid) for pid in pids}):
            assert try_all(mount) < len(CONTENTS)
        assert_lives_and_recovers(mount, pids)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a tmpfs")
def test_without_inodes_in_the_cache_files_are_read_from_the_remote(lying: Lying) -> None:
    packs = lying.clone.cache / "packs"
    packs.mkdir(parents=True, mode=0o700)
    for folder in (lying.clone.cache, lying.clone.cache.parent):
        folder.chmod(0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "nr_inodes=2,mode=700", "tmpfs", packs], check=True
    )
    try:
        with lying.clone.mounted("HEAD", None, "--timeout", "20") as mount:
            assert try_all(mount) == len(CONTENTS)
            assert kept_bytes(lying.clone) == 0
            assert_log_is_harmless(mount.log)
            subprocess.run(["mount", "-o", "remount,nr_inodes=1000", packs], check=True)
            assert try_all(mount) == len(CONTENTS)
    finally:
        subprocess.run(["umount", packs], check=True)
