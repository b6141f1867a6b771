"""What a mount costs the link: nothing to look, little for a little, once for many."""

import mmap
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fakes.s3_servers import S3Server
from tests.fakes.tcp_proxy import TcpProxy
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import commit_version, make_repository, wait_until

LARGE_BYTES = 24 << 20
# Headers, the index object, the manifest and the format object.
TABLES_BYTES = 200_000


def stat_everything(top: Path) -> int:
    count = 0
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            os.lstat(os.path.join(folder, name))
            count += 1
    return count


def test_listing_and_stat_of_everything_fetch_no_data(in_bucket: InBucket) -> None:
    with in_bucket.clone.mounted("v1") as mount:
        assert stat_everything(mount.path) > 130
        os.readlink(mount.path / "data/link")
        (mount.path / "README.md").read_text()
        for path in (mount.path / "data/many").iterdir():
            path.open("rb").close()
        assert mount.fetched_bytes() == 0
    assert in_bucket.proxy.down_bytes < TABLES_BYTES


def test_fifty_readers_of_one_absent_file_fetch_it_once(in_bucket: InBucket) -> None:
    with in_bucket.clone.mounted("v1") as mount:
        path = mount.path / "data/many/050.bin"
        size = path.stat().st_size

        def read_directly(_: int) -> bytes:
            # Past the page cache, which would let one of them ask for all.
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
            try:
                with mmap.mmap(-1, 32 << 10) as buffer:
                    return buffer[: os.preadv(descriptor, [buffer], 0)]
            finally:
                os.close(descriptor)

        with ThreadPoolExecutor(50) as pool:
            read = set(pool.map(read_directly, range(50)))
        assert [len(content) for content in read] == [size]
        assert mount.fetched_bytes() == size


def test_a_little_of_a_large_file_costs_a_little(rclone_s3: S3Server, tmp_path: Path) -> None:
    rclone_s3.make_bucket("large-file")
    content = random.Random(9).randbytes(LARGE_BYTES)
    with TcpProxy(rclone_s3.address) as proxy:
        repository = make_repository(
            tmp_path, "s3://large-file", "--endpoint", proxy.endpoint, "--region", "us-east-1"
        )
        (repository.top / "data").mkdir()
        (repository.top / "data/large.bin").write_bytes(content)
        commit_version(repository, "v1")
        repository.revfs("push")
        reader = repository.clone(tmp_path / "clone", tmp_path / "reader")
        before = proxy.down_bytes
        with reader.mounted("v1") as mount:
            descriptor = os.open(mount.path / "data/large.bin", os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
                middle = LARGE_BYTES // 2
                assert os.pread(descriptor, 4096, middle) == content[middle : middle + 4096]
            finally:
                os.close(descriptor)
            assert 0 < mount.fetched_bytes() <= 8 << 20
        assert proxy.down_bytes - before <= 8 << 20


def test_what_was_read_once_is_read_again_without_the_remote(in_bucket: InBucket) -> None:
    with in_bucket.clone.mounted("v1") as mount:
        content = (mount.path / "data/large.bin").read_bytes()
        mount.wait_until_fetched(len(content))
    with in_bucket.clone.mounted("v1") as mount:
        assert (mount.path / "data/large.bin").read_bytes() == content
        assert mount.fetched_bytes() == 0


def test_a_small_cache_evicts_while_it_is_read_and_is_never_wrong(
    in_bucket: InBucket, published: Published
) -> None:
    clone = in_bucket.clone
    checkout = published.checkouts / "v2"
    names = ["data/large.bin", *(f"data/many/{number:03}.bin" for number in range(2, 120))]

    def assert_right(top: Path) -> None:
        assert all((top / name).read_bytes() == (checkout / name).read_bytes() for name in names)

    def cached_bytes() -> int:
        paths = (clone.cache / "packs").rglob("*")
        return sum(path.stat().st_blocks * 512 for path in paths if path.is_file())

    with clone.mounted("v2", None, "--cache-size", "1MiB") as mount:
        assert_right(mount.path)
        wait_until(lambda: cached_bytes() < 9_000_000)
        assert_right(mount.path)
    with clone.mounted("v2", None, "--cache-size", "1MiB") as mount:
        assert_right(mount.path)
        mount.wait_until_fetched(1)


def test_reading_a_file_whole_tells_how_much_is_cached(in_bucket: InBucket) -> None:
    with in_bucket.clone.mounted("v1") as mount:
        size = len((mount.path / "data/large.bin").read_bytes())
        mount.wait_until_fetched(size)
        (listed,) = in_bucket.clone.mounts()
        assert listed["state"] == "alive"
        assert listed["cached_bytes"] >= size
        assert listed["fetched_bytes"] >= size
        assert listed["mountpoint"] == str(mount.path)
    assert in_bucket.clone.mounts() == []


def test_many_small_files_cost_little_more_than_their_bytes(in_bucket: InBucket) -> None:
    with in_bucket.clone.mounted("v1") as mount:
        paths = sorted((mount.path / "data/many").iterdir())
        with ThreadPoolExecutor(8) as pool:
            total = sum(len(content) for content in pool.map(Path.read_bytes, paths))
        proxy = in_bucket.proxy
        assert proxy.down_bytes < 1.2 * (9_000_001 + total) + 2_000_000
        assert total > 1_000_000
