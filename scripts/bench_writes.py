"""Rows that write: add, push, and what an edit costs."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench_data import edit_in_places, write_random_file
from bench_peers import Dvc, make_dvc_repository
from bench_revfs import Revfs, make_repository
from bench_session import Session
from bench_table import DVC, OURS

ALL = ("small", "large")
TEXT = ("text",)
_PLACE_SHARE = 100 << 20


def place_data(session: Session, top: Path, parts: Sequence[str]) -> None:
    """The data in a work tree, by other names of the same files: nobody changes what they hold, and
    copies would fill the disk."""
    for part in parts:
        shutil.copytree(session.data.folder / part, top / part, copy_function=os.link)


def make_pushed(session: Session, parts: Sequence[str], rows: Sequence[str]) -> Revfs:
    """A repository of ours with these parts in its remote; `rows` are those of its add and push.
    Raises NotMeasured."""
    add_row, push_row = rows
    repository = make_repository(session, "revfs")
    place_data(session, repository.top, parts)
    with session.measuring(add_row, OURS) as measurement:
        finished = repository.run("revfs", "add", *parts, "--quiet")
        measurement.value = measurement.seconds = finished.seconds
        measurement.add("command", finished)
    repository.commit("all of it")
    with session.measuring(push_row, OURS) as measurement:
        finished = repository.run("revfs", "push", "--quiet")
        measurement.value = measurement.seconds = finished.seconds
        measurement.add("command", finished)
    return repository


def make_dvc_pushed(session: Session, rows: Sequence[str] = ("add", "push")) -> Dvc:
    """A repository of dvc with pictures and large file in its remote. Raises NotMeasured."""
    add_row, push_row = rows
    repository = make_dvc_repository(session)
    place_data(session, repository.top, ALL)
    with session.measuring(add_row, DVC) as measurement:
        finished = repository.run("dvc", "add", "--quiet", *ALL)
        measurement.value = measurement.seconds = finished.seconds
        measurement.add("command", finished)
    repository.run("git", "add", "--all")
    repository.run("git", "commit", "--quiet", "-m", "all of it")
    with session.measuring(push_row, DVC) as measurement:
        finished = repository.run("dvc", "push", "--quiet")
        measurement.value = measurement.seconds = finished.seconds
        measurement.add("command", finished)
    return repository


def measure_edit(session: Session, run: int) -> None:
    """The share of a large file that goes up again where a hundredth of it was edited in place."""
    if not session.wants("edit"):
        return
    with session.attempt(["edit"], OURS):
        repository = make_repository(session, "edited")
        large = repository.top / "large.bin"
        write_random_file(large, session.choice.scale.edited_bytes, run)
        size = large.stat().st_size
        _add_and_commit(repository, "before")
        repository.run("revfs", "push", "--quiet")
        # As many places as there are hundreds of MiB, so that it is alike at each scale.
        places = max(1, size // _PLACE_SHARE)
        edit_in_places(large, places, size // 100 // places, run)
        _add_and_commit(repository, "after")
        with session.measuring("edit", OURS) as measurement:
            before = session.link.get_traffic()
            finished = repository.run("revfs", "push", "--quiet")
            crossed = session.link.get_traffic().since(before)
            measurement.value = 100 * crossed.up_bytes / size
            measurement.seconds = finished.seconds
            measurement.add("command", finished)
        repository.discard()


def _add_and_commit(repository: Revfs, message: str) -> None:
    repository.run("revfs", "add", "large.bin", "--quiet")
    repository.commit(message)
