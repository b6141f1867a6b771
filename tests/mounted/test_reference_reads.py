"""Reads of every kind, drawn at random, on a mount of a bucket and on the plain files: no
difference. What is cached is evicted all the time, and what the kernel keeps is dropped between
reads, or not.

REVFS_EXAMPLES says how many examples are tried with each number of processes; a thousand take half
a minute:

    REVFS_EXAMPLES=1000 .venv/bin/python -m pytest -n 2 tests/mounted/test_reference_reads.py
"""

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.chunking import ChunkingParameters
from store.git_command import find_repository
from store.ids import PackName
from store.local_store import LocalStore
from store.remote import FORMAT_KEY
from store.remote_format import RemoteFormat, encode_remote_format
from store.store_settings import StoreSettings
from tests.fakes.s3_servers import S3Server
from tests.mounted.reference_reads import SHARES, Place, Read, Reader, Result
from tests.mounted.repositories import Clone, Mounted, make_repository

EXAMPLES = int(os.environ.get("REVFS_EXAMPLES", "80"))
SEED = 20261129
STORE = "0b8e0f5c-9f0e-4a43-8a57-0d6a2f2c4f11"
FINE = ChunkingParameters(4 << 10, 16 << 10, 64 << 10)
# So little that hardly a pack stays, and so often that most examples see it happen.
CACHE_BYTES, EVICTION_SECONDS = 100_000, 0.05
TIMEOUT_SECONDS = 30.0
WORKERS = (1, 2)


def write_pushes(top: Path) -> Iterator[None]:
    """Files of every kind, in several turns, so that they lie in several packs."""
    seed = random.Random(SEED)
    data = top / "data"
    (data / "many").mkdir(parents=True)
    (data / "empty").touch()
    for size in (1, 511, 512, 4095, 4096, 4097, 12_288):
        (data / f"{size}.bin").write_bytes(seed.randbytes(size))
    yield
    for number in range(40):
        (data / f"many/{number:02}").write_bytes(seed.randbytes(seed.randrange(1, 3000)))
    (data / "tool").write_bytes(b"#!/bin/sh\nexit 0\n" + seed.randbytes(20_000))
    (data / "tool").chmod(0o755)
    yield
    (data / "large.bin").write_bytes(seed.randbytes(1_000_001))
    (data / "to-large").symlink_to("large.bin")
    yield
    rows = (f"{number},{seed.random():.3f},label" for number in range(40_000))
    (data / "table.csv").write_text("\n".join(rows))
    (data / "to-folder").symlink_to("many")
    yield
    (data / "zeros").write_bytes(bytes(300_000))
    (data / "mixed.bin").write_bytes(bytes(65_536) + seed.randbytes(600_000) + bytes(4096))
    (top / "README").write_text("kept by git itself\n")
    (top / "plain.txt").write_bytes(b"a line of plain text\n" * 20_000)
    (top / "plain-tool").write_text("#!/bin/sh\nexit 7\n")
    (top / "plain-tool").chmod(0o755)
    yield


NAMES = (
    *("data/empty", "data/1.bin", "data/511.bin", "data/512.bin", "data/4095.bin"),
    *("data/4096.bin", "data/4097.bin", "data/12288.bin", "data/many/07", "data/many/39"),
    *("data/tool", "data/large.bin", "data/to-large", "data/table.csv", "data/to-folder/11"),
    *("data/zeros", "data/mixed.bin", "README", "plain.txt", "plain-tool"),
    *("data/missing", "README/below"),
)
LINKS = ("data/to-large", "data/to-folder", "data/large.bin", "data/missing")


@dataclass(frozen=True)
class Pair:
    """The same files, once on a mount of a bucket and once as they were written."""

    mounts: dict[int, Mounted]
    clones: dict[int, Clone]
    plain: Path


@pytest.fixture(scope="module")
def pair(rclone_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("reference")
    remote = folder / "remote"
    remote.mkdir()
    (remote / FORMAT_KEY).write_bytes(encode_remote_format(RemoteFormat(STORE, FINE)))
    repository = make_repository(folder, str(remote))
    # From the first push on the repository knows how its remote has files cut.
    for _ in write_pushes(repository.top):
        repository.revfs("add", "data")
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "-m", "more")
        repository.revfs("push")
    assert len([path for path in (remote / "packs").rglob("*") if path.is_file()]) >= 5
    bucket = folder.name.replace("_", "-")
    rclone_s3.make_bucket(bucket)
    assert rclone_s3.folder is not None
    shutil.copytree(remote, rclone_s3.folder / bucket, dirs_exist_ok=True)
    with contextlib.ExitStack() as stack:
        mounts, clones = {}, {}
        for workers in WORKERS:
            clone = repository.clone(folder / f"clone-{workers}", folder / f"home-{workers}")
            clone.revfs(
                *("remote", "add", "--local", "-d", "bucket", f"s3://{bucket}"),
                *("--endpoint", rclone_s3.endpoint, "--region", "us-east-1"),
            )
            mount = clone.mounted("main", None, "--workers", str(workers))
            mounts[workers], clones[workers] = stack.enter_context(mount), clone
        yield Pair(mounts, clones, repository.top)


