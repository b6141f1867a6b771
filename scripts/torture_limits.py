"""Mounts with little memory or few descriptors, under two hundred cold readers: the steps `memory`
and `descriptors` of scripts/torture-mount."""

import contextlib
import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torture_tools import Tally

from tests.fakes.memory_limit import MemoryGroup, limited_memory
from tests.mounted.repositories import REVFS, Clone, Mounted

READERS = 200
OPEN_FILES = 1000
MEMORY_MEGABYTES = (512, 256, 160)
DESCRIPTORS = 256

MakeClone = Callable[[str], Clone]


def read_all(mount: Path, plain: Path) -> Counter[str]:
    """Have all files read at once by many; how many were right, wrong, or had which errno."""
    names = [path.relative_to(plain) for path in sorted((plain / "data").rglob("*"))]
    names = [name for name in names if (plain / name).is_file()]
    random.Random(1).shuffle(names)

    def read(name: Path) -> str:
        try:
            content = (mount / name).read_bytes()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "right" if content == (plain / name).read_bytes() else "WRONG"

    with ThreadPoolExecutor(READERS) as pool:
        return Counter(pool.map(read, names))


def in_memory(clone: MakeClone, plain: Path, tally: Tally) -> None:
    """With all processes of the mount in a group that may have so much memory."""
    for megabytes in MEMORY_MEGABYTES:
        with limited_memory(megabytes << 20) as group:
            made = clone(f"memory-{megabytes}")
            made.command = group.command(REVFS)
            with made.mounted("v1", None, "--workers", "2") as mount:
                _note(tally, f"{megabytes} MB of memory", mount, plain, group)


def _note(
    tally: Tally, what: str, mount: Mounted, plain: Path, group: MemoryGroup | None = None
) -> None:
    first, again = read_all(mount.path, plain), read_all(mount.path, plain)
    alive = not mount.has_ended()
    killed = mount.log.count("(signal 9)")
    seen = f"first {dict(first)}, then {dict(again)}; killed and replaced: {killed}"
    if group is not None:
        seen += f"; at the most {group.peak_bytes() >> 20} MB"
    good = alive and "WRONG" not in first | again and set(again) == {"right"}
    tally.note(f"{READERS} cold readers, {what}", seen, good=good)


@contextlib.contextmanager
def all_open(folder: Path) -> Iterator[None]:
    """Meanwhile, a thousand files are open."""
    paths = sorted(folder.iterdir())[:OPEN_FILES]
    opened = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)


def in_descriptors(clone: MakeClone, plain: Path, tally: Tally) -> None:
    """With few descriptors for each process of the mount."""
    made = clone("descriptors")
    made.command = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", "--", REVFS)
    with made.mounted("v1") as mount, all_open(mount.path / "data/small"):
        _note(tally, f"{OPEN_FILES} open files, {DESCRIPTORS} descriptors", mount, plain)
