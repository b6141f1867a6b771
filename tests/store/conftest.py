"""What the tests of several modules of `store` start from: an open git repository, its local store,
a bucket to push to, a server that lies, and the files of a configuration."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.git import GitRepository
from store.git_command import find_repository
from store.local_store import LocalStore
from tests.fakes.buckets import Bucket
from tests.fakes.collected import Actor, Time, actor, timed_bucket
from tests.fakes.config_files import ConfigFiles
from tests.fakes.lying_server import Liar, serve_liar
from tests.fakes.repositories import Repository, bucket_remote, open_local


@pytest.fixture
def opened(repository: Repository) -> Iterator[GitRepository]:
    """The test's repository, opened."""
    opened = GitRepository(find_repository(repository.top))
    yield opened
    opened.close()


@pytest.fixture
def bucket() -> Bucket:
    """An empty bucket, which is the remote of `local`."""
    return Bucket()


@pytest.fixture
def local(
    request: pytest.FixtureRequest, repository: Repository, tmp_path: Path
) -> Iterator[LocalStore]:
    """The repository's local store; its remote is a bucket where the test asks for one."""
    remote = bucket_remote() if "bucket" in request.fixturenames else None
    with open_local(repository, tmp_path / "cache", remote) as local:
        yield local


@pytest.fixture
def time() -> Time:
    """The time of `who` and of the bucket that he pushes to."""
    return Time()


@pytest.fixture
def who(repository: Repository, tmp_path: Path, time: Time) -> Iterator[Actor]:
    """A clone with a cache, and a bucket that it pushes to."""
    with actor(repository, tmp_path / "cache", timed_bucket(time), time) as who:
        yield who


@pytest.fixture
def liar() -> Iterator[Liar]:
    """A server that says what the test tells it to."""
    with serve_liar() as liar:
        yield liar


@pytest.fixture
def files(tmp_path: Path) -> ConfigFiles:
    """The configuration files of a new repository and of somebody who has none yet."""
    top = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", top], check=True)
    return ConfigFiles(find_repository(top), {"HOME": str(tmp_path / "someone")})
