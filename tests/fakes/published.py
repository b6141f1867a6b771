"""A version of data files, pushed to a bucket in this process, and clones with empty caches."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from store.local_store import LocalStore
from tests.fakes.buckets import FINE, Bucket, to
from tests.fakes.repositories import (
    Repository,
    add,
    bucket_remote,
    make_repository,
    open_local,
    push,
)


@dataclass(frozen=True)
class Published:
    """A repository whose HEAD is pushed to `bucket`; `contents` are its tracked files by path."""

    repository: Repository
    bucket: Bucket
    contents: Mapping[bytes, bytes]

    @contextlib.contextmanager
    def cloned(self, folder: Path) -> Iterator[tuple[Repository, LocalStore]]:
        """A fresh clone below `folder`, in whose git no filter is set up, and its open store."""
        clone = self.repository.clone(folder / "clone")
        with open_local(clone, folder / "cache", bucket_remote()) as local:
            yield clone, local


def publish(folder: Path, contents: Mapping[bytes, bytes], executable: bytes = b"") -> Published:
    """Add, commit and push files of these contents, which are cut fine."""
    repository = make_repository(folder / "origin")
    bucket = Bucket()
    for path, content in contents.items():
        place = repository.write(path, content)
        place.chmod(0o755 if path == executable else 0o644)
        # Not of this second, which git would have to be waited for.
        os.utime(place, (10**9, 10**9))
    with open_local(repository, folder / "origin-cache", bucket_remote()) as local:
        add(repository, local, chunking=FINE)
        repository.commit()
        trio.run(partial(push, local, to(bucket)))
    return Published(repository, bucket, contents)
