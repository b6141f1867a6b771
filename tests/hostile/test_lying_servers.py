"""Mounts over servers that lie: the right bytes or EIO in time, nothing wrong kept, and right again
as soon as the server is."""

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.lying_server import Liar, serve_liar
from tests.hostile.bucket_parts import OTHER, SMALL, TEXT
from tests.hostile.buckets import HostileBucket, make_honest
from tests.hostile.lying_buckets import BUCKET, LIES, LyingBucket, redirect_to, serve
from tests.hostile.test_hostile_repositories import assert_log_is_harmless
from tests.mounted.repositories import Clone, Mounted, wait_until

TIMEOUT_SECONDS = 2
FAILED_AGAIN_SECONDS = 0.7
# The deadline, and less than another one on top, on a machine that is busy.
SECONDS_TO_FAIL = TIMEOUT_SECONDS + 5.0


@dataclass(frozen=True)
class Lying:
    """A user of an honest version, and the server that can be made to lie."""

    made: HostileBucket
    clone: Clone
    bucket: LyingBucket


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HostileBucket, Liar]]:
    """An honest repository, whose remote is the server."""
    with pytest.MonkeyPatch.context() as patch, serve_liar() as liar:
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
        made = make_honest(tmp_path_factory.mktemp("honest"))
        place = (f"s3://{BUCKET}", "--endpoint", liar.endpoint, "--region", "us-east-1")
        assert made.repository.revfs("-q", "remote", "add", "--local", "-d", "liar", *place) == 0
        yield made, liar


@pytest.fixture
def lying(served: tuple[HostileBucket, Liar], tmp_path: Path) -> Lying:
    """Somebody who uses it, with an empty cache; the server is honest."""
    made, liar = served
    clone = Clone(made.repository.top, tmp_path / "home")
    return Lying(made, clone, serve(liar, made.remote))


def errno_of_read(path: Path) -> int:
    began = time.monotonic()
    with pytest.raises(OSError) as raised:
        path.read_bytes()
    assert time.monotonic() - began < SECONDS_TO_FAIL
    return raised.value.errno or 0


def asks_on(bucket: LyingBucket) -> bool:
    """Whether more is asked for while nothing is read."""
    before = len(bucket.told)
    time.sleep(0.5)
    return len(bucket.told) > before


def kept_bytes(clone: Clone) -> int:
    """What the files of the pack cache take on the disk."""
    packs = [path for path in (clone.cache / "packs").rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in packs)


def assert_heals(mount: Mounted, lying: Lying) -> None:
    lying.bucket.lie = None
    for name, content in {"small": SMALL, "other": OTHER, "text": TEXT}.items():
        wait_until(partial(is_right, mount.path / name, content), seconds=30)


def is_right(path: Path, content: bytes) -> bool:
    """Whether a file can be read; if it can, it must be what it should be."""
    try:
        found = path.read_bytes()
    except OSError:
        return False
    assert found == content
    return True


@pytest.fixture(scope="module")
def mounted(
    served: tuple[HostileBucket, Liar], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lying, Mounted]]:
    """A mount for all lies, over a server that says nothing true of the data."""
    made, _ = served
    lying = Lying(
        made, Clone(made.repository.top, tmp_path_factory.mktemp("home")), LyingBucket(made.remote)
    )
    with lying.clone.mounted("HEAD", None, "--timeout", str(TIMEOUT_SECONDS)) as mount:
        yield lying, mount


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_eio_in_time_and_nothing_of_it_is_kept(
    mounted: tuple[Lying, Mounted], served: tuple[HostileBucket, Liar], name: str
) -> None:
    lying, mount = mounted
    served[1].answer = lying.bucket.answer
    lying.bucket.lie, lying.bucket.told = LIES[name], []
    # A read that failed fails again at once for a moment, without a look at the server.
    time.sleep(FAILED_AGAIN_SECONDS)
    already = len(mount.log)
    assert errno_of_read(mount.path / "small") == errno.EIO
    assert lying.bucket.told
    assert kept_bytes(lying.clone) == 0
    assert (mount.path / "plain").read_bytes() == b"kept by git itself\n"
    log = mount.log[already:]
    assert_log_is_harmless(log)
    assert [line for line in log.splitlines() if " ERROR " in line and "reading small" in line]


def test_after_a_lie_a_mount_is_right_as_soon_as_the_server_is(lying: Lying) -> None:
    with lying.clone.mounted("HEAD", None, "--timeout", str(TIMEOUT_SECONDS)) as mount:
        lying.bucket.lie = LIES["forged"]
        assert errno_of_read(mount.path / "small") == errno.EIO
        assert sorted(os.listdir(mount.path))[-1] == "text"
        assert_heals(mount, lying)


def test_a_redirect_to_another_host_is_not_followed(lying: Lying) -> None:
    with (
        serve_liar() as elsewhere,
        lying.clone.mounted("HEAD", None, "--timeout", str(TIMEOUT_SECONDS)) as mount,
    ):
        serve(elsewhere, lying.made.remote)
        lying.bucket.lie = redirect_to(elsewhere.endpoint)
        assert errno_of_read(mount.path / "small") == errno.EIO
        assert lying.bucket.told
        assert elsewhere.requests == []
        assert kept_bytes(lying.clone) == 0
        # A bucket that lies elsewhere is asked for once a minute, and when somebody logs in.
        Path(lying.clone.environment["AWS_SHARED_CREDENTIALS_FILE"]).touch()
        assert_heals(mount, lying)


def test_a_list_without_an_end_is_given_up_in_time(lying: Lying) -> None:
    lying.bucket.endless = True
    with lying.clone.mounted("HEAD", None, "--timeout", str(TIMEOUT_SECONDS)) as mount:
        assert errno_of_read(mount.path / "small") == errno.EIO
        assert lying.bucket.told
        # Nor does anything go on asking that nobody waits for.
        wait_until(lambda: not asks_on(lying.bucket))
        lying.bucket.endless = False
        assert_heals(mount, lying)
