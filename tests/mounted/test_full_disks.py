"""Disks without room, for real: under the cache, under the log of a mount, under the git directory,
under what is written. Reads go on, writes say so, nothing is left half, and room heals."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from store.spared_tables import spare_place
from tests.fakes.small_disks import SmallDisk, small_disk
from tests.fakes.tcp_proxy import Link
from tests.mounted.conftest import InBucket
from tests.mounted.repositories import REVFS, Clone, Mounted, wait_until

MakeDisk = Callable[..., SmallDisk]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes small disks; skips where nobody may mount any."""
    with ExitStack() as stack:
        # What stands in, in memory, for tables that had no room.
        stack.callback(shutil.rmtree, spare_place(tmp_path / "home/small/cache/index"), True)

        def make(path: Path, size: str = "8m", inodes: int = 0) -> SmallDisk:
            try:
                return stack.enter_context(small_disk(path, size, inodes))
            except PermissionError as error:
                pytest.skip(f"no tmpfs can be mounted: {error.strerror}")

        yield make


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def require_no_crash(mount: Mounted) -> None:
    assert "signal" not in mount.log
    assert "Traceback" not in mount.log
    assert not mount.has_ended()


def use_up_blocks(disk: SmallDisk) -> None:
    disk.fill()


@pytest.mark.parametrize("use_up", [use_up_blocks, SmallDisk.use_up_inodes])
def test_a_mount_over_a_full_cache_reads_on_and_keeps_again_when_there_is_room(
    in_bucket: InBucket,
    published_contents: dict[str, bytes],
    make_disk: MakeDisk,
    use_up: Callable[[SmallDisk], None],
) -> None:
    clone = in_bucket.clone
    disk = make_disk(clone.home / "small", "32m", 300)
    clone.environment["REVFS_CACHE_DIR"] = str(disk.path / "cache")
    clone.environment["REVFS_CACHE_SIZE"] = "20MiB"
    # There before: what is full already has no room for tables at all.
    clone.revfs("ls", "v1")
    with clone.mounted("v1") as mount:
        use_up(disk)
        assert contents(mount.path / "data") == published_contents
        require_no_crash(mount)
        disk.make_room()
        cached = clone.home / "small/cache/packs"
        deadline = time.monotonic() + 60

        def keeps_again() -> bool:
            clone.revfs("cat", "v1:data/table.csv")
            return any(cached.glob("??/*"))

        wait_until(keeps_again, deadline - time.monotonic())
    with clone.mounted("v2") as mount:
        contents(mount.path)
        require_no_crash(mount)


@pytest.fixture(scope="session")
def published_contents(published) -> dict[str, bytes]:  # type: ignore[no-untyped-def]
    """What the files of v1's `data` hold."""
    return contents(published.checkouts / "v1/data")


def test_a_cache_on_a_disk_that_is_full_before_it_is_made_is_refused_in_one_line(
    in_bucket: InBucket, make_disk: MakeDisk
) -> None:
    clone = in_bucket.clone
    disk = make_disk(clone.home / "small", "1m")
    clone.environment["REVFS_CACHE_DIR"] = str(disk.path / "cache")
    disk.fill()
    assert "no room to write" in clone.fails("cat", "v1:data/run.sh")
    disk.make_room()
    clone.revfs("cat", "v1:data/run.sh")


def test_a_mount_whose_log_cannot_be_written_goes_on(
    in_bucket: InBucket, published_contents: dict[str, bytes], make_disk: MakeDisk
) -> None:
    clone = in_bucket.clone
    clone.revfs("ls", "v1")
    disk = make_disk(clone.cache / "logs", "1m")
    place = clone.fresh_mountpoint()
    clone.revfs("mount", "--timeout", "1", "v1", place)
    try:
        disk.fill()
        in_bucket.proxy.set_link(Link(refuse=True))
        in_bucket.proxy.cut_connections()
        with pytest.raises(OSError, match="Input/output error"):
            (place / "data/large.bin").read_bytes()
        in_bucket.proxy.set_link(Link())
        wait_until(lambda: reads(place / "data/large.bin"), 30)
        assert contents(place / "data") == published_contents
        disk.make_room()
        assert clone.mounts()[0]["mountpoint"] == str(place)
    finally:
        clone.revfs("unmount", place)
    log = "".join(path.read_text() for path in disk.path.iterdir())
    assert "unmounted" in log


