"""How fast git's own verbs are on tracked files, as ratios in one run; run by scripts/bench-git.

  git status   100,000 clean files in 100 folders: tracked, against the same kept by git itself
  git add      1 GiB in 10,000 files: through the filter, against revfs add

Every figure is a median of several runs, in turn with what it is compared to. Nothing is deleted
before the end: ext4 makes new files many times slower for some minutes after many were deleted.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REVFS = Path(sys.executable).parent / "revfs"
SEED = 20261125
RUNS = 3


class Bench:
    """A folder to work in, and a home of its own."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.scale = 10 if quick else 1
        config = folder / "gitconfig"
        config.write_text("[user]\n\tname = Bench\n\temail = bench@example.org\n[gc]\n\tauto = 0\n")
        self.environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_SYSTEM": os.devnull,
        }

    def run(self, *words: object, cwd: Path) -> float:
        """Run a command; its seconds. Ends the run if it fails."""
        started = time.perf_counter()
        command = [str(REVFS) if word == "revfs" else str(word) for word in words]
        subprocess.run(command, cwd=cwd, env=self.environment, check=True, capture_output=True)
        return time.perf_counter() - started

    def make(self, name: str, *, tracked: bool) -> Path:
        """An empty repository; with `tracked`, its folder `data` is tracked from the start."""
        top = self.folder / name
        self.run("git", "init", "--quiet", top, cwd=self.folder)
        (top / "data").mkdir()
        (top / "data" / "first").write_bytes(b"first")
        if tracked:
            self.run("revfs", "init", cwd=top)
            self.run("revfs", "add", "data", cwd=top)
        self.run("git", "add", "--all", cwd=top)
        self.run("git", "commit", "--quiet", "-m", "first", cwd=top)
        return top

    def write(self, top: Path, files: int, folders: int, size: int) -> None:
        """Files of random bytes, the same for each repository."""
        chance = random.Random(SEED)
        for number in range(files):
            folder = top / "data" / f"{number % folders:03}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number:06}").write_bytes(chance.randbytes(size))


def compare(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    """The medians of both, run in turn."""
    pairs = [(ours(), theirs()) for _ in range(RUNS)]
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


def bench_status(bench: Bench) -> tuple[str, float, float]:
    """git status where nothing changed."""
    files = 100_000 // bench.scale
    tops = {name: bench.make(name, tracked=name == "ours") for name in ("ours", "twin")}
    for name, top in tops.items():
        bench.write(top, files, 100, 200)
        bench.run("revfs" if name == "ours" else "git", "add", "data", cwd=top)
        bench.run("git", "commit", "--quiet", "-m", "all", cwd=top)
        # The first one after a commit looks twice at what changed in the same second.
        time.sleep(1.1)
        bench.run("git", "status", cwd=top)
    times = compare(
        lambda: bench.run("git", "status", cwd=tops["ours"]),
        lambda: bench.run("git", "status", cwd=tops["twin"]),
    )
    return f"git status, {files:,} clean files: tracked / kept by git", *times


def bench_add(bench: Bench) -> tuple[str, float, float]:
    """git add of new tracked files."""
    files = 10_000 // bench.scale
    source = bench.make("source", tracked=True)
    bench.write(source, files, 100, (1 << 30) // 10_000)

    copies = [bench.folder / f"copy-{number}" for number in range(2 * RUNS)]
    for copy in copies:
        shutil.copytree(source, copy)
    os.sync()

    def add(*words: str) -> float:
        return bench.run(*words, "add", "data", cwd=copies.pop())

    times = compare(lambda: add("git"), lambda: add("revfs"))
    return f"git add, {files:,} files of 105 KB: git add / revfs add", *times


def main() -> None:
    """Run both and print the table."""
    quick = "--quick" in sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="revfs-bench-") as name:
        bench = Bench(Path(name).resolve(), quick)
        rows = [bench_status(bench), bench_add(bench)]
    width = max(len(what) for what, _, _ in rows)
    for what, ours, theirs in rows:
        print(f"{what:<{width}}  {ours:7.2f} s  {theirs:7.2f} s  ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
