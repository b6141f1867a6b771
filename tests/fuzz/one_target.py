"""One fuzz target in a process of its own: python -m tests.fuzz.one_target NAME SECONDS FOLDER.

In FOLDER, `corpus` is read and added to, and what fails is left as `crash-…`. Atheris changes
modules while they are imported, so nothing of ours is imported before.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_HANG_SECONDS = 60


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--replay", type=Path)
    return parser.parse_args(words)


def main(words: Sequence[str]) -> None:
    """Fuzz for that long, or until something fails, which ends with another code than 0."""
    wanted = _arguments(words)
    # Log lines of errors that are looked for would be gigabytes.
    import logging

    logging.disable(logging.CRITICAL)
    if wanted.plain or find_spec("atheris") is None:
        _fuzz_plainly(wanted)
    else:
        _fuzz_by_atheris(wanted)


def _fuzz_plainly(wanted: argparse.Namespace) -> None:
    from tests.fuzz.mutation import fuzz
    from tests.fuzz.target import Limits
    from tests.fuzz.targets import PLANTED, TARGETS

    target = (TARGETS | PLANTED)[wanted.name]
    limits = Limits(target.check)
    if wanted.replay is not None:
        limits.run(wanted.replay.read_bytes())
        return
    seeds = [*target.seeds()]
    # What is only imported or cached at the first time is not an input's own memory.
    limits.warm_up(seeds)
    kept = [path.read_bytes() for path in (wanted.folder / "corpus").iterdir()]
    fuzz(limits.run, [*seeds, *kept], target.most_bytes, wanted.seconds, wanted.folder)


def _fuzz_by_atheris(wanted: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=["store", "tests.fuzz.planted"]):
        from tests.fuzz.target import Limits
        from tests.fuzz.targets import PLANTED, TARGETS

    target = (TARGETS | PLANTED)[wanted.name]
    limits = Limits(target.check)
    seeds = wanted.folder / "seeds"
    seeds.mkdir(exist_ok=True)
    limits.warm_up(target.seeds())
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number}").write_bytes(seed)
    options = [
        f"-max_total_time={int(wanted.seconds)}",
        f"-max_len={target.most_bytes}",
        f"-timeout={_HANG_SECONDS}",
        f"-report_slow_units={_HANG_SECONDS}",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={wanted.folder}{os.sep}",
    ]
    corpora = [str(wanted.folder / "corpus"), str(seeds)]
    atheris.Setup([sys.argv[0], *options, *corpora], limits.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
