"""A million small files, and the time that each step of their way into a remote takes; run by
scripts/million-files.

Half of the files are random bytes, half are hexadecimal digits, which compress. No two are alike.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

REVFS = Path(sys.executable).parent / "revfs"
SEED = 20261201
LEAST_BYTES, MOST_BYTES = 100, 2000


def make_files(folder: Path, files: int, folders: int) -> int:
    """Write the files in equal shares; the bytes of all together."""
    chance = random.Random(SEED)
    # Files are slices of these: to draw the bytes of each anew would take most of the time.
    noise = chance.randbytes(8 << 20)
    digits = noise.hex().encode("ascii")
    total = 0
    for number in range(folders):
        place = folder / f"{number:04}"
        place.mkdir(parents=True, exist_ok=True)
        inside = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        for file in range(number * files // folders, (number + 1) * files // folders):
            size = chance.randint(LEAST_BYTES, MOST_BYTES)
            source = digits if file % 2 else noise
            start = chance.randrange(len(source) - size)
            # The number first: slices of the same noise may be alike, files never are.
            content = file.to_bytes(8, "little") + source[start : start + size - 8]
            _write(f"{file:07}", inside, content)
            total += size
        os.close(inside)
    return total


def _write(name: str, folder: int, content: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
    os.write(descriptor, content)
    os.close(descriptor)


class Took(NamedTuple):
    """What a command took: seconds, seconds of all processors, and memory at its largest."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


class Steps:
    """A repository around the files, with a home of its own, and what is done in it."""

    def __init__(self, top: Path) -> None:
        self._top = top
        config = top / ".git" / "bench-config"
        self._environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(top / ".git" / "bench-cache"),
            "XDG_CONFIG_HOME": str(top / ".git" / "bench-home"),
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        self._run("git", "init", "--quiet")
        config.write_text("[user]\n\tname = Bench\n\temail = bench@example.org\n[gc]\n\tauto = 0\n")

    def prepare(self) -> None:
        """Make it a repository of revfs, with a folder as its remote."""
        remote = self._top / ".git" / "bench-remote"
        remote.mkdir(exist_ok=True)
        self._run("revfs", "init")
        self._run("revfs", "remote", "add", "-d", "bench", str(remote))

    def show(self, *words: str) -> None:
        """Run a command and print what it took."""
        took = self._run(*words)
        print(
            f"{' '.join(words):28} {took.seconds:8.2f} s {took.processor_seconds:8.2f} s "
            f"{took.peak_bytes / (1 << 20):8.0f} MiB",
            flush=True,
        )

    def _run(self, *words: str) -> Took:
        command = [str(REVFS) if word == "revfs" else word for word in words]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=self._top, env=self._environment, stdout=subprocess.DEVNULL
        )
        # Not process.wait(): only wait4 says what this one child has used.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"million-files: {' '.join(words)} failed")
        seconds = time.perf_counter() - started
        return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def time_steps(top: Path, data: str) -> None:
    """Add, commit and push the files in the folder `data` of `top`, and look again."""
    steps = Steps(top)
    steps.prepare()
    print(f"{'':28} {'seconds':>10} {'processor':>10} {'peak':>12}")
    steps.show("revfs", "add", data)
    steps.show("revfs", "add", data)
    steps.show("git", "commit", "--quiet", "-m", "all")
    steps.show("git", "status")
    steps.show("revfs", "status")
    steps.show("revfs", "push")
    steps.show("revfs", "push")
    steps.show("revfs", "status")


def main(arguments: Sequence[str]) -> None:
    """Make the files; with --time, take them through every step."""
    parser = argparse.ArgumentParser(prog="million-files", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--folders", type=int, default=1_000)
    parser.add_argument("--time", action="store_true", help="print what each step takes")
    wanted = parser.parse_args(arguments)
    data = wanted.folder / "data" if wanted.time else wanted.folder
    started = time.perf_counter()
    total_bytes = make_files(data, wanted.files, wanted.folders)
    seconds = time.perf_counter() - started
    print(
        f"made {wanted.files:,} files, {total_bytes / 1e6:,.0f} MB, in {seconds:.1f} s", flush=True
    )
    if wanted.time:
        time_steps(wanted.folder.resolve(), data.name)


if __name__ == "__main__":
    main(sys.argv[1:])
