"""`revfs man`: manual pages made from the help of the verbs."""

import importlib.metadata
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from cli.console import App, format_count
from cli.main import VERBS, ExitCode
from cli.roff import Page, bold, commands_list, definitions, page_text

_EXIT_CODES: Mapping[ExitCode, str] = {
    ExitCode.DONE: "It is done.",
    ExitCode.FAILED: "It could not be done, and standard error says why.",
    ExitCode.USAGE: "The command line was not understood.",
    ExitCode.BUG: "An error that revfs did not foresee.",
    ExitCode.INTERRUPTED: "It was interrupted by Ctrl-C.",
}
_VARIABLES = {
    "REVFS_REMOTE": "The default remote; as the setting `core.remote`.",
    "REVFS_CACHE_DIR": "The folder of the cache; as the setting `cache.directory`.",
    "REVFS_CACHE_SIZE": "The most that the cache may hold; as the setting `cache.size`.",
    "REVFS_TIMEOUT": "How many seconds a read waits for its bytes; as the setting `mount.timeout`.",
    "REVFS_DEBUG": "If it is 1, every step is logged, as with `-v`.",
    "NO_COLOR": "If it is not empty, nothing is coloured.",
    "XDG_CACHE_HOME": "Where the folder `revfs` of the cache lies; `~/.cache` if it is not set.",
    "XDG_CONFIG_HOME": "Where the user's `revfs/config` lies; `~/.config` if it is not set.",
    "AWS_PROFILE": "The credentials for a bucket; so are all others that boto3 knows.",
}
_FILES = {
    ".revfsconfig": "Committed: the id of the repository, and its remotes.",
    ".gitattributes": "Committed: marks tracked paths with `filter=revfs`.",
    ".revfsignore": "What `revfs add` passes over, in the form of `.gitignore`.",
    "revfs.lock": "Committed: what `revfs run` recorded.",
    ".git/revfs/": "Data that was added and not pushed yet, and the settings of this clone.",
}


@dataclass(frozen=True, slots=True)
class _Found:
    """A command, its words, and what it is in a line."""

    words: tuple[str, ...]
    summary: str
    command: click.Command
    context: click.Context

    @property
    def name(self) -> str:
        return "-".join(self.words)


@dataclass(frozen=True, slots=True)
class _Edition:
    """What all pages that are made together share."""

    version: str
    date: str


@click.command("man")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, folder: Path | None) -> None:
    """Write a manual page for revfs and for each of its verbs into DIR, which is made if it is not
    there; without DIR, print that of revfs itself.

    \b
    Example:
      revfs man | man -l -
      revfs man ~/.local/share/man/man1 && man revfs-mount
    """
    app: App = ctx.obj
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    context = click.Context(group, info_name="revfs", **group.context_settings)
    edition = _Edition(importlib.metadata.version("revfs"), _date(app.environment))
    if folder is None:
        click.echo(page_text(_main_page(group, context, edition)), nl=False)
        return
    place = app.cwd / folder
    place.mkdir(parents=True, exist_ok=True)
    pages = [_main_page(group, context, edition), *_verb_pages(group, context, edition)]
    for page in pages:
        _write(place, page)
    app.console.say(f"wrote {format_count(len(pages), 'page')} to {place}")


def _date(environment: Mapping[str, str]) -> str:
    """Today, or what a package's build wants to have for it
    (https://reproducible-builds.org/specs/source-date-epoch/)."""
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdecimal() and len(epoch) < 12 else time.time()
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _write(folder: Path, page: Page) -> None:
    """Whole, and in place of what has the name: not through a link."""
    path = folder / f"{page.name}.1"
    temporary = folder / f".{page.name}.1.{os.getpid()}"
    try:
        temporary.write_text(page_text(page), encoding="ascii")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _main_page(group: click.Group, context: click.Context, edition: _Edition) -> Page:
    """The page of revfs itself, for which no verb need be looked at."""
    names = group.list_commands(context)
    verbs = ((f"revfs-{name}", VERBS[name].summary) for name in names)
    return Page(
        words=("revfs",),
        summary="Mount any git revision of a data repository.",
        command=group,
        context=context,
        version=edition.version,
        date=edition.date,
        more=(("COMMANDS", commands_list(verbs)), *_general_sections()),
        see_also=("fusermount3(1)", "git(1)", "gitattributes(5)"),
    )


def _verb_pages(group: click.Group, context: click.Context, edition: _Edition) -> Iterator[Page]:
    """The pages of all verbs and of what is below them."""
    found = list(_walk(group, context, ("revfs",)))
    for item in found:
        yield Page(
            words=item.words,
            summary=item.summary,
            command=item.command,
            context=item.context,
            version=edition.version,
            date=edition.date,
            more=tuple(_sections_below(item, found)),
            see_also=tuple("-".join(item.words[:depth]) for depth in range(1, len(item.words))),
        )


def _walk(group: click.Group, context: click.Context, words: tuple[str, ...]) -> Iterator[_Found]:
    """Every command below a group that is not hidden, each before those below it."""
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        if below is None or below.hidden:
            continue
        inner = click.Context(below, parent=context, info_name=name)
        inner_words = (*words, name)
        line = below.get_short_help_str(limit=1000)
        summary = VERBS[name].summary if len(inner_words) == 2 else line
        yield _Found(inner_words, summary, below, inner)
        if isinstance(below, click.Group):
            yield from _walk(below, inner, inner_words)


def _general_sections() -> Iterator[tuple[str, str]]:
    codes = ((bold(str(int(code))), words) for code, words in _EXIT_CODES.items())
    yield "EXIT STATUS", definitions(codes)
    yield "ENVIRONMENT", definitions((bold(name), words) for name, words in _VARIABLES.items())
    yield "FILES", definitions((bold(name), words) for name, words in _FILES.items())


def _sections_below(item: _Found, found: list[_Found]) -> Iterator[tuple[str, str]]:
    below = [f for f in found if f.words[:-1] == item.words]
    if below:
        yield "COMMANDS", commands_list((f.name, f.summary) for f in below)
    yield "EXIT STATUS", "As \\fBrevfs\\fR(1) has it, but for what is said above."
