"""What a mount holds is what `git checkout` of the same version would have made, to every tool."""

import contextlib
import errno
import fcntl
import mmap
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import ODD_NAMES
from tests.mounted.trees import summaries

VERSIONS = ("v1", "v2")
Trees = dict[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def trees(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trees]:
    """version → (mount, checkout), both versions mounted side by side over one cache."""
    folder = tmp_path_factory.mktemp("side-by-side")
    clone = published.repository.clone(folder / "clone", folder / "home")
    with contextlib.ExitStack() as stack:
        yield {
            version: (
                stack.enter_context(clone.mounted(version)).path,
                published.checkouts / version,
            )
            for version in VERSIONS
        }


def assert_like_checkout(mounts: dict[str, Path], checkouts: Path) -> None:
    for version, mount in mounts.items():
        expected = summaries(checkouts / version)
        assert {b"data/odd/" + name for name in ODD_NAMES} <= expected.keys()
        assert summaries(mount) == expected


def test_two_versions_side_by_side_equal_their_checkouts(
    trees: Trees, published: Published
) -> None:
    assert_like_checkout({name: pair[0] for name, pair in trees.items()}, published.checkouts)
    assert summaries(trees["v1"][0]) != summaries(trees["v2"][0])


def test_versions_streamed_from_a_bucket_equal_their_checkouts(
    in_bucket: InBucket, published: Published
) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as first, clone.mounted("v2") as second:
        assert_like_checkout({"v1": first.path, "v2": second.path}, published.checkouts)
    # A second time with everything cached, and nobody to ask.
    in_bucket.proxy.close()
    with clone.mounted("v1", None, "--timeout", "2") as first:
        assert_like_checkout({"v1": first.path}, published.checkouts)


def output(*command: str | Path, cwd: Path | None = None) -> bytes:
    """What a tool prints; it must succeed and have nothing to complain about."""
    completed = subprocess.run(command, cwd=cwd, capture_output=True, timeout=60)
    assert (completed.returncode, completed.stderr) == (0, b""), completed
    return completed.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_diff_is_silent(trees: Trees, version: str) -> None:
    mount, checkout = trees[version]
    assert output("diff", "-r", "--no-dereference", mount, checkout) == b""


LISTERS = (
    ("find", ".", "-printf", "%p %y %s %l\\n"),
    ("find", ".", "-type", "f", "-exec", "md5sum", "{}", "+"),
    ("find", ".", "-executable", "-print"),
    ("ls", "-aR"),
    ("du", "--apparent-size", "--block-size=1", "data/many/000.bin", "data/large.bin"),
)


@pytest.mark.parametrize("command", LISTERS, ids=lambda command: " ".join(command)[:20])
def test_tools_that_list_say_the_same_of_mount_and_checkout(
    trees: Trees, command: tuple[str, ...]
) -> None:
    mount, checkout = trees["v1"]

    def lines(top: Path) -> list[bytes]:
        # The sizes of folders are each file system's own matter.
        found = output(*command, cwd=top).splitlines()
        return sorted(b"" if b" d " in line else line for line in found)

    listed = lines(mount)
    assert listed == lines(checkout)
    assert len(listed) > 0


def test_a_long_listing_has_true_sizes_and_modes(trees: Trees) -> None:
    mount, checkout = trees["v1"]
    listed = output("ls", "-laR", "--time-style=+%s", mount)
    for path, (kind, executable, _) in summaries(checkout).items():
        name = os.path.basename(path)
        if kind == "file" and name.isalnum():
            size = (checkout / os.fsdecode(path)).stat().st_size
            lines = [line for line in listed.splitlines() if line.endswith(b" " + name)]
            modes = {line.split()[0] for line in lines if int(line.split()[4]) == size}
            assert (b"-r-xr-xr-x" if executable else b"-r--r--r--") in modes


def copy_by_tar(mount: Path, target: Path) -> None:
    archive = output("tar", "-C", mount, "-cf", "-", ".")
    subprocess.run(["tar", "-C", target, "-xf", "-"], input=archive, check=True)


def copy_by_cp(mount: Path, target: Path) -> None:
    output("cp", "-r", "--no-dereference", "--preserve=mode,links", f"{mount}/.", target)


def copy_by_rsync(mount: Path, target: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    output("rsync", "-a", f"{mount}/", f"{target}/")


@pytest.mark.parametrize("copy", [copy_by_tar, copy_by_cp, copy_by_rsync])
def test_tools_that_copy_make_the_checkout(
    trees: Trees, tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    mount, checkout = trees["v2"]
    target = tmp_path / "copy"
    target.mkdir()
    copy(mount, target)
    assert summaries(target) == summaries(checkout)


def same_reads(mount: Path, checkout: Path, flags: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """What seeded reads of any place and length get, of the mount and of the checkout."""
    seed = random.Random(5)
    names = ["data/large.bin", "data/table.csv", "data/many/007.bin", "plain-large.txt"]
    for name in names:
        with contextlib.ExitStack() as stack:
            ours, theirs = (
                stack.enter_context(open(top / name, "rb", buffering=0, opener=opener(flags)))
                for top in (mount, checkout)
            )
            size = os.fstat(theirs.fileno()).st_size
            for _ in range(80):
                offset = seed.randrange(0, size + 5000)
                length = int(2 ** seed.uniform(0, 21))
                yield (
                    os.pread(ours.fileno(), length, offset),
                    os.pread(theirs.fileno(), length, offset),
                )


def opener(flags: int) -> Callable[[str, int], int]:
    return lambda path, mode: os.open(path, mode | flags)


def test_reads_at_random_places_get_what_plain_files_hold(trees: Trees) -> None:
    reads = list(same_reads(*trees["v1"]))
    assert all(ours == theirs for ours, theirs in reads)
    assert any(theirs == b"" for _, theirs in reads)


def test_direct_reads_at_random_places_bypass_the_page_cache_and_agree(trees: Trees) -> None:
    mount, checkout = trees["v2"]
    seed = random.Random(6)
    whole = (checkout / "data/large.bin").read_bytes()
    descriptor = os.open(mount / "data/large.bin", os.O_RDONLY | os.O_DIRECT)
    try:
        for _ in range(100):
            length = 4096 * seed.randrange(1, 300)
            offset = 512 * seed.randrange(0, len(whole) // 512 + 4)
            with mmap.mmap(-1, length) as buffer:
                got = os.preadv(descriptor, [buffer], offset)
                assert buffer[:got] == whole[offset : offset + length]
    finally:
        os.close(descriptor)


def test_a_file_mapped_into_memory_is_the_file(trees: Trees) -> None:
    mount, checkout = trees["v1"]
    with open(mount / "data/large.bin", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with mapped:
        assert mapped[:] == (checkout / "data/large.bin").read_bytes()


def test_sendfile_copies_the_file_and_copy_file_range_says_that_it_cannot(
    trees: Trees, tmp_path: Path
) -> None:
    mount, checkout = trees["v2"]
    whole = (checkout / "data/large.bin").read_bytes()
    with open(mount / "data/large.bin", "rb") as source, open(tmp_path / "sent", "wb") as target:
        while os.sendfile(target.fileno(), source.fileno(), None, 1 << 20):
            pass
        # The kernel copies ranges within one file system only; who asks falls back to reading.
        with pytest.raises(OSError) as raised:
            os.copy_file_range(source.fileno(), target.fileno(), 4096, 0)
    assert raised.value.errno == errno.EXDEV
    assert (tmp_path / "sent").read_bytes() == whole


def test_blocks_are_as_many_as_the_size_needs(trees: Trees) -> None:
    mount, checkout = trees["v1"]
    for path in checkout.rglob("*"):
        status = (mount / path.relative_to(checkout)).lstat()
        if not stat.S_ISDIR(status.st_mode):
            assert (status.st_blocks - 1) * 512 < status.st_size <= status.st_blocks * 512


def test_reading_at_and_past_the_end_gives_nothing(trees: Trees) -> None:
    mount, _ = trees["v1"]
    for name in ("data/large.bin", "data/many/003.bin", "data/empty", "plain-large.txt"):
        with open(mount / name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            assert os.pread(file.fileno(), 100, size) == b""
            assert os.pread(file.fileno(), 100, size + (1 << 40)) == b""
            assert len(os.pread(file.fileno(), 100, max(0, size - 7))) == min(7, size)


def test_a_thousand_open_files_read_by_many_threads_at_once(trees: Trees) -> None:
    mount, checkout = trees["v1"]
    names = [path.name for path in sorted((checkout / "data/many").iterdir())]
    expected = {name: (checkout / "data/many" / name).read_bytes() for name in names}
    with contextlib.ExitStack() as stack:
        files = [
            (name, stack.enter_context(open(mount / "data/many" / name, "rb", buffering=0)))
            for name in names * 8
        ]
        assert len(files) > 900
        with ThreadPoolExecutor(16) as pool:
            got = list(pool.map(lambda pair: pair[1].read(1 << 20), files))
    assert all(content == expected[name] for (name, _), content in zip(files, got, strict=True))


def test_links_are_followed_inside_the_mount(trees: Trees) -> None:
    mount, _ = trees["v1"]
    assert (mount / "data/link").read_text().endswith("echo ran\n")
    assert (mount / "data/link-to-folder/b/c/file").read_text() == "deep down"
    assert not (mount / "data/dangling").exists()


def test_an_executable_file_runs(trees: Trees) -> None:
    mount, _ = trees["v1"]
    assert output(mount / "data/run.sh") == b"ran\n"
    assert subprocess.run([mount / "tool"]).returncode == 7


def test_the_root_has_the_commit_s_time_and_the_user_as_its_owner(
    trees: Trees, published: Published
) -> None:
    when = int(published.repository.git("log", "-1", "--format=%ct", "v2"))
    for name in ("", "data", "data/large.bin", "README.md"):
        status = (trees["v2"][0] / name).stat()
        assert (status.st_mtime, status.st_uid, status.st_gid) == (when, os.getuid(), os.getgid())


def test_inode_numbers_are_stable_and_each_entry_has_its_own(trees: Trees) -> None:
    def inodes(top: Path) -> dict[str, int]:
        found = {"": top.stat().st_ino}
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                path = os.path.join(folder, name)
                found[path] = os.lstat(path).st_ino
        return found

    mount, _ = trees["v1"]
    first = inodes(mount)
    assert len(set(first.values())) == len(first)
    assert first[""] == 1
    assert inodes(mount) == first
    with os.scandir(mount / "data/many") as scan:
        assert {entry.path: entry.inode() for entry in scan}.items() <= first.items()


def test_locks_of_readers_work_on_a_mount(trees: Trees) -> None:
    with open(trees["v1"][0] / "README.md", "rb") as file, open(file.name, "rb") as other:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
