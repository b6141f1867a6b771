"""Readers that are killed while their bytes are on the way from a remote that has fallen silent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.tcp_proxy import Link
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import fall_silent

# It is a second where nothing else runs, and less than the 30 for which the read would wait.
SECONDS_TO_GO = 5
MAPPED = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); m[0]"
READERS = {
    "read": ("cat",),
    "read ahead": ("dd", "bs=1M", "status=none"),
    "mmap": (sys.executable, "-c", MAPPED),
    "sendfile": (
        sys.executable,
        "-c",
        "import os, sys; os.sendfile(os.memfd_create('x'), os.open(sys.argv[1], 0), 0, 9)",
    ),
}


def start(command: tuple[str, ...], path: Path) -> "subprocess.Popen[bytes]":
    file = f"if={path}" if command[0] == "dd" else str(path)
    return subprocess.Popen(
        [*command, file],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def seconds_until_gone(process: "subprocess.Popen[bytes]") -> float:
    """Let it get stuck, kill it, and wait for its end."""
    time.sleep(1)
    assert process.poll() is None, "it is not stuck"
    began = time.monotonic()
    process.kill()
    assert process.wait(40) == -signal.SIGKILL
    return time.monotonic() - began


@pytest.mark.parametrize("kind", READERS)
def test_a_killed_reader_is_gone_at_once_and_the_mount_goes_on(
    in_bucket: InBucket, published: Published, kind: str
) -> None:
    name = "data/large.bin" if kind == "read ahead" else "data/many/090.bin"
    with in_bucket.clone.mounted("v1") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        took = seconds_until_gone(start(READERS[kind], mount.path / name))
        assert took < SECONDS_TO_GO
        assert len(os.listdir(mount.path / "data/many")) == 120
        in_bucket.proxy.set_link(Link())
        in_bucket.proxy.cut_connections()
        expected = (published.checkouts / "v1" / name).read_bytes()
        assert (mount.path / name).read_bytes() == expected
        assert "ERROR" not in mount.log


def test_a_killed_reader_past_the_page_cache_is_gone_when_its_read_ends(
    in_bucket: InBucket,
) -> None:
    with in_bucket.clone.mounted("v1", None, "--timeout", "3") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        direct = ("dd", "bs=4096", "count=1", "iflag=direct", "status=none")
        took = seconds_until_gone(start(direct, mount.path / "data/many/090.bin"))
        assert took < 3 + SECONDS_TO_GO
