"""The command `revfs`: its verbs, the options before them, logging, and how a run ends.

The verbs are modules of their own, imported only when one is run, so that `revfs --help` costs no
more than click. `VERBS` is the one list of them.
"""

import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import App, Console, ConsoleLog
from store.errors import StoreError, leaves_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Verb:
    """Where the command of a verb is (`module:attribute`), and its line in the list of verbs."""

    target: str
    summary: str
    hidden: bool = False


VERBS = {
    "init": Verb("cli.init:command", "Set revfs up in a git repository or clone."),
    "remote": Verb("cli.remote:command", "Say where the data is kept: a bucket or a folder."),
    "add": Verb("cli.add:command", "Track files: their data for the remote, a pointer for git."),
    "remove": Verb("cli.remove:command", "Stop tracking files; they stay where they are."),
    "push": Verb("cli.push:command", "Upload the data of a commit to a remote."),
    "fetch": Verb("cli.fetch:command", "Bring the data of a revision into the cache."),
    "checkout": Verb("cli.checkout:command", "Write files whose data is here over their pointers."),
    "pull": Verb("cli.pull:command", "Fetch data, and write it over the pointers."),
    "resolve": Verb("cli.resolve:command", "End a conflict over a data file."),
    "mount": Verb("cli.mount:command", "Show a revision as a read-only directory."),
    "unmount": Verb("cli.unmount:command", "Take a mounted revision down."),
    "mounts": Verb("cli.mounts:command", "List what is mounted."),
    "warm": Verb("cli.warm:command", "Have a mount fetch ahead of need."),
    "ls": Verb("cli.ls:command", "List the files of a revision with their true sizes."),
    "cat": Verb("cli.cat:command", "Write a file of a revision to standard output."),
    "export": Verb("cli.export:command", "Write a revision as plain files, without a mount."),
    "du": Verb("cli.du:command", "Show true, stored and cached sizes of a revision."),
    "status": Verb("cli.status:command", "Show what is staged, modified, not pushed, and cached."),
    "diff": Verb("cli.diff:command", "Compare the files of two revisions."),
    "run": Verb("cli.run:command", "Run a command and record its inputs and outputs."),
    "gc": Verb("cli.gc:command", "Give space back: of the cache, and what nothing needs."),
    "config": Verb("cli.config:command", "Read and write settings."),
    "verify": Verb("cli.verify:command", "Check data against its commits; repair what can be."),
    "doctor": Verb("cli.doctor:command", "Check what revfs needs, and say how to mend it."),
    "completion": Verb("cli.completion:command", "Print what makes a shell complete revfs."),
    "man": Verb("cli.man:command", "Write the manual pages."),
    # What git runs; nobody types these.
    "filter-process": Verb("cli.filter_process:command", "", hidden=True),
    "hook": Verb("cli.hook:command", "", hidden=True),
}

# Our own layers only: below them, botocore logs whole requests at DEBUG, with their signatures.
_LOGGERS = ("store", "vfs", "cli")

_log = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """How a run of `revfs` can end; the only table from error to exit code."""

    DONE = 0
    FAILED = 1
    """It could not be done, and stderr says why; also a reader of our output that went away."""
    USAGE = 2
    """The command line was not understood."""
    BUG = 70
    """An error that revfs did not foresee (EX_SOFTWARE of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT, as shells have it)."""


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are run, and listed without that."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, verb in VERBS.items() if not verb.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module, _, attribute = verb.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return _with_common_options(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """As click has it, but without the import of every verb."""
        from cli.completing import complete_verbs

        verbs = ((name, VERBS[name].summary) for name in self.list_commands(ctx))
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*complete_verbs(verbs, incomplete), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            names = self.list_commands(ctx)
            formatter.write_dl([(name, VERBS[name].summary) for name in names])


def _with_common_options(command: click.Command) -> click.Command:
    """The command, and those below it, with the options that every verb takes behind it too."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _with_common_options(below)
    elif not any(parameter.name == "quiet" for parameter in command.params):
        command.params += [
            click.Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_be_quiet,
                help="Print only what was asked for, and errors.",
            ),
            click.Option(
                ["-v", "--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_be_verbose,
                help="Log every step, and show where an error came from.",
            ),
        ]
    return command


