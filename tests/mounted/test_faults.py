"""Damage and trouble in the remote: right bytes or an error, in time, and the log says why."""

import errno
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.s3_servers import RcloneServer, S3Server
from tests.fakes.tcp_proxy import Link
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Clone, Mounted, fall_silent, wait_until

TIMEOUT = ("--timeout", "2")
# The deadline, and less than another one on top: nobody waits for two.
SECONDS_TO_FAIL = 2 + 1.8


def tracked_files(checkout: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted((checkout / "data").rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            yield path.relative_to(checkout), path.read_bytes()


def read_or_errno(path: Path) -> bytes | int:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.errno or 0


def flip_a_byte_of_every_pack(folder: Path, seed: random.Random) -> int:
    packs = [path for path in (folder / "packs").rglob("*") if path.is_file()]
    for path in packs:
        content = bytearray(path.read_bytes())
        # Before the table at the end, which readers do not read from the pack.
        content[seed.randrange(16, len(content) * 9 // 10)] ^= 1 << seed.randrange(8)
        path.write_bytes(content)
    return len(packs)


def assert_right_or_refused(mount: Mounted, published: Published, version: str) -> int:
    """Read everything; how many files were refused."""
    refused = 0
    for path, content in tracked_files(published.checkouts / version):
        got = read_or_errno(mount.path / path)
        assert got in (content, errno.EIO), path
        refused += got == errno.EIO
    return refused


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_byte_in_every_pack_of_a_bucket_is_never_served(
    in_bucket: InBucket, published: Published, seed: int
) -> None:
    assert flip_a_byte_of_every_pack(in_bucket.folder, random.Random(seed)) > 1
    with in_bucket.clone.mounted("v2", None, *TIMEOUT) as mount:
        refused = assert_right_or_refused(mount, published, "v2")
        assert len(list(re.finditer(r"ERROR .*reading \S+ failed: ", mount.log))) >= refused
        assert refused > 0


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_byte_in_every_pack_of_a_folder_is_never_served(
    published: Published, clone: Clone, tmp_path: Path, seed: int
) -> None:
    remote = tmp_path / "damaged"
    shutil.copytree(published.remote, remote)
    flip_a_byte_of_every_pack(remote, random.Random(seed))
    clone.revfs("remote", "add", "--local", "-d", "damaged", str(remote))
    with clone.mounted("v2", None, *TIMEOUT) as mount:
        refused = assert_right_or_refused(mount, published, "v2")
        assert mount.log.count("ERROR") >= refused > 0


def test_packs_that_are_gone_fail_their_files_and_no_others(
    in_bucket: InBucket, published: Published
) -> None:
    shutil.rmtree(in_bucket.folder / "packs")
    with in_bucket.clone.mounted("v1", None, *TIMEOUT) as mount:
        expected = dict(tracked_files(published.checkouts / "v1"))
        assert assert_right_or_refused(mount, published, "v1") == len(expected)
        assert (mount.path / "README.md").read_text() == "kept by git itself\n"


def test_a_pack_cut_short_fails_what_lies_behind_the_cut(
    in_bucket: InBucket, published: Published
) -> None:
    for pack in (path for path in (in_bucket.folder / "packs").rglob("*") if path.is_file()):
        pack.write_bytes(pack.read_bytes()[:100])
    with in_bucket.clone.mounted("v1", None, *TIMEOUT) as mount:
        assert_fails_in_time(mount.path / "data/many/100.bin")
        assert (mount.path / "README.md").read_text() == "kept by git itself\n"


def test_damage_in_the_cache_is_fetched_again(in_bucket: InBucket, published: Published) -> None:
    expected = dict(tracked_files(published.checkouts / "v1"))
    with in_bucket.clone.mounted("v1") as mount:
        for path in expected:
            (mount.path / path).read_bytes()
    seed = random.Random(3)
    packs = (in_bucket.clone.cache / "packs").rglob("*")
    for pack in (path for path in packs if path.is_file() and path.stat().st_size):
        content = bytearray(pack.read_bytes())
        for _ in range(5):
            content[seed.randrange(len(content))] ^= 0xFF
        pack.write_bytes(content)
    with in_bucket.clone.mounted("v1") as mount:
        assert {path: (mount.path / path).read_bytes() for path in expected} == expected
        mount.wait_until_fetched(1)


def assert_fails_in_time(path: Path) -> None:
    began = time.monotonic()
    assert read_or_errno(path) == errno.EIO
    assert time.monotonic() - began < SECONDS_TO_FAIL


def assert_trouble_passes(mount: Mounted, published: Published) -> None:
    """With the remote in trouble since just now: what works and what does not, and that the log
    says why."""
    checkout = published.checkouts / "v1"
    assert_fails_in_time(mount.path / "data/many/100.bin")
    assert (mount.path / "data/large.bin").read_bytes() == (
        checkout / "data/large.bin"
    ).read_bytes()
    assert (mount.path / "data/many/101.bin").stat().st_size > 0
    assert len(os.listdir(mount.path / "data/many")) == 120
    (line,) = [line for line in mount.log.splitlines() if "data/many/100.bin" in line]
    assert re.search(r"ERROR .*chunk [0-9a-f]{64} in pack [0-9a-f]{32} at \d+: \S", line)


def assert_healed(mount: Mounted, published: Published) -> None:
    expected = dict(tracked_files(published.checkouts / "v1"))
    wait_until(lambda: read_or_errno(mount.path / "data/many/100.bin") != errno.EIO)
    assert {path: (mount.path / path).read_bytes() for path in expected} == expected


def test_a_remote_that_stops_fails_absent_files_in_time_and_heals(
    in_bucket: InBucket, published: Published, rclone_s3: S3Server
) -> None:
    assert isinstance(rclone_s3, RcloneServer)
    with in_bucket.clone.mounted("v1", None, *TIMEOUT) as mount:
        (mount.path / "data/large.bin").read_bytes()
        rclone_s3.stop()
        try:
            assert_trouble_passes(mount, published)
        finally:
            rclone_s3.start()
        assert_healed(mount, published)


def test_a_remote_that_falls_silent_fails_absent_files_in_time_and_heals(
    in_bucket: InBucket, published: Published
) -> None:
    with in_bucket.clone.mounted("v1", None, *TIMEOUT) as mount:
        (mount.path / "data/large.bin").read_bytes()
        fall_silent(in_bucket.proxy)
        assert_trouble_passes(mount, published)
        in_bucket.proxy.set_link(Link())
        in_bucket.proxy.cut_connections()
        assert_healed(mount, published)


def test_a_link_that_breaks_in_the_middle_of_answers_costs_tries_and_no_errors(
    in_bucket: InBucket, published: Published
) -> None:
    in_bucket.proxy.set_link(Link(down_bytes_per_second=8e6))
    with in_bucket.clone.mounted("v1") as mount:
        cuts = [threading.Timer(0.3 * number, in_bucket.proxy.cut_connections) for number in (1, 2)]
        for cut in cuts:
            cut.start()
        for path, content in tracked_files(published.checkouts / "v1"):
            assert (mount.path / path).read_bytes() == content
        for cut in cuts:
            cut.join()
        assert "ERROR" not in mount.log


def test_a_missing_git_object_fails_its_folder_alone_and_is_logged(clone: Clone) -> None:
    tree = clone.git("rev-parse", "v1:data/deep").strip()
    unpack_everything(clone)
    (clone.top / ".git/objects" / tree[:2] / tree[2:]).unlink()
    with clone.mounted("v1", None, *TIMEOUT) as mount:
        with pytest.raises(OSError) as raised:
            os.listdir(mount.path / "data/deep")
        assert raised.value.errno == errno.EIO
        assert len(os.listdir(mount.path / "data/many")) == 120
        assert re.search(f"ERROR .*{tree}", mount.log)


def unpack_everything(clone: Clone) -> None:
    packs = clone.top / ".git/objects/pack"
    aside = clone.home / "packs"
    packs.rename(aside)
    packs.mkdir()
    for pack in aside.glob("*.pack"):
        clone.run("sh", "-c", f"git unpack-objects -q < {pack}")
