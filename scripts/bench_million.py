"""Rows of a revision with very many files: how soon it is there, listed, walked and read."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench_processes import get_memory_bytes, run
from bench_revfs import Revfs, clone, make_repository
from bench_session import Session
from bench_table import OURS, ROW_NAMES

_FOLDER_FILES = 1_000
_LEAST_BYTES, _MOST_BYTES = 100, 2_000
_SAMPLE = 1_000
_READERS = 8


def measure_million(session: Session) -> None:
    """All the rows of many files, once."""
    rows = [name for name in ROW_NAMES if name.startswith("million-")]
    if session.wants(*rows):
        with session.attempt(rows, OURS):
            source = _make_pushed(session)
            cloned = clone(session, source)
            _measure_first_mount(session, cloned)
            with cloned.mounted() as mounted:
                _timed(session, "million-again", mounted.pids, lambda: _find(session, mounted.root))


def write_many_files(folder: Path, count: int) -> None:
    """Files of 100 bytes to 2 KB, a thousand in each folder, all different."""
    chance = random.Random(count)
    pool = chance.randbytes(1 << 20)
    for number in range(count):
        place = folder / f"{number // _FOLDER_FILES:04}"
        if number % _FOLDER_FILES == 0:
            place.mkdir(parents=True)
        start, size = chance.randrange(len(pool) // 2), chance.randint(_LEAST_BYTES, _MOST_BYTES)
        content = b"%08d" % number + pool[start : start + size - 8]
        (place / f"{number:07}.bin").write_bytes(content)


def _make_pushed(session: Session) -> Revfs:
    repository = make_repository(session, "many")
    write_many_files(repository.top / "data", session.choice.scale.million_files)
    for row, verb in (("million-add", ["add", "data"]), ("million-push", ["push"])):
        with session.measuring(row, OURS) as measurement:
            finished = repository.run("revfs", *verb, "--quiet", timeout_seconds=1200)
            measurement.value = measurement.seconds = finished.seconds
            measurement.add("command", finished)
        if row == "million-add":
            repository.commit("all of it")
    return repository


def _measure_first_mount(session: Session, cloned: Revfs) -> None:
    """The first mount of a fresh clone: ready, one folder, all of it, and a thousand files."""
    with cloned.mounted() as mounted:
        session.note_value("million-mount", OURS, mounted.seconds)
        folder = mounted.root / "data" / "0000"
        _timed(session, "million-list", mounted.pids, lambda: _run(session, "ls", "-l", folder))
        _timed(session, "million-find", mounted.pids, lambda: _find(session, mounted.root))
        memory = get_memory_bytes(mounted.pids["mount"])
        session.note_value("million-memory", OURS, memory / 1e6, "after find")
        numbers = random.Random(1).sample(
            range(session.choice.scale.million_files),
            min(_SAMPLE, session.choice.scale.million_files),
        )
        paths = [
            mounted.root / "data" / f"{n // _FOLDER_FILES:04}" / f"{n:07}.bin" for n in numbers
        ]
        with session.measuring("million-read", OURS, mounted.pids) as measurement:
            report = session.read(paths, threads=_READERS)
            measurement.value = report.files / report.seconds
            measurement.seconds = report.seconds
            measurement.add("readers", report.finished)


def _timed(session: Session, row: str, pids: Mapping[str, int], work: Callable[[], None]) -> None:
    with session.measuring(row, OURS, pids) as measurement:
        started = time.perf_counter()
        work()
        measurement.value = measurement.seconds = time.perf_counter() - started


def _find(session: Session, root: Path) -> None:
    _run(session, "find", root, "-size", "-1")


def _run(session: Session, *words: object) -> None:
    run(words, environment=session.environment)
