"""A mount below an overlay file system: what is changed above it is what would have become of plain
files, and the mount itself stays what it was.

The same with fio and stress-ng, for longer, is `scripts/torture-mount`.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mounted.conftest import Published
from tests.mounted.system_calls import LIBC, checked
from tests.mounted.trees import summaries

SEED = 20261130
CHANGES_OF_A_FILE = 400
CHANGES_OF_THE_TREE = 300
MOST_BYTES = 200_000
PUNCH_HOLE, KEEP_SIZE = 2, 1


@contextlib.contextmanager
def mounted_file_system(*arguments: str | Path) -> Iterator[None]:
    """Something mounted by mount(8). Skips where the kernel refuses it."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"THE OVERLAY IS NOT TESTED, it cannot be mounted here: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


@pytest.fixture
def overlay(published: Published, tmp_path: Path) -> Iterator[Path]:
    """The first version with an overlay over it; afterwards the version must be what it was."""
    clone = published.repository.clone(tmp_path / "clone", tmp_path / "home")
    above, merged = tmp_path / "above", tmp_path / "merged"
    for folder in (above, merged):
        folder.mkdir()
    with (
        clone.mounted("v1") as mount,
        mounted_file_system("-t", "tmpfs", "tmpfs", above),
    ):
        for name in ("upper", "work"):
            (above / name).mkdir()
        options = f"lowerdir={mount.path},upperdir={above}/upper,workdir={above}/work"
        with mounted_file_system(
            *("-t", "overlay", "overlay", "-o", f"{options},redirect_dir=on", merged)
        ):
            yield merged
        assert summaries(mount.path) == summaries(published.checkouts / "v1")
        assert "ERROR" not in mount.log


class Changed:
    """A file that is changed at random places, and what it must be by then."""

    def __init__(self, path: Path, expected: bytes, chance: random.Random) -> None:
        self._path = path
        self.expected = bytearray(expected)
        self._chance = chance

    def check(self) -> None:
        """Read at random, by read or a mapping."""
        start, end = self._range(len(self.expected))
        with self._path.open("rb") as file:
            assert os.fstat(file.fileno()).st_size == len(self.expected)
            assert os.pread(file.fileno(), end - start, start) == self.expected[start:end]
            if self.expected:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    assert mapped[start:end] == self.expected[start:end]

    def write(self) -> None:
        start, end = self._range(len(self.expected) + 5000)
        content = self._chance.randbytes(end - start)
        with self._path.open("r+b") as file:
            assert os.pwrite(file.fileno(), content, start) == len(content)
        self._lengthen(end if content else 0)
        self.expected[start:end] = content

    def append(self) -> None:
        content = self._chance.randbytes(self._chance.randrange(1, 3000))
        with self._path.open("ab") as file:
            file.write(content)
        self.expected += content

    def truncate(self) -> None:
        size = self._chance.choice((0, self._range(len(self.expected) + 20_000)[0]))
        os.truncate(self._path, size)
        del self.expected[size:]
        self._lengthen(size)

    def map_and_write(self) -> None:
        if not self.expected:
            return
        start, end = self._range(len(self.expected))
        content = self._chance.randbytes(end - start)
        with self._path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[start:end] = content
        self.expected[start:end] = content

    def zero(self) -> None:
        start, end = self._range(len(self.expected))
        if start < end:
            with self._path.open("r+b") as file:
                offset, length = ctypes.c_long(start), ctypes.c_long(end - start)
                mode = PUNCH_HOLE | KEEP_SIZE
                checked(LIBC.fallocate64(file.fileno(), mode, offset, length))
            self.expected[start:end] = bytes(end - start)

    def _range(self, size: int) -> tuple[int, int]:
        start = self._chance.randrange(size + 1)
        return start, min(size, start + int(2 ** self._chance.uniform(0, 17)))

    def _lengthen(self, size: int) -> None:
        self.expected += bytes(max(0, size - len(self.expected)))


@pytest.mark.parametrize(
    "name", ["data/large.bin", "data/table.csv", "data/many/007.bin", "data/empty", "README.md"]
)
def test_a_file_over_a_mount_is_changed_as_any_file(
    overlay: Path, published: Published, name: str
) -> None:
    chance = random.Random(f"{SEED} {name}")
    changed = Changed(overlay / name, (published.checkouts / "v1" / name).read_bytes(), chance)
    steps = (changed.write, changed.append, changed.truncate, changed.map_and_write, changed.zero)
    for _ in range(5):
        changed.check()
    for _ in range(CHANGES_OF_A_FILE):
        chance.choices(steps, (8, 2, 1, 6, 3))[0]()
        changed.check()
        if len(changed.expected) > 50 * MOST_BYTES:
            os.truncate(overlay / name, MOST_BYTES)
            del changed.expected[MOST_BYTES:]
    assert (overlay / name).read_bytes() == changed.expected


def change_of_a_tree(chance: random.Random, plain: Path) -> Callable[[Path], object]:
    """Any change, of what is there or of what is not."""
    there = [path.relative_to(plain) for path in sorted(plain.rglob("*"))]
    folders = [
        path for path in there if (plain / path).is_dir() and not (plain / path).is_symlink()
    ]
    new = chance.choice([Path(), *folders]) / f"new-{chance.randrange(30)}"
    one, other = (chance.choice([*there, new]) for _ in range(2))
    content = chance.randbytes(chance.randrange(3000))
    mode = chance.choice((0o400, 0o644, 0o755))
    return chance.choice(
        (
            lambda top: (top / new).write_bytes(content),
            lambda top: (top / one).write_bytes(content),
            lambda top: os.mkdir(top / new),
            lambda top: os.rmdir(top / one),
            lambda top: os.unlink(top / one),
            lambda top: os.rename(top / one, top / other),
            lambda top: os.rename(top / one, top / new),
            lambda top: os.link(top / one, top / new, follow_symlinks=False),
            lambda top: os.symlink("a/target", top / new),
            lambda top: os.chmod(top / one, mode),
            lambda top: sorted(os.listdir(top / one)),
            lambda top: os.truncate(top / one, 100),
        )
    )


def outcome(change: Callable[[Path], object], top: Path) -> object:
    try:
        return change(top)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def test_a_tree_over_a_mount_is_changed_as_any_tree(
    overlay: Path, published: Published, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    plain = tmp_path / "plain"
    shutil.copytree(published.checkouts / "v1", plain, symlinks=True)
    done = set()
    for number in range(CHANGES_OF_THE_TREE):
        change = change_of_a_tree(chance, plain)
        expected = outcome(change, plain)
        assert outcome(change, overlay) == expected, number
        done.add(str(expected))
    assert {"None", "ENOTEMPTY", "EEXIST", "ENOTDIR"} <= done
    assert summaries(overlay) == summaries(plain)
