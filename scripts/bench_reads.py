"""Rows that read: cold over the link, warm from what each contender keeps, sparse, and first byte.

Cold is a fresh clone or mount with empty caches. Warm is the second epoch in the same mount: every
contender has the files in its cache on the disk (and the disk's pages in memory), and the kernel
has been told to forget the pages of the mount itself, so that each file is asked for again. The
local disk is read from the page cache: that is the limit."""

import functools
import random
import time
from collections.abc import Sequence
from pathlib import Path

from bench_peers import Dvc, Mounting, clone_dvc, local_disk, loop_through
from bench_processes import NotMeasured, get_processor_seconds
from bench_revfs import Mounted, Revfs, clone, mounted_clone
from bench_session import Measurement, ReadReport, Session
from bench_table import LINK, LOOP, NATIVE, OURS, S3FS

COLD_READERS = 32
WARM_READERS = 8
_WORKERS = (2, 4)
# It is over in an instant, so each run has some.
_WARM_LARGE = 3
_SPARSE_SHARE = 100


def ours(source: Revfs) -> Mounting:
    """Mounts fresh clones of a repository that is pushed."""

    return functools.partial(mounted_clone, source=source)


def list_shuffled(session: Session, part: str, seed: int) -> list[Path]:
    """The files of a part in an order of chance, relative to the data."""
    paths = session.data.list_files(part)
    random.Random(seed).shuffle(paths)
    return paths


def measure_epochs(
    session: Session, name: str, mounting: Mounting, run: int, *, most_files: int = 0
) -> None:
    """A cold epoch over the small files, then a warm one in the same mount."""
    wants_warm = session.wants("warm-small") and name not in {S3FS}
    if not (session.wants("cold-epoch") or wants_warm):
        return
    with session.attempt(["cold-epoch", "warm-small"], name), mounting(session) as mounted:
        cold = list_shuffled(session, "small", run)[: most_files or None]
        if session.wants("cold-epoch"):
            measure_files(session, "cold-epoch", name, mounted, cold, COLD_READERS)
        else:
            session.read(_below(mounted, cold), threads=COLD_READERS)
        if wants_warm:
            measure_warm(session, name, mounted, run)


def measure_warm(session: Session, name: str, mounted: Mounted, run: int) -> None:
    """The next epoch of a mount whose own cache is full, without the kernel's pages of it."""
    paths = list_shuffled(session, "small", 1000 + run)
    session.drop_pages(_below(mounted, paths))
    measure_files(session, "warm-small", name, mounted, paths, WARM_READERS)


def measure_files(
    session: Session, row: str, name: str, mounted: Mounted, paths: Sequence[Path], readers: int
) -> None:
    """Whole files a second, by so many readers."""
    with session.measuring(row, name, mounted.pids) as measurement:
        report = session.read(_below(mounted, paths), threads=readers)
        _take(measurement, report, report.files / report.seconds)
    _check(session, paths, report)


def measure_text(session: Session, name: str, mounting: Mounting, run: int) -> None:
    """A cold epoch over text."""
    if session.wants("cold-text"):
        with session.attempt(["cold-text"], name), mounting(session) as mounted:
            paths = list_shuffled(session, "text", run)
            measure_files(session, "cold-text", name, mounted, paths, COLD_READERS)


def measure_large(session: Session, name: str, mounting: Mounting) -> None:
    """The large file from its begin to its end, cold, and again from the page cache."""
    if not session.wants("cold-large", "warm-large"):
        return
    paths = session.data.list_files("large")
    rows = ["cold-large", "warm-large"]
    with session.attempt(rows, name), mounting(session) as mounted:
        if session.wants("cold-large"):
            measure_in_order(session, "cold-large", name, mounted, paths)
        else:
            session.read(_below(mounted, paths), threads=1)
        for _ in range(_WARM_LARGE if session.wants("warm-large") else 0):
            measure_in_order(session, "warm-large", name, mounted, paths)


def measure_in_order(
    session: Session, row: str, name: str, mounted: Mounted, paths: Sequence[Path]
) -> None:
    """Megabytes a second of one reader."""
    with session.measuring(row, name, mounted.pids) as measurement:
        report = session.read(_below(mounted, paths), threads=1)
        _take(measurement, report, report.byte_count / report.seconds / 1e6)
    _check(session, paths, report)


