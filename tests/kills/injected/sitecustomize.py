"""Counts what a Python process asks of files, and kills its whole process group at one of them.

Python imports a module of this name by itself where it is found on PYTHONPATH. REVFS_KILL_COUNTER
names a file of eight bytes in which all processes of the group count together; REVFS_KILL_AT is the
number at which the group ends, 0 for never.
"""

import mmap
import os
import signal
import sys

_EVENTS = {
    "open",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "socket.connect",
    "fcntl.flock",
    "fcntl.fcntl",
    "subprocess.Popen",
    "os.fork",
}


def _install(path: str, at: int) -> None:
    with open(path, "r+b") as file:
        counter = mmap.mmap(file.fileno(), 8)

    def count() -> None:
        number = int.from_bytes(counter[:8], "little") + 1
        counter[:8] = number.to_bytes(8, "little")
        if number == at:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        # What is only opened to be read is most often a module of Python's.
        if event in _EVENTS and not (
            event == "open" and isinstance(arguments[2], int) and not arguments[2] & os.O_WRONLY
        ):
            count()

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            count()
            return real(*arguments, **options)

        setattr(os, name, call)

    for name in ("fsync", "pwrite", "write", "ftruncate"):
        counted(name)
    sys.addaudithook(hear)


if os.environ.get("REVFS_KILL_COUNTER"):
    _install(os.environ["REVFS_KILL_COUNTER"], int(os.environ.get("REVFS_KILL_AT", "0")))
