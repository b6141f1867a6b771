"""Runs of fuzz targets, each in a process of its own, and what came of them."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.processes import environment_with

_SHOWN_BYTES = 600
_SPARE_SECONDS = 120
# "#1234  DONE   cov: 70 ft: 90 corp: 12/345b …"
_PROGRESS = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+).*?corp: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """What came of a run: how many inputs were tried, how much was covered by the seeds and at the
    end, how many inputs are worth keeping, and all that was said."""

    name: str
    is_good: bool
    executions: int
    first_coverage: int
    coverage: int
    corpus: int
    said: str

    def line(self) -> str:
        """One line for a table."""
        verdict = "good" if self.is_good else "FAILED"
        return (
            f"{self.name:18} {self.executions:>12,} inputs  coverage {self.first_coverage:>5} ->"
            f" {self.coverage:>5}  corpus {self.corpus:>5}  {verdict}"
        )


def fuzz(name: str, seconds: int, folder: Path, *, plain: bool = False) -> FuzzResult:
    """Fuzz a target for so long."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.one_target", name, str(seconds), str(folder)]
    completed = subprocess.run(
        [*command, *(["--plain"] if plain else [])],
        env=environment_with(TMPDIR=str(folder)),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + _SPARE_SECONDS,
    )
    said = completed.stdout + completed.stderr
    crashes = [path for path in sorted(folder.iterdir()) if path.is_file()]
    for path in crashes:
        said += f"\n{path}: {path.read_bytes()[:_SHOWN_BYTES]!r}"
    seen = _PROGRESS.findall(completed.stderr)
    first, last = (seen[0], seen[-1]) if seen else ((0, "", 0, 0), (0, "", 0, 0))
    is_good = completed.returncode == 0 and not crashes and last[1] == "DONE"
    return FuzzResult(name, is_good, int(last[0]), int(first[2]), int(last[2]), int(last[3]), said)
