"""Stages: commands with what they read and what they write, and the order that follows. Pure.

A path is bytes from the top of the work tree, without slashes at its ends; an empty one is the top
itself. How stages are kept is in `store.stage_lock`, how they are run in `store.stage_run`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from store.errors import PathRefused, StoreError
from store.ids import GitId
from store.shown_names import escape_name

LOCK_FILE = b"revfs.lock"
_NAME = re.compile(r"\w[\w.@+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A command and its paths: `outputs` become tracked files, `plain_outputs` are kept by git
    itself. With `at`, the dependencies are those of that commit, not of the work tree."""

    name: str
    command: tuple[str, ...]
    at: GitId | None
    dependencies: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    plain_outputs: tuple[bytes, ...] = ()

    @property
    def all_outputs(self) -> tuple[bytes, ...]:
        """The outputs of both kinds."""
        return self.outputs + self.plain_outputs


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage as it was last run: the git ids that its dependencies had before and its outputs had
    after, as git's index would have them. Every path of the stage has one."""

    stage: Stage
    dependency_ids: Mapping[bytes, GitId]
    output_ids: Mapping[bytes, GitId]


@dataclass(frozen=True, slots=True)
class StageChange:
    """One reason to run a stage (again). `kind` is "stage" for one that was never run, else
    "command", "revision", "dependency" or "output"; `how` is "new", "changed", "missing" or
    "dropped". Only dependencies and outputs have a path."""

    kind: str
    how: str
    path: bytes | None = None

    def __str__(self) -> str:
        if self.kind == "stage":
            return "it was never run"
        words = self.kind if self.path is None else f"{self.kind} {escape_name(self.path) or '.'}"
        return f"{words} is {self.how}" if self.how in ("new", "missing") else f"{words} {self.how}"


PresentIds = Mapping[bytes, GitId | None]


def changes_of(
    stage: Stage, record: StageRecord | None, dependencies: PresentIds, outputs: PresentIds
) -> list[StageChange]:
    """Why a stage is not up to date, given what its paths are now (None for one that is not there);
    empty if it is."""
    if record is None:
        return [StageChange("stage", "new")]
    found = []
    if stage.command != record.stage.command:
        found.append(StageChange("command", "changed"))
    if stage.at != record.stage.at:
        found.append(StageChange("revision", "changed"))
    found += _path_changes("dependency", stage.dependencies, record.dependency_ids, dependencies)
    found += _path_changes("output", stage.all_outputs, record.output_ids, outputs)
    if set(stage.outputs) != set(record.stage.outputs) and not found:
        # The same paths, kept in another way.
        moved = sorted(set(stage.outputs) ^ set(record.stage.outputs))
        found += [StageChange("output", "changed", path) for path in moved]
    return found


def _path_changes(
    kind: str, paths: Iterable[bytes], recorded: Mapping[bytes, GitId], present: PresentIds
) -> list[StageChange]:
    wanted = set(paths)
    found = [StageChange(kind, "dropped", path) for path in recorded.keys() - wanted]
    for path in wanted:
        if path not in recorded:
            found.append(StageChange(kind, "new", path))
        elif present[path] is None:
            found.append(StageChange(kind, "missing", path))
        elif present[path] != recorded[path]:
            found.append(StageChange(kind, "changed", path))
    return sorted(found, key=lambda change: change.path or b"")


def check_stage(stage: Stage) -> None:
    """Raise StoreError for a stage that makes no sense, whatever the others are."""
    if not _NAME.fullmatch(stage.name):
        raise StoreError(
            f"{escape_name(stage.name)} cannot name a stage: use letters, digits, '_', '-', '.', "
            "'@' and '+', and begin with a letter, a digit or '_'"
        )
    if not stage.command or not stage.command[0]:
        raise StoreError(f"the stage {stage.name} has no command")
    for path in stage.all_outputs:
        if not path or _overlap(path, LOCK_FILE):
            raise PathRefused(
                f"{escape_name(path) or 'the whole work tree'} cannot be an output: name the files "
                "or folders that the command writes"
            )
    if stage.at is None:
        for path in stage.dependencies:
            if _overlap(path, LOCK_FILE):
                raise PathRefused(
                    f"{escape_name(path) or 'the whole work tree'} cannot be a dependency: it "
                    f"holds {LOCK_FILE.decode()}, which every run writes; name what is read of it"
                )
    _require_disjoint([stage])


def order_of(stages: Iterable[Stage]) -> list[Stage]:
    """The stages, each after those whose outputs it depends on; else by name.

    Raises StoreError where two outputs overlap, and where stages depend on each other in a ring.
    """
    by_name = {stage.name: stage for stage in stages}
    ordered = [by_name[name] for name in sorted(by_name)]
    _require_disjoint(ordered)
    sorter = TopologicalSorter({stage.name: _needed_by(stage, ordered) for stage in ordered})
    try:
        sorter.prepare()
    except CycleError as error:
        ring = error.args[1]
        if len(ring) == 2:
            raise StoreError(f"the stage {ring[0]} depends on its own output") from error
        raise StoreError(
            f"these stages depend on each other in a ring: {' -> '.join(reversed(ring))}"
        ) from error
    done: list[Stage] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        done += [by_name[name] for name in ready]
        sorter.done(*ready)
    return done


def _needed_by(stage: Stage, others: Sequence[Stage]) -> list[str]:
    # What comes from a revision is made by nobody in the work tree.
    if stage.at is not None:
        return []
    return [
        other.name
        for other in others
        if any(_overlap(d, o) for d in stage.dependencies for o in other.all_outputs)
    ]


def _require_disjoint(stages: Sequence[Stage]) -> None:
    """Sorted as paths are, what lies below a path comes straight after it."""
    outputs = sorted((tuple(o.split(b"/")), s.name) for s in stages for o in s.all_outputs)
    for (above, one), (below, other) in pairwise(outputs):
        if below[: len(above)] == above:
            whose = f"the stage {one} twice" if one == other else f"the stages {one} and {other}"
            raise StoreError(
                f"{escape_name(b'/'.join(below))} would be written by {whose}: outputs must not "
                "overlap"
            )


def _overlap(one: bytes, other: bytes) -> bool:
    """Whether two paths are the same or one lies below the other."""
    short, long = sorted((one, other), key=len)
    return not short or long == short or long.startswith(short + b"/")
