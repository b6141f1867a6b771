"""Running stages: what is up to date, what has to run, and what is recorded after it ran.

In this order: the ids of the dependencies, the command, its outputs added, their ids, `revfs.lock`.
Whatever stops the work before the last step leaves the record as it was, and the stage runs again.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from store.checkout import find_pointers
from store.errors import PathNotFound, PathRefused, StoreError
from store.git_command import run_git
from store.git_index import IndexedBlob
from store.ids import GitId
from store.interruptions import run_command
from store.present_ids import (
    PresentContext,
    at_or_below,
    load_present_ids,
    load_revision_ids,
    require_no_data_by_git,
)
from store.shown_names import escape_name
from store.stage_lock import change_lock
from store.stages import PresentIds, Stage, StageChange, StageRecord, changes_of
from store.walk import resolve_arguments
from store.work_tree_files import load_pointer

INPUT_VARIABLE = "REVFS_INPUT"
INPUT_WORD = "{input}"


class CommandFailed(StoreError):
    """The command of a stage ended with `code`, which is not 0; nothing was recorded."""

    def __init__(self, stage: Stage, code: int) -> None:
        super().__init__(f"{stage.name} ended with code {code}; nothing was recorded")
        self.code = code


@dataclass(frozen=True, slots=True)
class StageTools:
    """What a run needs of the rest of revfs.

    `look` opens the work tree for looking at it; `add` makes paths tracked and stages them; `mount`
    shows a commit as a folder while its context lasts; `announce` hears of a command that starts.
    """

    work_tree: Path
    environment: Mapping[str, str]
    look: Callable[[], AbstractContextManager[PresentContext]]
    add: Callable[[Sequence[bytes]], None]
    mount: Callable[[GitId], AbstractContextManager[Path]]
    announce: Callable[[Stage], None]


def load_changes(
    context: PresentContext, stages: Iterable[Stage], records: Mapping[str, StageRecord]
) -> dict[str, list[StageChange]]:
    """name → why that stage is not up to date; an empty list if it is. Runs nothing."""
    stages = list(stages)
    paths = {path for stage in stages for path in stage.all_outputs}
    paths |= {path for stage in stages if stage.at is None for path in stage.dependencies}
    present = load_present_ids(context, paths)
    return {
        stage.name: changes_of(
            stage, records.get(stage.name), _dependency_ids(context, stage, present), present
        )
        for stage in stages
    }


def _dependency_ids(context: PresentContext, stage: Stage, present: PresentIds) -> PresentIds:
    if stage.at is None:
        return present
    return load_revision_ids(context.repository, stage.at, stage.dependencies)


def run_stage(tools: StageTools, stage: Stage) -> StageRecord:
    """Run the command of a stage, add its outputs, and record it.

    Raises PathNotFound for a dependency that is not there, before the command runs, and for an
    output that is not there after it; PathRefused for a dependency without its data; CommandFailed.
    """
    places = [Path(os.fsdecode(path)) for path in stage.all_outputs]
    # Nothing is made or added beyond a link, whatever revfs.lock says.
    resolve_arguments(tools.work_tree, tools.work_tree, places)
    _require_not_ignored(tools.work_tree, stage)
    with tools.look() as context:
        require_no_data_by_git(context, stage.plain_outputs)
        dependencies = _dependencies_of(context, stage)
        if stage.at is None:
            _require_data(context, stage)
    _make_folders(tools.work_tree, stage.all_outputs)
    with nullcontext(tools.work_tree) if stage.at is None else tools.mount(stage.at) as source:
        code = _run(tools, stage, source)
    if code:
        raise CommandFailed(stage, code)
    _require_outputs(tools.work_tree, stage)
    if stage.outputs:
        tools.add(stage.outputs)
    if stage.plain_outputs:
        command: list[str | bytes] = [
            "--literal-pathspecs",
            "add",
            "--all",
            "--",
            *stage.plain_outputs,
        ]
        run_git(command, cwd=tools.work_tree)
    with tools.look() as context:
        found = load_present_ids(context, stage.all_outputs)
        outputs = _complete(found, f"the output {{}} of {stage.name} holds no file")
        record = StageRecord(stage, dependencies, outputs)
        change_lock(context.repository, tools.work_tree, stage.name, record)
    return record


def _dependencies_of(context: PresentContext, stage: Stage) -> dict[bytes, GitId]:
    if stage.at is None:
        found = load_present_ids(context, stage.dependencies)
        return _complete(
            found, f"{{}}, which {stage.name} depends on, is not there or holds no file"
        )
    found = load_revision_ids(context.repository, stage.at, stage.dependencies)
    return _complete(found, f"{{}}, which {stage.name} depends on, is not in {stage.at[:12]}")


def _require_data(context: PresentContext, stage: Stage) -> None:
    """The command would read the texts of pointers, and its outputs be recorded as made of data."""
    is_needed = at_or_below(stage.dependencies)
    entries = context.repository.index.load_entries()
    chosen = {path: entry for path, entry in entries.items() if is_needed(path)}
    pointers = [file.path for file in find_pointers(context.work_tree, chosen)]
    if pointers:
        raise PathRefused(
            f"{stage.name} depends on data of which the work tree has only pointers "
            f"({_some(pointers)}): revfs pull gets it, --at HEAD reads it from a mounted revision"
        )
    outside = [path for path, entry in chosen.items() if _is_elsewhere(context, path, entry)]
    if outside:
        raise PathRefused(
            f"{stage.name} depends on data that was added from elsewhere and is not in the work "
            f"tree ({_some(outside)}): commit it, and --at HEAD reads it from a mounted revision"
        )


def _is_elsewhere(context: PresentContext, path: bytes, entry: IndexedBlob) -> bool:
    if not entry.skipped or os.path.lexists(os.path.join(context.top, path)):
        return False
    return load_pointer(context.repository, entry) is not None


def _some(paths: Sequence[bytes]) -> str:
    more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return f"{escape_name(min(paths))}{more}"


def _complete(ids: PresentIds, complaint: str) -> dict[bytes, GitId]:
    """The ids, every one of which must be there."""
    found: dict[bytes, GitId] = {}
    for path in sorted(ids):
        present = ids[path]
        if present is None:
            raise PathNotFound(complaint.format(escape_name(path)))
        found[path] = present
    return found


def _require_not_ignored(work_tree: Path, stage: Stage) -> None:
    """Say so before a long run, not after it, as far as a rule can be known to name what is not
    there yet."""
    top = os.fsencode(work_tree)
    asked = {path: path for path in stage.all_outputs}
    # It may become a folder: whatever would be in it is ignored by a rule for a folder.
    asked |= {
        path + b"/\x01": path
        for path in stage.all_outputs
        if not os.path.lexists(os.path.join(top, path))
    }
    fed = b"".join(path + b"\0" for path in asked)
    command = ["check-ignore", "-z", "--stdin"]
    found = run_git(command, cwd=work_tree, stdin=fed, ok_codes=(0, 1)).split(b"\0")[:-1]
    for path in found:
        raise PathRefused(
            f"the output {escape_name(asked[path])} is ignored by git: take that rule away, or "
            "have the command write elsewhere"
        )


def _make_folders(work_tree: Path, outputs: Sequence[bytes]) -> None:
    """The folders that outputs lie in: git keeps no empty ones, so a clone may lack them."""
    for path in outputs:
        parent = os.path.join(os.fsencode(work_tree), os.path.dirname(path))
        try:
            os.makedirs(parent, exist_ok=True)
        except OSError as error:
            shown = escape_name(os.path.dirname(path))
            raise PathNotFound(f"the folder {shown} cannot be made: {error.strerror}") from error


def _run(tools: StageTools, stage: Stage, source: Path) -> int:
    tools.announce(stage)
    words = [word.replace(INPUT_WORD, str(source)) for word in stage.command]
    environment = {**tools.environment, INPUT_VARIABLE: str(source)}
    return run_command(words, cwd=tools.work_tree, environment=environment)


def _require_outputs(work_tree: Path, stage: Stage) -> None:
    for path in stage.all_outputs:
        if not os.path.lexists(os.path.join(os.fsencode(work_tree), path)):
            raise PathNotFound(
                f"{stage.name} did not write its output {escape_name(path)}; nothing was recorded"
            )
