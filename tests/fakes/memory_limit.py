"""A group of processes that may have so much memory, as containers have it: a cgroup below our own,
of either version."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_UNIFIED, _MEMORY = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
_VERSION_1 = ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
_VERSION_2 = ("memory.max", "memory.peak")
_END_SECONDS = 10.0
_JOIN = 'echo $$ >"$0" && exec "$@"'


class NoMemoryGroups(Exception):
    """This machine lets us make no such group; the text says why."""


@dataclass(frozen=True)
class MemoryGroup:
    """A group, at its folder; the names are those of the files with its limit and with the most it
    had."""

    folder: Path
    limit_name: str
    peak_name: str

    def command(self, *command: str) -> tuple[str, ...]:
        """The command that is run within the group, with all its children."""
        return ("sh", "-c", _JOIN, str(self.folder / "cgroup.procs"), *command)

    def peak_bytes(self) -> int:
        """The most memory that its processes had together, with what the kernel cached for them."""
        return int((self.folder / self.peak_name).read_text())

    def set_limit(self, limit_bytes: int) -> None:
        """Let it have so much. Raises NoMemoryGroups."""
        knob = self.folder / self.limit_name
        try:
            knob.write_text(str(limit_bytes))
        except OSError as error:
            raise NoMemoryGroups(f"{knob}: {error.strerror}") from error


@contextlib.contextmanager
def limited_memory(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A group with that limit. Raises NoMemoryGroups."""
    ours = _our_group()
    folder = ours.folder / f"revfs-test-{os.getpid()}-{limit_bytes}"
    group = replace(ours, folder=folder)
    try:
        folder.mkdir()
    except OSError as error:
        raise NoMemoryGroups(f"{folder}: {error.strerror}") from error
    try:
        group.set_limit(limit_bytes)
        yield group
    finally:
        _remove(folder)


def _our_group() -> MemoryGroup:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") and _MEMORY.is_dir():
            folder = _MEMORY / path.lstrip("/")
            return MemoryGroup(folder, *_VERSION_1)
        if number == "0" and (_UNIFIED / "cgroup.controllers").exists():
            return MemoryGroup(_UNIFIED / path.lstrip("/"), *_VERSION_2)
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
