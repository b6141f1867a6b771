"""What the tests of git's verbs start from: published data, and a clone with an empty cache."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.s3_servers import S3Server
from tests.fakes.tcp_proxy import TcpProxy
from tests.mounted.repositories import Clone, make_repository

CONTENT = {f"data/{number:02}": bytes([number]) * (number * 40_000 + 1) for number in range(20)}
LARGE = bytes(range(256)) * 20_000
SECOND = b"the second version"


@dataclass(frozen=True)
class InBucket:
    """A clone with an empty cache, whose data is in a bucket behind a proxy of its own."""

    clone: Clone
    proxy: TcpProxy


@pytest.fixture(scope="session")
def in_bucket_origin(tmp_path_factory: pytest.TempPathFactory, rclone_s3: S3Server) -> Clone:
    """Two versions, tagged v1 and v2, pushed to a bucket. Not to be changed: clone it."""
    folder = tmp_path_factory.mktemp("in-bucket")
    rclone_s3.make_bucket("git-verbs")
    options = ("--endpoint", rclone_s3.endpoint, "--region", "us-east-1")
    origin = make_repository(folder, "s3://git-verbs/data", *options)
    (origin.top / "data").mkdir()
    for name, content in CONTENT.items():
        (origin.top / name).write_bytes(content)
    origin.revfs("add", "data")
    origin.git("add", "--all")
    origin.git("commit", "--quiet", "-m", "v1")
    origin.git("tag", "v1")
    (origin.top / "data/00").write_bytes(SECOND)
    (origin.top / "data/large").write_bytes(LARGE)
    origin.git("add", "data")
    origin.git("commit", "--quiet", "-m", "v2")
    origin.git("tag", "v2")
    origin.revfs("push")
    return origin


@pytest.fixture
def in_bucket(in_bucket_origin: Clone, rclone_s3: S3Server, tmp_path: Path) -> Iterator[InBucket]:
    """A clone of it, with git's filter set up."""
    clone = in_bucket_origin.clone(tmp_path / "clone", tmp_path / "home")
    clone.revfs("init")
    with TcpProxy(rclone_s3.address) as proxy:
        clone.revfs("remote", "modify", "--local", "origin", "--endpoint", proxy.endpoint)
        yield InBucket(clone, proxy)
