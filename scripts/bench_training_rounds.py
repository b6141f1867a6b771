"""What a run of the training benchmark does: a fresh clone and mount, a job over it, the same job
over plain local files, and what the kernel has to forget in between."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_link import measure_ceiling
from bench_processes import NotMeasured
from bench_revfs import Mounted, Revfs, clone
from bench_session import Session
from bench_table import LINK, NATIVE, OURS
from bench_training_images import PART
from bench_training_table import CEILING, DISK, FIRST_EPOCH, MEMORY, ORDERED, Mode

_CEILING_SECONDS = 2.0
_GRACE_SECONDS = 30.0
_JOB = Path(__file__).with_name("bench_training_job.py")


@dataclass(frozen=True, slots=True)
class JobChoice:
    """How the job is run: by which Python, with how many processes that load."""

    python: Path
    loaders: int
    batch: int


class Job:
    """A job that is running, and has listed its folder."""

    # Lines go to and fro in turn: between two calls nothing is under way.

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.files = int(self._receive()["files"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def run_epoch(self, seed: int) -> Mapping[str, float]:
        """One epoch in the order of this seed: seconds, first_batch_seconds, files, bytes. Raises
        NotMeasured where the job ends instead."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{seed}\n")
            self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> Mapping[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise NotMeasured(f"the job ended early: {said[-1][:200]}")
        answer: Mapping[str, float] = json.loads(line)
        return answer


@contextlib.contextmanager
def running_job(session: Session, how: JobChoice, folder: Path, mode: Mode) -> Iterator[Job]:
    """A job over this folder, meanwhile."""
    log = session.folder / "job.log"
    command = [how.python, _JOB, folder, "--loaders", how.loaders, "--batch", how.batch]
    command += ["--decode"] if mode is Mode.DECODE else []
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=dict(session.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # An interrupt at the terminal is for us, who end it.
            start_new_session=True,
        )
    with process:
        try:
            yield Job(process, log)
            # The end of its input ends it, and its loaders with it.
            process.communicate(timeout=_GRACE_SECONDS)
        except BaseException:
            # In an epoch it does not look at its input, and a loader may not keep the mount busy.
            os.killpg(process.pid, signal.SIGKILL)
            raise


def measure_link(session: Session) -> None:
    """What the proxy carries towards us with nothing else to do: the limit of a cold epoch."""
    size = int(session.link.speed.bytes_per_second * _CEILING_SECONDS)
    carried = measure_ceiling(
        session.programs.proxy, session.folder, session.link.speed, size, up=False
    )
    session.note_value(CEILING, LINK, carried.byte_count / carried.seconds / 1e6)


def measure_mode(
    session: Session, source: Revfs, how: JobChoice, mode: Mode, run: int, *, ordered: bool
) -> None:
    """One run: over a mount of a fresh clone, then over local files. With `ordered`, also over
    another fresh clone that is told the order beforehand."""
    order = session.folder / f"order-{mode.value}-{run}"
    options = ["--record", order] if ordered else []
    cloned = clone(session, source)
    with cloned.mounted([str(word) for word in options]) as mounted:
        _run_epochs(session, OURS, mounted, how, mode, run, cloned.cache / "revfs" / "packs")
    cloned.discard()
    if ordered:
        _measure_ordered(session, source, how, mode, run, order)
    local = Mounted(session.data.folder, {}, 0.0)
    _run_epochs(session, NATIVE, local, how, mode, run, None)


def _run_epochs(
    session: Session,
    name: str,
    mounted: Mounted,
    how: JobChoice,
    mode: Mode,
    run: int,
    cache: Path | None,
) -> None:
    """The first epoch, the next with what is on the disk, the next with what is in memory."""
    folder = mounted.root / PART
    if cache is None:
        _forget(session, session.data.folder, None)
    with running_job(session, how, folder, mode) as job:
        for epoch, row in enumerate((FIRST_EPOCH, DISK, MEMORY)):
            if row == DISK:
                _forget(session, mounted.root, cache)
            _measure_epoch(session, mode.row(row), name, job, mounted, 10 * run + epoch)


def _measure_ordered(
    session: Session, source: Revfs, how: JobChoice, mode: Mode, run: int, order: Path
) -> None:
    """A first epoch whose order another clone's first epoch has written down."""
    cloned = clone(session, source)
    with (
        cloned.mounted() as mounted,
        running_job(session, how, mounted.root / PART, mode) as job,
    ):
        cloned.run("revfs", "warm", mounted.root, "--order", order)
        _measure_epoch(session, mode.row(ORDERED), OURS, job, mounted, 10 * run)
    cloned.discard()


def _measure_epoch(
    session: Session, row: str, name: str, job: Job, mounted: Mounted, seed: int
) -> None:
    with session.measuring(row, name, {**mounted.pids, "job": job.pid}) as measurement:
        did = job.run_epoch(seed)
        measurement.seconds = measurement.value = did["seconds"]
    files = session.data.list_files(PART)
    expected = (len(files), session.data.count_bytes(PART))
    if (did["files"], did["bytes"]) != expected:
        raise NotMeasured(f"the job read {did['files']} files of {did['bytes']} bytes: {expected}")


def _forget(session: Session, root: Path, cache: Path | None) -> None:
    """Have the kernel forget its pages of the pictures, and of the packs that they come from."""
    paths: Sequence[Path] = [root / path for path in session.data.list_files(PART)]
    session.drop_pages(paths)
    if cache is not None:
        session.drop_pages([path for path in cache.rglob("*") if path.is_file()])
