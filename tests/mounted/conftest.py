"""Real mounts: what they need of the machine, data to mount, and that nothing of them is left."""

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from store.local_folders import MOUNT_TYPE, mounted_file_systems
from tests.fakes.s3_servers import S3Server
from tests.fakes.tcp_proxy import TcpProxy
from tests.mounted.repositories import (
    Clone,
    commit_version,
    detach_quietly,
    end_process,
    make_repository,
    make_twin,
    write_first_version,
    write_second_version,
)
from vfs.mount_records import process_start

SEED = 20261123


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Skip where nothing can be mounted; fail at the end where a mount or process is left."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        pytest.skip(f"/dev/fuse cannot be opened: {error.strerror}")
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    base = str(tmp_path_factory.getbasetemp())
    yield
    mounts = [
        place
        for place, kind in mounted_file_systems()
        if kind == MOUNT_TYPE and place.startswith(base)
    ]
    processes = list(_processes_of(base))
    for pid in processes:
        end_process(pid, process_start(pid))
    for place in mounts:
        detach_quietly(Path(place))
    assert not mounts, "mounts were left behind"
    assert not processes, "processes were left behind"


def _processes_of(base: str) -> Iterator[int]:
    """The processes of `revfs mount` that were told to mount below `base`."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"\0mount\0" in words and os.fsencode(base) in words:
            yield int(entry.name)


@dataclass(frozen=True)
class Published:
    """A repository with the tags v1 and v2, pushed to `remote` (a folder); `checkouts` has a folder
    of each version's name with what `git checkout` makes of a twin that tracks the files."""

    repository: Clone
    remote: Path
    checkouts: Path


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Two versions of files of every kind. Not to be changed: clone it."""
    folder = tmp_path_factory.mktemp("published")
    remote, checkouts = folder / "remote", folder / "checkouts"
    remote.mkdir()
    repository = make_repository(folder, str(remote))
    twin = Clone(folder / "twin", folder / "home")
    seed = random.Random(SEED)
    for tag, write in (("v1", write_first_version), ("v2", write_second_version)):
        write(repository.top, seed)
        commit_version(repository, tag)
        make_twin(repository, twin, tag)
        twin.git("clone", "--quiet", "--branch", tag, twin.top, checkouts / tag)
        shutil.rmtree(checkouts / tag / ".git")
    repository.revfs("push", "--all")
    return Published(repository, remote, checkouts)


@pytest.fixture
def clone(published: Published, tmp_path: Path) -> Clone:
    """A fresh clone of the published repository, with an empty cache."""
    return published.repository.clone(tmp_path / "clone", tmp_path / "home")


@dataclass(frozen=True)
class InBucket:
    """A clone whose default remote is a bucket behind a proxy; `folder` holds its objects."""

    clone: Clone
    proxy: TcpProxy
    folder: Path


@pytest.fixture
def in_bucket(
    published: Published, clone: Clone, rclone_s3: S3Server, tmp_path: Path
) -> Iterator[InBucket]:
    """The published data in a bucket of its own, copied there as it is."""
    bucket = f"test-{tmp_path.name.lower().replace('_', '-')}"[:60].strip("-")
    rclone_s3.make_bucket(bucket)
    assert rclone_s3.folder is not None
    folder = rclone_s3.folder / bucket
    shutil.copytree(published.remote, folder, dirs_exist_ok=True)
    with TcpProxy(rclone_s3.address) as proxy:
        clone.revfs(
            *("remote", "add", "--local", "-d", "bucket", f"s3://{bucket}"),
            *("--endpoint", proxy.endpoint, "--region", "us-east-1"),
        )
        yield InBucket(clone, proxy, folder)
