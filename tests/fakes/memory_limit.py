"""A group of processes that may have so much memory, as containers have it: a cgroup below our own,
of either version."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNIFIED, _MEMORY = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
_END_SECONDS = 10.0
_JOIN = 'echo $$ >"$0" && exec "$@"'


class NoMemoryGroups(Exception):
    """This machine lets us make no such group; the text says why."""


@dataclass(frozen=True)
class MemoryGroup:
    """A group, at its folder; `peak_name` is the file with the most that it had."""

    folder: Path
    peak_name: str

    def command(self, *command: str) -> tuple[str, ...]:
        """The command that is run within the group, with all its children."""
        return ("sh", "-c", _JOIN, str(self.folder / "cgroup.procs"), *command)

    def peak_bytes(self) -> int:
        """The most memory that its processes had together, with what the kernel cached for them."""
        return int((self.folder / self.peak_name).read_text())


@contextlib.contextmanager
def limited_memory(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A group with that limit. Raises NoMemoryGroups."""
    group, limit_name = _our_group()
    folder = group.folder / f"revfs-test-{os.getpid()}-{limit_bytes}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoMemoryGroups(f"{folder}: {error.strerror}") from error
    try:
        try:
            (folder / limit_name).write_text(str(limit_bytes))
        except OSError as error:
            raise NoMemoryGroups(f"{folder / limit_name}: {error.strerror}") from error
        yield MemoryGroup(folder, group.peak_name)
    finally:
        _remove(folder)


def _our_group() -> tuple[MemoryGroup, str]:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") and _MEMORY.is_dir():
            folder = _MEMORY / path.lstrip("/")
            return MemoryGroup(folder, "memory.max_usage_in_bytes"), "memory.limit_in_bytes"
        if number == "0" and (_UNIFIED / "cgroup.controllers").exists():
            return MemoryGroup(_UNIFIED / path.lstrip("/"), "memory.peak"), "memory.max"
    raise NoMemoryGroups("no controller of memory is mounted")


def _remove(folder: Path) -> None:
    """The processes in it may still be ending."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
