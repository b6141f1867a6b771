"""Fuzz the parsers: python -m tests.fuzz [TARGET…] [--seconds N] [--jobs N] [--folder FOLDER]

Without a TARGET all of them, two at a time. By atheris, which steers by what it covers; by plain
mutation with --plain, and where atheris is not installed. FOLDER keeps what was found, for the next
run to go on from: TARGET/corpus, and TARGET/crash-… for each input that failed.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.runs import fuzz
from tests.fuzz.targets import TARGETS


def main(words: Sequence[str]) -> int:
    """Run the targets and print a line for each; 1 where any failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--folder", type=Path, help="where to keep what was found")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    wanted = parser.parse_args(words)
    unknown = set(wanted.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    folder = wanted.folder or Path(tempfile.mkdtemp(prefix="revfs-fuzz-"))
    failed = 0
    with ThreadPoolExecutor(wanted.jobs) as pool:
        runs = [
            pool.submit(fuzz, name, wanted.seconds, folder / name, plain=wanted.plain)
            for name in wanted.targets or TARGETS
        ]
        for run in runs:
            result = run.result()
            print(result.line(), flush=True)
            if not result.is_good:
                failed = 1
                print(result.said, flush=True)
    print(f"what was found is in {folder}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