def measure_sparse(session: Session, name: str, mounting: Mounting, run: int) -> None:
    """How many bytes cross the link for each byte of a small sample."""
    if not session.wants("sparse"):
        return
    paths = list_shuffled(session, "small", 2000 + run)
    paths = paths[: max(10, len(paths) // _SPARSE_SHARE)]
    with session.attempt(["sparse"], name):
        before = session.link.get_traffic()
        with mounting(session) as mounted, session.measuring("sparse", name, mounted.pids) as m:
            report = session.read(_below(mounted, paths), threads=1)
            # What the mount asked for by itself, before anybody read, counts too.
            crossed = session.link.get_traffic().since(before)
            _take(m, report, (crossed.down_bytes + crossed.up_bytes) / report.byte_count)
        _check(session, paths, report)


def measure_first_byte(session: Session, source: Revfs, run: int) -> None:
    """From the mount command of a fresh clone to the first byte of some file."""
    if session.wants("first-byte"):
        with session.attempt(["first-byte"], OURS):
            cloned = clone(session, source)
            path = list_shuffled(session, "small", 3000 + run)[0]
            with session.measuring("first-byte", OURS) as measurement:
                started = time.perf_counter()
                with cloned.mounted() as mounted:
                    sorted((mounted.root / path.parent).iterdir())
                    with (mounted.root / path).open("rb", buffering=0) as file:
                        file.read(1)
                    measurement.value = measurement.seconds = time.perf_counter() - started
                    used = get_processor_seconds(mounted.pids["mount"])
                    measurement.processors["mount"] = used
            cloned.discard()


def measure_dvc_pull(session: Session, name: str, source: Dvc) -> None:
    """dvc has the first byte when it has everything."""
    if session.wants("first-byte"):
        with session.attempt(["first-byte"], name):
            cloned = clone_dvc(session, source)
            with session.measuring("first-byte", name) as measurement:
                finished = cloned.run("dvc", "pull", "--quiet")
                measurement.value = measurement.seconds = finished.seconds
                measurement.add("command", finished)


def measure_workers(session: Session, source: Revfs, run: int) -> None:
    """The warm row again with more than one process that serves the mount."""
    if not session.wants("warm-small"):
        return
    cloned: Revfs | None = None
    for workers in _WORKERS:
        name = f"{OURS}, {workers} workers"
        with session.attempt(["warm-small"], name):
            cloned = cloned or clone(session, source)
            if not cloned.has_mount_option("--workers"):
                raise NotMeasured("this revfs has no --workers")
            with cloned.mounted(["--workers", str(workers)]) as mounted:
                paths = list_shuffled(session, "small", run)
                session.read(_below(mounted, paths), threads=COLD_READERS)
                measure_warm(session, name, mounted, run)
    if cloned is not None:
        cloned.discard()


def measure_limits(session: Session, run: int) -> None:
    """The warm rows from the local disk and through the loop in C."""
    for name, mounting in ((NATIVE, local_disk), (LOOP, loop_through)):
        if session.choice.wants_contender(name):
            if session.wants("warm-small"):
                _measure_small_warm(session, name, mounting, run)
            if session.wants("warm-large"):
                _measure_large_warm(session, name, mounting)


def _measure_small_warm(session: Session, name: str, mounting: Mounting, run: int) -> None:
    with session.attempt(["warm-small"], name), mounting(session) as mounted:
        paths = list_shuffled(session, "small", run)
        session.read(_below(mounted, paths), threads=COLD_READERS)
        if name == LOOP:
            measure_warm(session, name, mounted, run)
        else:
            paths = list_shuffled(session, "small", 1000 + run)
            measure_files(session, "warm-small", name, mounted, paths, WARM_READERS)


def _measure_large_warm(session: Session, name: str, mounting: Mounting) -> None:
    paths = session.data.list_files("large")
    with session.attempt(["warm-large"], name), mounting(session) as mounted:
        session.read(_below(mounted, paths), threads=1)
        for _ in range(_WARM_LARGE):
            measure_in_order(session, "warm-large", name, mounted, paths)


def note_link_limits(session: Session, up: float, down: float) -> None:
    """What each row could have at most over this link, from what the proxy carried (bytes/s)."""
    for row, part in (("cold-epoch", "small"), ("cold-text", "text")):
        if session.wants(row):
            files = len(session.data.list_files(part))
            session.note_value(row, LINK, files * down / session.data.count_bytes(part))
    if session.wants("cold-large"):
        session.note_value("cold-large", LINK, down / 1e6)
    for row, parts in (("push", ("small", "large")), ("push-text", ("text",))):
        if session.wants(row):
            session.note_value(row, LINK, session.data.count_bytes(*parts) / up)


def _below(mounted: Mounted, paths: Sequence[Path]) -> list[Path]:
    return [mounted.root / path for path in paths]


def _take(measurement: Measurement, report: ReadReport, value: float) -> None:
    measurement.value = value
    measurement.seconds = report.seconds
    measurement.add("readers", report.finished)


def _check(session: Session, paths: Sequence[Path], report: ReadReport) -> None:
    """Raises NotMeasured unless exactly the bytes of these files were read."""
    expected = sum((session.data.folder / path).stat().st_size for path in paths)
    if report.byte_count != expected:
        raise NotMeasured(f"{report.byte_count:,} bytes were read, not {expected:,}")