NUMBERS = st.integers(0, 50)
PLACES = st.builds(
    Place,
    st.integers(0, SHARES + 1) | st.sampled_from((0, SHARES)),
    st.integers(-5000, 5000) | st.sampled_from((-4096, -1, 0, 1, 4096)),
)
LENGTHS = st.integers(0, 9000) | st.sampled_from((0, 1, 4096, 65_536, 131_072, 300_000, 2_000_000))
MANY_LENGTHS = st.lists(LENGTHS, min_size=1, max_size=5).map(tuple)
WHENCES = st.sampled_from((os.SEEK_SET, os.SEEK_DATA, os.SEEK_HOLE))


def reads_by(method: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Read]:
    return st.tuples(*arguments).map(lambda drawn: Read(method, drawn))


OPENS = reads_by("open", st.sampled_from(NAMES), st.booleans())
READS = st.one_of(
    OPENS,
    reads_by("dup", NUMBERS),
    reads_by("close", NUMBERS),
    reads_by("pread", NUMBERS, PLACES, LENGTHS),
    reads_by("preadv", NUMBERS, PLACES, MANY_LENGTHS),
    reads_by("readv", NUMBERS, MANY_LENGTHS),
    reads_by("seek", NUMBERS, PLACES, WHENCES),
    reads_by(
        "seek_by", NUMBERS, st.integers(-5000, 5000), st.sampled_from((os.SEEK_CUR, os.SEEK_END))
    ),
    reads_by("sendfile", NUMBERS, st.none() | PLACES, LENGTHS),
    reads_by("map", NUMBERS, PLACES, LENGTHS, st.booleans()),
    reads_by("peek", NUMBERS, PLACES, LENGTHS),
    reads_by("scribble", NUMBERS, PLACES),
    reads_by("last_page", NUMBERS),
    reads_by("link", st.sampled_from(LINKS)),
    reads_by("forget", NUMBERS),
)
# Some files are open from the start, so that most reads find one.
PROGRAMS = st.tuples(
    st.lists(OPENS, min_size=2, max_size=8), st.lists(READS, min_size=5, max_size=30)
).map(lambda parts: [*parts[0], *parts[1]])


def drop_pages(top: Path) -> None:
    """Have the kernel read all files anew."""
    for path in top.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def assert_same(mount: Path, plain: Path, programs: Sequence[Sequence[Read]]) -> None:
    def on_mount(reads: Sequence[Read]) -> list[Result]:
        return Reader(mount, past_the_cache=True).results(reads)

    with ThreadPoolExecutor(len(programs)) as pool:
        found = list(pool.map(on_mount, programs))
    for reads, results in zip(programs, found, strict=True):
        expected = Reader(plain, past_the_cache=False).results(reads)
        for read, ours, theirs in zip(reads, results, expected, strict=True):
            assert ours == theirs, read


@contextlib.contextmanager
def evicting(clone: Clone) -> Iterator[list[PackName]]:
    """Meanwhile, have another process's eviction drop all that is cached, again and again; yields
    the packs that it dropped."""
    paths = find_repository(clone.top)
    settings = StoreSettings(paths, None, None, clone.cache, CACHE_BYTES, TIMEOUT_SECONDS)
    dropped: list[PackName] = []
    done = threading.Event()

    def evict(local: LocalStore) -> None:
        while not done.wait(EVICTION_SECONDS):
            dropped.extend(use.pack for use in local.cache.evict())

    with LocalStore(settings, to_write=False) as local:
        thread = threading.Thread(target=evict, args=(local,))
        thread.start()
        try:
            yield dropped
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("workers", WORKERS)
def test_reads_of_any_kind_give_what_plain_files_give(pair: Pair, workers: int) -> None:
    mount = pair.mounts[workers]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(programs=st.lists(PROGRAMS, min_size=1, max_size=3), cold=st.booleans())
    def run(programs: list[list[Read]], cold: bool) -> None:
        if cold:
            drop_pages(mount.path)
        assert_same(mount.path, pair.plain, programs)

    with evicting(pair.clones[workers]) as dropped:
        run()
    assert dropped
    assert "ERROR" not in mount.log