def reads(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


class SmallGit:
    """A repository whose git directory is on a small disk, and its work tree is not."""

    def __init__(self, folder: Path, disk: SmallDisk) -> None:
        self.disk = disk
        folder.mkdir()
        (folder / "top").mkdir()
        self.clone = Clone(folder / "top", folder / "home")
        self.git_dir = disk.path / "git"
        self.clone.git("init", "--quiet", "--separate-git-dir", self.git_dir)
        self.clone.revfs("init")
        (self.clone.top / "data").mkdir()
        (self.clone.top / "data/first").write_bytes(b"first")
        self.clone.revfs("add", "data")
        self.clone.git("add", "--all")
        self.clone.git("commit", "--quiet", "-m", "first")
        self.before = self.state()

    def state(self) -> tuple[str, list[str]]:
        """What git's index names, and the files of the folder of staged packs."""
        staged = sorted(path.name for path in (self.git_dir / "revfs/staged").iterdir())
        return self.clone.git("ls-files", "--stage"), staged

    def write_much(self) -> dict[str, bytes]:
        """More new data than the disk holds."""
        chance = random.Random(1)
        for number in range(20):
            (self.clone.top / f"data/{number}").write_bytes(chance.randbytes(700_000))
        return contents(self.clone.top / "data")


@pytest.fixture
def small_git(tmp_path: Path, make_disk: MakeDisk) -> SmallGit:
    return SmallGit(tmp_path / "work", make_disk(tmp_path / "small", "8m", 400))


def require_whole(small_git: SmallGit, wanted: dict[str, bytes]) -> None:
    """All is in git's index, and comes back from what is staged."""
    clone = small_git.clone
    assert "??" not in clone.git("status", "--porcelain", "--untracked-files=all")
    clone.git("fsck", "--strict")
    for name in wanted:
        (clone.top / "data" / name).unlink()
    clone.git("checkout", "--", "data")
    assert contents(clone.top / "data") == wanted


def test_add_into_a_full_git_directory_says_so_and_leaves_nothing_half(
    small_git: SmallGit,
) -> None:
    wanted = small_git.write_much()
    said = small_git.clone.fails("add", "data")
    assert "is full; make room and run it again" in said
    index, staged = small_git.state()
    assert index == small_git.before[0]
    # A pack that was whole before stays, as what the next run need not read again.
    assert not [name for name in staged if "." in name]
    assert small_git.clone.git("status", "--porcelain", "--untracked-files=no") == ""
    small_git.clone.run("mount", "-o", "remount,size=64m", small_git.disk.path)
    small_git.clone.revfs("add", "data")
    require_whole(small_git, wanted)


def test_git_add_into_a_full_git_directory_loses_nothing_that_git_took(
    small_git: SmallGit,
) -> None:
    wanted = small_git.write_much()
    done = small_git.clone.run("git", "add", "data", ok=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "full" in done.stderr
    assert small_git.state()[0] == small_git.before[0]
    small_git.clone.git("fsck", "--strict", "--no-dangling")
    small_git.clone.run("mount", "-o", "remount,size=64m", small_git.disk.path)
    small_git.clone.git("add", "data")
    require_whole(small_git, wanted)
    assert not list((small_git.git_dir / "revfs/staged").glob("*.*"))


@pytest.mark.parametrize(
    ("words", "use_up"),
    [
        ((REVFS, "add", "data"), SmallDisk.use_up_inodes),
        (("git", "add", "data"), use_up_blocks),
    ],
)
def test_a_git_directory_with_no_room_at_all_refuses_and_heals(
    small_git: SmallGit, use_up: Callable[[SmallDisk], None], words: tuple[str, ...]
) -> None:
    new = small_git.clone.top / "data/new"
    new.write_bytes(b"new")
    use_up(small_git.disk)
    done = small_git.clone.run(*words, ok=False)
    assert done.returncode == (1 if words[0] == REVFS else 128), done.stderr
    assert "Traceback" not in done.stderr
    small_git.disk.make_room()
    assert small_git.state() == small_git.before
    small_git.clone.run(*words)
    require_whole(small_git, {"first": b"first", "new": b"new"})


def test_push_with_a_full_cache_does_its_work(in_bucket: InBucket, make_disk: MakeDisk) -> None:
    clone = in_bucket.clone
    disk = make_disk(clone.home / "small", "8m")
    clone.environment["REVFS_CACHE_DIR"] = str(disk.path / "cache")
    clone.revfs("ls", "v1")
    clone.git("checkout", "--quiet", "-B", "work", "v2")
    (clone.top / "data/more").write_bytes(b"more" * 100_000)
    clone.revfs("add", "data/more")
    clone.git("commit", "--quiet", "-a", "-m", "more")
    disk.fill()
    clone.revfs("push")
    assert not list((clone.top / ".git/revfs/staged").iterdir())
    clone.environment["REVFS_CACHE_DIR"] = str(clone.home / "another-cache")
    assert clone.revfs("cat", "HEAD:data/more") == "more" * 100_000


def test_export_and_pull_into_a_full_disk_say_so_and_leave_no_half_file(
    in_bucket: InBucket, published_contents: dict[str, bytes], make_disk: MakeDisk
) -> None:
    clone = in_bucket.clone
    disk = make_disk(clone.home / "small", "4m")
    said = clone.fails("export", "v1", "data", disk.path / "out")
    assert "No space left" in said or "full" in said
    found = contents(disk.path / "out")
    assert found == {name: published_contents[name] for name in found}
    other = make_disk(clone.home / "small-top", "24m")
    small = clone.at(other.path / "top")
    clone.git("worktree", "add", "--quiet", "--detach", small.top, "v1")
    other.fill(1 << 20)
    done = small.run(REVFS, "pull", ok=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    found = contents(small.top / "data")
    whole = [name for name, content in found.items() if content == published_contents[name]]
    assert whole
    assert all(found[name].startswith(b"revfs 1\n") for name in found.keys() - set(whole))
    other.make_room()
    small.revfs("pull")
    assert contents(small.top / "data") == published_contents
