"""Real file systems of a few megabytes or a few files, which can be filled and emptied again."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def _filling(self) -> Path:
        return self.path / "filling"

    def fill(self, left_bytes: int = 0) -> None:
        """Leave so many bytes free; none, to the last block."""
        status = os.statvfs(self.path)
        with self._filling.open("ab") as file:
            length = max(0, status.f_bavail * status.f_frsize - left_bytes)
            os.posix_fallocate(file.fileno(), file.tell(), max(1, length))

    def use_up_inodes(self) -> None:
        """Leave no room for another file, however small."""
        folder = self.path / "inodes"
        folder.mkdir()
        with contextlib.suppress(OSError):
            for number in range(100_000):
                (folder / str(number)).touch()
        assert os.statvfs(self.path).f_ffree == 0

    def make_room(self) -> None:
        """Take away what filled it."""
        self._filling.unlink(missing_ok=True)
        for path in (self.path / "inodes").glob("*"):
            path.unlink()


@contextlib.contextmanager
def small_disk(path: Path, size: str, inodes: int = 0) -> Iterator[SmallDisk]:
    """A file system of `size` ("4m") at a new folder, with room for so many files, or any number.
    Raises PermissionError where none can be mounted."""
    path.mkdir(parents=True)
    options = f"size={size},mode=0700" + (f",nr_inodes={inodes}" if inodes else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "small", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(errno.EPERM, done.stderr.strip())
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)
