"""Rows about commands that should be there at once: `--help`, `status` where nothing changed."""

import statistics
import time

from bench_processes import run
from bench_revfs import make_repository
from bench_session import Session
from bench_table import OURS

_HELPS = 9
_FILE_BYTES = 200
_FOLDERS = 100


def measure_help(session: Session) -> None:
    """The median of some calls, after one that loads the files from the disk."""
    if not session.wants("help"):
        return
    with session.attempt(["help"], OURS):
        command = [session.programs.revfs, "--help"]
        run(command, environment=session.environment)
        with session.measuring("help", OURS) as measurement:
            seconds = []
            for _ in range(_HELPS):
                finished = run(command, environment=session.environment)
                measurement.add("command", finished)
                seconds.append(finished.seconds)
            measurement.value = measurement.seconds = statistics.median(seconds)


def measure_status(session: Session, runs: int) -> None:
    """`status` of many small files, none of which changed since they were added."""
    if not session.wants("status"):
        return
    with session.attempt(["status"], OURS):
        repository = make_repository(session, "status")
        for number in range(session.choice.scale.status_files):
            folder = repository.top / "data" / f"{number % _FOLDERS:03}"
            if number < _FOLDERS:
                folder.mkdir(parents=True)
            (folder / f"{number:06}").write_bytes(b"%06d" % number * (_FILE_BYTES // 6))
        repository.run("revfs", "add", "data", "--quiet")
        repository.commit("all of it")
        # The first one after a commit looks twice at what changed in the same second.
        time.sleep(1.1)
        repository.run("revfs", "status")
        for _ in range(runs):
            with session.measuring("status", OURS) as measurement:
                finished = repository.run("revfs", "status")
                measurement.value = measurement.seconds = finished.seconds
                measurement.add("command", finished)
