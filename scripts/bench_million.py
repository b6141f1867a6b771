"""Rows of a revision with very many files: how soon it is there, listed, walked and read.

The files are those of scripts/million-files. They are made once and added from where they are; a
clone has no work tree, since a million pointers in one are not what is measured."""

import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench_processes import get_memory_bytes, run
from bench_revfs import Mounted, Revfs, clone, make_repository
from bench_session import Session, say
from bench_table import OURS, ROW_NAMES
from million_files import make_files

_FOLDER_FILES = 1_000
_SAMPLE = 1_000
_READERS = 8
_TIMEOUT_SECONDS = 1200
_REST_SECONDS = 3


def measure_million(session: Session, home: Path) -> None:
    """All the rows of many files, once; the files are kept in `home`."""
    rows = [name for name in ROW_NAMES if name.startswith("million-")]
    if session.wants(*rows):
        with session.attempt(rows, OURS):
            cloned = clone(session, _make_pushed(session, home), "--no-checkout")
            with cloned.mounted() as mounted:
                _measure_first_mount(session, mounted)
            with cloned.mounted() as mounted:
                _timed(session, "million-anew", mounted.pids, lambda: _find(session, mounted.root))


def load_files(home: Path, count: int) -> Path:
    """The folder of so many files, made where it is not there."""
    folder, mark = home / f"many-{count}", home / f"many-{count}-made"
    if not mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        say(f"making {count:,} files")
        make_files(folder, count, count // _FOLDER_FILES)
        mark.touch()
    return folder


def _make_pushed(session: Session, home: Path) -> Revfs:
    files = load_files(home, session.choice.scale.million_files)
    repository = make_repository(session, "many")
    for row, words in (
        ("million-add", ["add", files, "--to", "data"]),
        ("million-push", ["push"]),
    ):
        with session.measuring(row, OURS) as measurement:
            finished = repository.run("revfs", *words, "--quiet", timeout_seconds=_TIMEOUT_SECONDS)
            measurement.value = measurement.seconds = finished.seconds
            measurement.add("command", finished)
        if row == "million-add":
            repository.commit("all of it")
    return repository


def _measure_first_mount(session: Session, mounted: Mounted) -> None:
    """The first mount of a fresh clone: ready, one folder, all of it, and a thousand files."""
    session.note_value("million-mount", OURS, mounted.seconds)
    folder = mounted.root / "data" / "0000"
    _timed(session, "million-list", mounted.pids, lambda: _run(session, "ls", "-l", folder))
    for row in ("million-find", "million-again"):
        _timed(session, row, mounted.pids, lambda: _find(session, mounted.root))
    paths = _sample(mounted.root / "data", session.choice.scale.million_files)
    with session.measuring("million-read", OURS, mounted.pids) as measurement:
        report = session.read(paths, threads=_READERS)
        measurement.value = report.files / report.seconds
        measurement.seconds = report.seconds
        measurement.add("readers", report.finished)
    # What was needed for the reads alone is given back by then.
    time.sleep(_REST_SECONDS)
    memory = get_memory_bytes(mounted.pids["mount"])
    session.note_value("million-memory", OURS, memory / 1e6)


def _sample(data: Path, count: int) -> list[Path]:
    numbers = random.Random(1).sample(range(count), min(_SAMPLE, count))
    return [data / f"{number // _FOLDER_FILES:04}" / f"{number:07}" for number in numbers]


def _timed(session: Session, row: str, pids: Mapping[str, int], work: Callable[[], None]) -> None:
    with session.measuring(row, OURS, pids) as measurement:
        started = time.perf_counter()
        work()
        measurement.value = measurement.seconds = time.perf_counter() - started


def _find(session: Session, root: Path) -> None:
    # A condition on the size, so that each file is looked at.
    _run(session, "find", root, "-size", "-1")


def _run(session: Session, *words: object) -> None:
    run(words, environment=session.environment)
