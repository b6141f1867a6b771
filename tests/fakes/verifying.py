"""`verify` and its repair over a remote of the test's own."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from store.copies import FindsCopies
from store.errors import RemoteError, RemoteUnavailable
from store.local_store import LocalStore
from store.opening import WrapRemote
from store.remote import FORMAT_KEY
from store.remote_format import RemoteFormat, encode_remote_format
from store.verification import Verification
from store.verify import verify_remote
from store.verify_opening import VerifyOptions, open_verification
from store.verify_repair import RepairPlan, plan_repair
from tests.fakes.buckets import FINE, Bucket, to, version
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    bucket_remote,
    commits_of,
    open_local,
    push,
    random_bytes,
)

STORE = "11111111-2222-4333-8444-555555555555"
FIRST = {b"a": b"one", b"d/large": random_bytes(150_000, 1), b"d/other": random_bytes(90_000, 2)}
SECOND = {**FIRST, b"b": b"two", b"a": b"another"}


async def verify(
    local: LocalStore, wrap_remote: WrapRemote, *texts: str, read: bool = False, every: bool = False
) -> Verification:
    """What `verify_remote` finds of revisions (HEAD if none) and their history."""
    async with open_verification(local, VerifyOptions(read, every), wrap_remote) as opened:
        commits = commits_of(local.repository, *texts)
        return await verify_remote(opened.context, commits, NoProgress())


async def repair(
    local: LocalStore,
    wrap_remote: WrapRemote,
    *texts: str,
    read: bool = True,
    others: Sequence[FindsCopies] = (),
) -> RepairPlan:
    """Verify revisions (HEAD if none) and their history, and repair what can be; the plan."""
    async with open_verification(local, VerifyOptions(read), wrap_remote) as opened:
        commits = commits_of(local.repository, *texts)
        found = await verify_remote(opened.context, commits, NoProgress())
        context = opened.repair_context(found, "revfs test", others)
        plan = await plan_repair(found, context, NoProgress())
        await plan.execute(lambda total_bytes: NoProgress())
        return plan


def named(local: LocalStore, found: Verification) -> dict[str, set[bytes]]:
    """key → paths of the files that are hurt, for each finding."""
    return {f.place: set(f.paths(local.directories)) for f in found.findings.all()}


@dataclass(frozen=True)
class TwoVersions:
    """A repository whose tags v1 (FIRST) and v2 (SECOND) are pushed to `bucket`; `cache` is that of
    the machine that pushed, `clone` has pointers alone."""

    repository: Repository
    clone: Repository
    bucket: Bucket
    cache: Path

    @contextmanager
    def pushing_machine(self, folder: Path) -> Iterator[LocalStore]:
        """The store of the machine that pushed, with a copy of its cache as it was then."""
        shutil.copytree(self.cache, folder)
        with open_local(self.repository, folder, bucket_remote()) as local:
            yield local

    @contextmanager
    def another_machine(self, folder: Path) -> Iterator[LocalStore]:
        """The store of the clone, with an empty cache."""
        with open_local(self.clone, folder, bucket_remote()) as local:
            yield local

    def only_key(self, prefix: str, among: Mapping[str, object] | None = None) -> str:
        """The only key with that prefix."""
        (key,) = (k for k in (among or self.bucket.objects) if k.startswith(prefix))
        return key


class FrankBucket(Bucket):
    """A bucket that says at once, and once for all, that an object ends before a range does: nobody
    waits for it to grow."""

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        try:
            return await super().fetch_range(key, start, length, timeout_seconds=timeout_seconds)
        except RemoteUnavailable as error:
            raise RemoteError(str(error)) from error


def fine_bucket(store: str = STORE) -> Bucket:
    """An empty bucket whose files are cut fine."""
    bucket = FrankBucket()
    bucket.objects[FORMAT_KEY] = encode_remote_format(RemoteFormat(store, FINE)), 0.0
    return bucket


def publish_two_versions(repository: Repository, folder: Path) -> TwoVersions:
    """Add, commit, tag and push both versions."""
    bucket, cache = fine_bucket(), folder / "pusher-cache"
    with open_local(repository, cache, bucket_remote()) as local:
        for tag, contents in (("v1", FIRST), ("v2", SECOND)):
            names = {path.decode().replace("/", "__"): raw for path, raw in contents.items()}
            version(repository, local, **names)
            repository.git("tag", tag)
            trio.run(partial(push, local, to(bucket)))
    clone = repository.clone(folder / "pointers")
    return TwoVersions(repository, clone, bucket, cache)
