"""Mounts over servers that lie: the right bytes or EIO in time, nothing wrong kept, and right again
as soon as the server is."""

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.lying_server import Liar, serve_liar
from tests.hostile.bucket_parts import OTHER, SMALL, TEXT
from tests.hostile.buckets import HostileBucket, make_honest
from tests.hostile.lying_buckets import BUCKET, LIES, LyingBucket, redirect_to, serve
from tests.hostile.test_hostile_repositories import assert_log_is_harmless
from tests.mounted.repositories import Clone, Mounted, wait_until

TIMEOUT_SECONDS = 2
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
    expected = {"small": SMALL, "other": OTHER, "text": TEXT}

    def is_right() -> bool:
        try:
            return (mount.path / "small").read_bytes() == SMALL
        except OSError:
            return False

    wait_until(is_right)
    for name, content in expected.items():
        assert (mount.path / name).read_bytes() == content


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_eio_in_time_and_nothing_of_it_is_kept(lying: Lying, name: str) -> None:
    with lying.clone.mounted("HEAD", None, "--timeout", str(TIMEOUT_SECONDS)) as mount:
        lying.bucket.lie = LIES[name]
        assert errno_of_read(mount.path / "small") == errno.EIO
        assert lying.bucket.told
        assert sorted(os.listdir(mount.path))[-1] == "text"
        assert (mount.path / "plain").read_bytes() == b"kept by git itself\n"
        assert kept_bytes(lying.clone) == 0
        assert_heals(mount, lying)
        assert_log_is_harmless(mount.log)
        (line,) = [line for line in mount.log.splitlines() if "reading small" in line]
        assert " ERROR " in line


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
