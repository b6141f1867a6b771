"""Warming a mount: what was warmed is read for nothing, an order is kept ahead of, and what is read
can be recorded."""

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from store.messages import Kind, Message
from tests.fakes.s3_servers import S3Server
from tests.fakes.tcp_proxy import Link, TcpProxy
from tests.mounted import repositories
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import (
    REVFS,
    Clone,
    Mounted,
    commit_version,
    make_repository,
    wait_until,
)
from tests.mounted.test_processes import children, keeper, serving
from vfs.control import connect_now
from vfs.keeper_client import KeeperClient
from vfs.mount_records import process_start

FILES = 200
FILE_BYTES = 20_000


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches have a size: what is free on the disk does not matter."""
    made = repositories.environment_of

    def environment_of(home: Path) -> dict[str, str]:
        return made(home) | {"REVFS_CACHE_SIZE": "1GiB"}

    monkeypatch.setattr(repositories, "environment_of", environment_of)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def warmings(mount: Mounted) -> list[dict[str, Any]]:
    with KeeperClient(Path(mount.record.control)) as client:
        found: list[dict[str, Any]] = client.ask(Kind.WARMINGS)["warmings"]
    return found


def test_what_was_warmed_is_read_without_the_link(
    in_bucket: InBucket, published: Published
) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        said = clone.revfs("warm", mount.path, "data/many", "--wait")
        assert said.startswith("120 files are here (")
        before = in_bucket.proxy.down_bytes
        expected = read_files(published.checkouts / "v1/data/many")
        assert read_files(mount.path / "data/many") == expected
        assert in_bucket.proxy.down_bytes == before
        assert (mount.path / "data/large.bin").read_bytes()
        assert in_bucket.proxy.down_bytes > before + 8_000_000


def test_all_of_a_mount_is_warmed_where_no_path_is_named(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        clone.revfs("warm", mount.path, "--wait")
        in_bucket.proxy.set_link(Link(stall=True))
        for path in mount.path.rglob("*"):
            if path.is_file():
                path.read_bytes()
        assert mount.log.count("ERROR") == 0


def test_a_place_in_a_mount_stands_for_itself_and_for_where_paths_begin(
    in_bucket: InBucket,
) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        size = (mount.path / "data/deep/a/b/c/file").stat().st_size
        clone.revfs("warm", mount.path / "data/deep", "a/b", "--wait")
        clone.revfs("warm", mount.path / "data/deep/a", mount.path / "data/deep/a/b/c", "--wait")
        assert [found["done_bytes"] for found in warmings(mount)] == [size, size]
        assert "no-such is not in that revision" in clone.fails("warm", mount.path, "no-such")
        assert "../out lies outside of the mount" in clone.fails("warm", mount.path, "../out")
        assert "lies outside" in clone.fails("warm", mount.path, "/etc")
    assert "no revision is mounted on" in clone.fails("warm", mount.path)


def test_a_dead_remote_is_one_clear_line(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1", None, "--timeout", "2") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        in_bucket.proxy.close()
        said = clone.fails("warm", mount.path, "--wait")
        assert "Traceback" not in said
        assert in_bucket.proxy.endpoint in said or "127.0.0.1" in said or "answer" in said
        (listed,) = clone.mounts()
        assert listed["warming"] is None


def test_a_mount_that_warms_says_so_until_it_is_told_to_stop(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        in_bucket.proxy.set_link(Link(stall=True))
        assert "warming" in clone.revfs("warm", mount.path)
        wait_until(lambda: bool(warmings(mount)[0]["wanted_bytes"]))
        (listed,) = clone.mounts()
        assert listed["warming"]["wanted_bytes"] > 9_000_000
        assert listed["warming"]["done_bytes"] < listed["warming"]["wanted_bytes"]
        assert "alive, warming" in clone.revfs("mounts")
        assert clone.revfs("warm", mount.path, "--stop") == "stopped 1 warming\n"
        wait_until(lambda: warmings(mount)[0]["has_ended"])
        assert "nothing is being warmed" in clone.revfs("warm", mount.path, "--stop")
        in_bucket.proxy.set_link(Link())


def test_an_interrupted_wait_leaves_the_warming_going_on(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        in_bucket.proxy.set_link(Link(stall=True))
        waiting = subprocess.Popen(
            [REVFS, "warm", mount.path, "--wait"],
            env=clone.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: bool(warmings(mount)))
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=10)
        assert waiting.returncode == 130
        assert "what has begun goes on" in said
        in_bucket.proxy.set_link(Link())
        wait_until(lambda: warmings(mount)[0]["has_ended"])
        assert warmings(mount)[0]["error"] == ""


@pytest.mark.parametrize("killed", ["keeper", "serving"])
def test_a_killed_process_of_the_mount_does_not_end_the_warming(
    in_bucket: InBucket, killed: str
) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        (mount.path / "data/many/000.bin").read_bytes()
        in_bucket.proxy.set_link(Link(stall=True))
        waiting = subprocess.Popen([REVFS, "warm", mount.path, "--wait"], env=clone.environment)
        wait_until(lambda: bool(warmings(mount)))
        pid = keeper(mount) if killed == "keeper" else serving(mount)[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: process_start(pid) is None and len(children(mount)) == 2)
        in_bucket.proxy.set_link(Link())
        assert waiting.wait(20) == 0
        (found,) = warmings(mount)
        assert found["done_bytes"] == found["wanted_bytes"]


def test_what_is_told_to_the_socket_by_strangers_does_no_harm(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    seed = random.Random(3)
    with clone.mounted("v1") as mount:
        path = Path(mount.record.control)
        messages = [
            Message(kind, 1, body).to_bytes()
            for kind in [*range(40), 255]
            for body in (b"", b"\xff" * 9, seed.randbytes(70), b"9" * 5000)
            # Which asks for nothing that could be wrong.
            if kind not in (Kind.LEARN, Kind.STOP)
        ]
        for raw in [*messages, seed.randbytes(100_000), b"\xff" * 64]:
            with contextlib.suppress(ConnectionError), connect_now(path, 10) as stranger:
                stranger.sendall(raw)
        before = process_start(keeper(mount))
        clone.revfs("warm", mount.path, "data/deep", "--wait")
        assert process_start(keeper(mount)) == before
        assert "should not" not in mount.log


class Many(NamedTuple):
    """A repository of files of random bytes, one chunk each, in a bucket; `names` are shuffled."""

    repository: Clone
    names: list[str]
    proxy: TcpProxy


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, rclone_s3: S3Server) -> Iterator[Many]:
    rclone_s3.make_bucket("many-files")
    seed = random.Random(4)
    names = [f"data/{number // 50}/{number:03}" for number in range(FILES)]
    with TcpProxy(rclone_s3.address) as proxy:
        where = ("--endpoint", proxy.endpoint, "--region", "us-east-1")
        repository = make_repository(tmp_path_factory.mktemp("many"), "s3://many-files", *where)
        for name in names:
            (repository.top / name).parent.mkdir(parents=True, exist_ok=True)
            (repository.top / name).write_bytes(seed.randbytes(FILE_BYTES))
        commit_version(repository, "v1")
        repository.revfs("push")
        seed.shuffle(names)
        yield Many(repository, names, proxy)


@pytest.fixture
def many(pushed: Many, tmp_path: Path) -> Many:
    """A fresh clone of it, with an empty cache."""
    clone = pushed.repository.clone(tmp_path / "clone", tmp_path / "home")
    return pushed._replace(repository=clone)


def write_order(folder: Path, lines: list[str | bytes]) -> Path:
    path = folder / "order"
    path.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))
    return path


def fetched(mount: Mounted) -> int:
    return sum(found["fetched_bytes"] for found in warmings(mount))


def test_an_order_stays_ahead_of_its_reader_by_no_more_than_it_may(
    many: Many, tmp_path: Path
) -> None:
    ahead = 20 * FILE_BYTES
    clone = many.repository
    with clone.mounted("v1", None, "--workers", "2") as mount:
        order = write_order(tmp_path, [*many.names[:150], mount.path / many.names[150], "none"])
        completed = clone.run(
            REVFS, "warm", mount.path, "--order", order, "--ahead", str(ahead), "-q"
        )
        assert completed.stderr.count("\n") == 1
        assert "no file of the mount for 1 path, as none" in completed.stderr
        wait_until(lambda: fetched(mount) >= ahead * 3 // 4)
        assert mount.fetched_bytes() <= ahead
        for read, name in enumerate(many.names[:100], 1):
            (mount.path / name).read_bytes()
            assert fetched(mount) <= ahead + read * FILE_BYTES
        wait_until(lambda: fetched(mount) >= 115 * FILE_BYTES)
        assert warmings(mount)[0]["failed"] == 0


def test_what_was_recorded_is_the_order_of_the_next_run(many: Many, tmp_path: Path) -> None:
    clone = many.repository
    record = tmp_path / "the record"
    with clone.mounted("v1", None, "--workers", "3", "--record", str(record)) as mount:
        for name in many.names[:60]:
            (mount.path / name).read_bytes()
            (mount.path / many.names[0]).read_bytes()
        wait_until(lambda: len(record.read_text().splitlines()) == 60)
        for name in many.names[60:]:
            (mount.path / name).read_bytes()
        clone.revfs("unmount", mount.path)
    assert record.read_text().splitlines() == many.names
    assert record.stat().st_mode & 0o777 == 0o600
    reader = clone.clone(tmp_path / "next", tmp_path / "next-home")
    with reader.mounted("v1", None, "--order", str(record)) as mount:
        wait_until(lambda: bool(warmings(mount)) and warmings(mount)[0]["has_ended"])
        before = many.proxy.down_bytes
        for name in many.names:
            (mount.path / name).read_bytes()
        assert many.proxy.down_bytes == before


def test_a_mount_warms_and_records_from_the_start(in_bucket: InBucket, tmp_path: Path) -> None:
    clone = in_bucket.clone
    record = tmp_path / "record.z"
    options = ("--warm", "data/odd", "--warm", "data/deep", "--record", str(record))
    with clone.mounted("v1", None, *options) as mount:
        wait_until(lambda: bool(warmings(mount)) and warmings(mount)[0]["has_ended"])
        assert warmings(mount)[0]["files"] == 11
        (mount.path / os.fsdecode(b"data/odd/line\nbreak")).read_bytes()
        (mount.path / os.fsdecode(b"data/odd/not utf-8 \xff\xfe")).read_bytes()
        clone.revfs("unmount", mount.path)
    assert record.read_bytes() == b"data/odd/line\nbreak\0data/odd/not utf-8 \xff\xfe\0"
    place = clone.fresh_mountpoint()
    said = clone.fails("mount", "v1", place, "--warm", "nothing")
    assert "nothing is not in that revision" in said


def test_a_record_goes_on_with_the_next_keeper(many: Many, tmp_path: Path) -> None:
    clone = many.repository
    record = tmp_path / "record"
    with clone.mounted("v1", None, "--record", str(record)) as mount:
        for name in many.names[:30]:
            (mount.path / name).read_bytes()
        wait_until(lambda: len(record.read_text().splitlines()) == 30)
        pid = keeper(mount)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: process_start(pid) is None and len(children(mount)) == 2)
        for name in many.names[20:60]:
            (mount.path / name).read_bytes()
        clone.revfs("unmount", mount.path)
    assert record.read_text().splitlines() == many.names[:60]


def test_files_that_cannot_be_used_are_refused_and_nothing_is_mounted(
    clone: Clone, tmp_path: Path
) -> None:
    place = clone.fresh_mountpoint()
    existing = tmp_path / "both"
    existing.write_text("a\n")
    for options, said in (
        (("--record", tmp_path / "none/record"), "the record"),
        (("--record", place / "record"), "would lie in the mount"),
        (("--order", tmp_path / "none"), "cannot be read: No such file"),
        (("--order", existing, "--record", existing), "cannot be read as the order and written"),
        (("--warm", "../out"), "lies outside of the mount"),
    ):
        assert said in clone.fails("mount", "v1", place, *options)
        assert os.listdir(place) == []
    assert existing.read_text() == "a\n"


def test_mounts_that_move_are_warmed_as_they_are_now(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    place = clone.fresh_mountpoint()
    clone.revfs("mount", "--all", place)
    try:
        size = (place / "tags/v1/data/deep/a/b/c/file").stat().st_size
        commit = clone.git("rev-parse", "v2").strip()
        clone.revfs("warm", place, "tags/v1/data/deep", f"commits/{commit}/data/deep", "--wait")
        record = clone.records.load(place)
        assert record is not None
        (found,) = warmings(Mounted(place, record, clone.records))
        assert found["done_bytes"] == 2 * size
        assert "too many" in clone.fails("warm", place)
        assert "tags/v9 is not in that mount" in clone.fails("warm", place, "tags/v9")
    finally:
        clone.end_mount(place)