def _be_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.obj.console.quiet = True


def _be_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.obj = replace(ctx.obj, verbose=True)
        _set_log_level(verbose=True)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-q", "--quiet", is_flag=True, help="Print only what was asked for, and errors.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    envvar="REVFS_DEBUG",
    help="Log every step, and show where an error came from (also REVFS_DEBUG=1).",
)
@click.option(
    "-C",
    "folder",
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Run as if started in PATH.",
)
@click.option(
    "--repo",
    metavar="URL_OR_PATH",
    help="The repository, in place of the one around this folder; a clone of a URL is kept and "
    "updated by revfs.",
)
@click.version_option(package_name="revfs", message="%(prog)s %(version)s")
@click.pass_context
def revfs(
    ctx: click.Context, quiet: bool, verbose: bool, folder: Path | None, repo: str | None
) -> None:
    """Mount any git revision of a data repository; bytes stream in on first read.

    \b
    Example:
      revfs mount v1.2 /mnt/data
    """
    console = Console(quiet=quiet)
    _configure_logging(console, verbose)
    cwd = _current_folder() / (folder or "")
    ctx.obj = App(console, cwd, verbose, dict(os.environ), repo)


def _current_folder() -> Path:
    """Where the shell stands. In a mount that was taken down the kernel no longer says it, and the
    shell's own word has to do."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.environ.get("PWD", "/"))


def _configure_logging(console: Console, verbose: bool) -> None:
    """Warnings to stderr, and with -v every step of our own."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, ConsoleLog)]:
        root.removeHandler(handler)
    root.addHandler(ConsoleLog(console))
    _set_log_level(verbose=verbose)


def _set_log_level(*, verbose: bool) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.NOTSET)


def main() -> None:
    """The console script: run the arguments of this process and exit with their code."""
    _mend_streams()
    sys.exit(run(sys.argv[1:]))


def _mend_streams() -> None:
    """Make the three standard streams what everything here takes them for: there, and whole.

    /dev/null stands in for a closed one: else the next file that is opened would get its number.
    An unbuffered stdout (PYTHONUNBUFFERED) gets a buffer: without one Python forgets, in silence,
    what a short write has left over.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    raw = sys.stdout
    if isinstance(raw.buffer, io.RawIOBase):
        words = {"encoding": raw.encoding, "errors": raw.errors}
        sys.stdout = open(raw.fileno(), "w", buffering=1, closefd=False, **words)  # noqa: SIM115


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its ExitCode, with one clear line on stderr where it failed.

    A verb ends early with a code of its own by `ctx.exit(code)`. The traceback of a bug is shown
    with -v; errors inside exception groups count like those outside.
    """
    try:
        code = revfs.main(args=list(arguments), prog_name="revfs", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.DONE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        return _explain(error)


def _explain(error: BaseException) -> ExitCode:
    """Say why a run ended with `error`, in the words of the most telling part of it."""
    console = Console()
    parts = list(leaves_of(error))
    _log.debug("the command ended with an error", exc_info=error)
    if any(isinstance(part, KeyboardInterrupt | click.Abort) for part in parts):
        return ExitCode.INTERRUPTED
    for part in parts:
        if isinstance(part, StoreError):
            console.error(str(part))
            return ExitCode.FAILED
    if any(isinstance(part, BrokenPipeError) for part in parts):
        _drop_output()
        return ExitCode.FAILED
    for part in parts:
        if isinstance(part, OSError) and part.strerror:
            place = f"{part.filename}: " if part.filename else ""
            console.error(f"{place}{part.strerror}")
            return ExitCode.FAILED
    return _explain_bug(console, error, parts[0])


def _explain_bug(console: Console, error: BaseException, cause: BaseException) -> ExitCode:
    words = "".join(traceback.format_exception_only(cause)).strip()
    console.error(f"this is a bug in revfs: {words}")
    if not _log.isEnabledFor(logging.DEBUG):
        console.error("run it again with -v before the verb to see where it happened")
    return ExitCode.BUG


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
