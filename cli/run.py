"""`revfs run`: commands whose inputs and outputs are recorded, and which run when those change."""

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click

from cli.child_mount import mounted
from cli.completing import Items, complete_revision, plain_items, repository_around
from cli.console import App
from cli.git_set_up import ensure_set_up
from cli.settings import Settings, load_settings
from cli.stores import jobs, require_initialised, store_settings
from store.add import AddContext, plan_add
from store.errors import Busy, ConfigError, StoreError
from store.ids import GitId
from store.interruptions import ended_by_exceptions
from store.local_store import LocalStore
from store.present_ids import PresentContext
from store.stage_lock import change_lock, load_lock
from store.stage_run import CommandFailed, StageTools, load_changes, run_stage
from store.stages import Stage, StageChange, StageRecord, check_stage, order_of
from store.walk import resolve_arguments

_WAIT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Request:
    """The command line, as it was typed."""

    name: str | None
    dependencies: tuple[Path, ...]
    outputs: tuple[Path, ...]
    plain_outputs: tuple[Path, ...]
    at: str | None
    words: tuple[str, ...]
    force: bool


_PATH = click.Path(path_type=Path)


def _complete_stage(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The names of the recorded stages."""
    with suppress(StoreError, OSError):
        work_tree = repository_around(ctx).work_tree
        names = [] if work_tree is None else sorted(load_lock(work_tree))
        return plain_items(names, incomplete)
    return []


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    shell_complete=_complete_stage,
    help="The stage that the command is.",
)
@click.option(
    "-d",
    "--dependency",
    "dependencies",
    multiple=True,
    type=_PATH,
    help="A file or folder it reads.",
)
@click.option(
    "-o", "--output", "outputs", multiple=True, type=_PATH, help="What it writes; is added as data."
)
@click.option(
    "--plain-output",
    "plain_outputs",
    multiple=True,
    type=_PATH,
    help="What it writes and git itself keeps, as metrics.json.",
)
@click.option(
    "--at",
    metavar="REV",
    shell_complete=complete_revision,
    help="Read the dependencies from this revision, mounted.",
)
@click.option("-f", "--force", is_flag=True, help="Run even where nothing changed.")
@click.option("--all", "run_all", is_flag=True, help="Run every recorded stage that has to run.")
@click.option("--list", "list_all", is_flag=True, help="List the stages, and why any has to run.")
@click.option(
    "--remove",
    metavar="NAME",
    shell_complete=_complete_stage,
    help="Forget a stage; its outputs stay.",
)
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
@click.argument("words", metavar="[--] [COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run_all: bool,
    list_all: bool,
    remove: str | None,
    as_json: bool,
    **given: object,
) -> None:
    """Run COMMAND, add what it writes, and record command, inputs and outputs in revfs.lock, which
    is to be committed. Where none of them changed since, nothing is run.

    COMMAND is started at the top of the work tree, without a shell; what an earlier run wrote is
    still there. {input} in its words, and REVFS_INPUT in its environment, are the folder of its
    inputs: that top, or with --at the mounted revision. A dependency that is a pointer in the work
    tree is refused: revfs pull gets its data, and --at has all data at once. A command that fails
    ends this with its own exit code, and nothing is recorded.

    A recorded stage is run again by its name alone, if something changed; --all runs all of them,
    each after those whose outputs it reads.

    \b
    Example:
      revfs run -n clean -d raw -o clean -- python clean.py raw clean
      git commit -m "Clean data" && revfs run --all
    """
    app: App = ctx.obj
    request = _Request(**given)  # type: ignore[arg-type]
    _check_usage(request, run_all, list_all, remove, as_json)
    session = _open_session(app)
    if list_all:
        _list(session, as_json)
    elif remove is not None:
        _remove(session, remove)
    else:
        with ended_by_exceptions():
            code = _run_all(session, request) if run_all else _run_named(session, request)
        ctx.exit(code)


def _check_usage(
    request: _Request, run_all: bool, list_all: bool, remove: str | None, as_json: bool
) -> None:
    modes = [request.name is not None, run_all, list_all, remove is not None]
    if sum(modes) != 1:
        raise click.UsageError("give one of -n NAME, --all, --list and --remove NAME")
    paths = request.dependencies + request.outputs + request.plain_outputs
    if paths and not request.words:
        raise click.UsageError("dependencies and outputs go with a COMMAND: put it last, after --")
    if request.name is None and (request.words or request.at is not None):
        raise click.UsageError("a COMMAND and --at go with -n NAME")
    if request.force and (list_all or remove is not None):
        raise click.UsageError("--force goes with -n NAME or --all")
    if as_json and not list_all:
        raise click.UsageError("--json goes with --list")


@dataclass(frozen=True, slots=True)
class _Session:
    """One run of the verb: where it is, and how it gets at the store."""

    app: App
    settings: Settings
    work_tree: Path

    @property
    def tools(self) -> StageTools:
        return StageTools(
            work_tree=self.work_tree,
            environment=self.app.environment,
            look=self.look,
            add=self.add,
            mount=lambda commit: mounted(self.app, self.work_tree, commit),
            announce=self.announce,
        )

    def records(self) -> dict[str, StageRecord]:
        return load_lock(self.work_tree)

    def changes(self, stages: Sequence[Stage]) -> dict[str, list[StageChange]]:
        with self.look() as context:
            return load_changes(context, stages, self.records())

    @contextmanager
    def look(self) -> Iterator[PresentContext]:
        """The work tree, to be looked at. Open for a moment only: a command may run for days."""
        with LocalStore(store_settings(self.settings), to_write=True) as local:
            yield PresentContext(
                repository=local.repository,
                work_tree=self.work_tree,
                stat_cache=local.open_stat_cache(),
                chunking=local.load_chunking(),
                jobs=jobs(),
            )

    def announce(self, stage: Stage) -> None:
        """Say what is run, on stderr: stdout is the command's."""
        if not self.app.console.quiet:
            self.app.console.trace(f"revfs: {stage.name}: {shlex.join(stage.command)}")

    def add(self, paths: Sequence[bytes]) -> None:
        """What `revfs add` does; waits for another that is at work, since the command may have
        taken hours."""
        ensure_set_up(self.app, self.settings.paths)
        with LocalStore(store_settings(self.settings), to_write=True) as local:
            while True:
                try:
                    return self._add(local, [Path(os.fsdecode(path)) for path in paths])
                except Busy:
                    time.sleep(_WAIT_SECONDS)

    def _add(self, local: LocalStore, paths: Sequence[Path]) -> None:
        context = AddContext.of(local, self.work_tree)
        with context.staging.locked("add"):
            plan = plan_add(context, self.work_tree, paths)
            with self.app.console.progress("add", plan.bytes_to_read) as progress:
                plan.execute(progress, jobs())


def _open_session(app: App) -> _Session:
    settings = load_settings(app)
    work_tree = settings.paths.work_tree
    if work_tree is None:
        raise ConfigError("a bare repository has no work tree to run commands in")
    require_initialised(settings)
    return _Session(app, settings, work_tree)


def _run_named(session: _Session, request: _Request) -> int:
    records = session.records()
    stage = _requested_stage(session, request, records)
    check_stage(stage)
    # Also before it is recorded: a ring is found now, not at the next --all.
    order_of([*(r.stage for n, r in records.items() if n != stage.name), stage])
    return _run_where_needed(session, stage, force=request.force)


def _requested_stage(
    session: _Session, request: _Request, records: dict[str, StageRecord]
) -> Stage:
    """The stage on the command line, or the recorded one of that name."""
    assert request.name is not None
    at = None if request.at is None else _commit(session, request.at)
    if request.words:
        return Stage(
            name=request.name,
            command=request.words,
            at=at,
            dependencies=_inside(session, request.dependencies),
            outputs=_inside(session, request.outputs),
            plain_outputs=_inside(session, request.plain_outputs),
        )
    if request.name not in records:
        raise _no_such_stage(request.name)
    recorded = records[request.name].stage
    return recorded if at is None else replace(recorded, at=at)


def _no_such_stage(name: str) -> StoreError:
    return StoreError(f"no stage goes by the name {name}; revfs run --list shows them")


def _commit(session: _Session, revision: str) -> GitId:
    with session.look() as context:
        return context.repository.resolve(revision).commit


def _inside(session: _Session, paths: Sequence[Path]) -> tuple[bytes, ...]:
    """Paths as they were typed, from the top of the work tree."""
    found = resolve_arguments(session.work_tree, session.app.cwd, paths)
    return tuple(dict.fromkeys(argument.path for argument in found))


def _run_all(session: _Session, request: _Request) -> int:
    stages = order_of(record.stage for record in session.records().values())
    if not stages:
        session.app.console.say("there is no stage yet: revfs run -n NAME ... -- COMMAND makes one")
    for stage in stages:
        code = _run_where_needed(session, stage, force=request.force)
        if code:
            return code
    return 0


def _run_where_needed(session: _Session, stage: Stage, *, force: bool) -> int:
    """Run a stage that is not up to date; the exit code of its command."""
    console = session.app.console
    if not force and not session.changes([stage])[stage.name]:
        console.say(f"{stage.name} is up to date")
        return 0
    try:
        run_stage(session.tools, stage)
    except CommandFailed as error:
        console.error(str(error))
        return error.code
    console.say(f"{stage.name} has run; revfs.lock is staged with its outputs")
    return 0


def _remove(session: _Session, name: str) -> None:
    if name not in session.records():
        raise _no_such_stage(name)
    with session.look() as context:
        change_lock(context.repository, session.work_tree, name, None)
    session.app.console.say(f"forgot {name}; its outputs stay as they are")


def _list(session: _Session, as_json: bool) -> None:
    records = session.records()
    stages = [records[name].stage for name in sorted(records)]
    changes = session.changes(stages)
    console = session.app.console
    if as_json:
        console.out_json([_as_json(records[s.name], changes[s.name]) for s in stages])
    elif stages:
        rows = [[s.name, _state(changes[s.name]), shlex.join(s.command)] for s in stages]
        console.table(["NAME", "STATE", "COMMAND"], rows)
    else:
        console.say("there is no stage yet")


def _state(changes: Sequence[StageChange]) -> str:
    return "; ".join(map(str, changes)) or "up to date"


def _as_json(record: StageRecord, changes: Sequence[StageChange]) -> dict[str, object]:
    stage, ids = record.stage, record.output_ids
    return {
        "name": stage.name,
        "command": list(stage.command),
        "at": stage.at,
        "dependencies": {os.fsdecode(p): i for p, i in record.dependency_ids.items()},
        "outputs": {os.fsdecode(path): ids[path] for path in stage.outputs},
        "plain_outputs": {os.fsdecode(path): ids[path] for path in stage.plain_outputs},
        "up_to_date": not changes,
        "changes": [
            {
                "kind": change.kind,
                "how": change.how,
                "path": None if change.path is None else os.fsdecode(change.path),
            }
            for change in changes
        ],
    }
