"""What scripts/torture-mount calls: fio, stress-ng, mount; and how it says what it saw."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

SEED = 7
_NOT_UNDERSTOOD = 1


class Tally:
    """What was seen, a line each, and whether all of it is as it should be."""

    def __init__(self) -> None:
        self._bad = 0

    def note(self, what: str, seen: str, *, good: bool) -> None:
        """Print a line."""
        self._bad += not good
        print(f"{'  ' if good else '! '}{what:<64} {seen}", flush=True)

    def exit_code(self) -> int:
        """0 where all is as it should be."""
        print(f"{self._bad} of these are not as they should be" if self._bad else "all is right")
        return int(self._bad > 0)


def fio(folder: Path, *options: str, check: bool = True) -> str:
    """Run jobs of fio that read or write blocks with a checksum in each; what is wrong in one line,
    or nothing. With `check`, raises where something is."""
    command = ["fio", f"--directory={folder}", "--verify=crc32c", "--verify_fatal=1"]
    command += ["--verify_state_save=0", f"--randseed={SEED}", *options]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    if check:
        raise RuntimeError(f"{command}: {done.stdout} {done.stderr}")
    lines = (done.stderr + done.stdout).strip().splitlines()
    return f"FAILED: {lines[0] if lines else done.returncode}"


def stress(stressor: str, folder: Path, seconds: int) -> int:
    """The exit code of two of these stressors in a folder, which check what they did. Raises where
    stress-ng does not understand what it is told."""
    done = subprocess.run(
        [
            *("stress-ng", f"--{stressor}", "2", "--verify", "--timeout", f"{seconds}s"),
            *("--temp-path", str(folder), "--hdd-bytes", "32M", "--iomix-bytes", "32M"),
            *("--fallocate-bytes", "32M", "--mmap-bytes", "32M"),
            "--mmap-file",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == _NOT_UNDERSTOOD:
        raise RuntimeError(f"stress-ng --{stressor}: {done.stderr.decode()}")
    return done.returncode


@contextlib.contextmanager
def mounted_file_system(*arguments: str | Path) -> Iterator[None]:
    """Something mounted by mount(8)."""
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)
