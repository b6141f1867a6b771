"""`revfs verify`: data against the commits that need it, here, in a remote, and in the cache."""

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass

import click
import trio

from cli.completing import complete_remote, complete_revision
from cli.console import App, format_bytes, format_count
from cli.options import JSON
from cli.push import other_remotes
from cli.settings import Settings, load_settings
from cli.stores import require_initialised, store_settings
from cli.verify_words import FindingWords, plan_facts, show_plan
from store.errors import ConfigError, StoreError
from store.git import Commit, GitRepository
from store.local_store import LocalStore
from store.progress import ByteProgress
from store.push import PushSummary
from store.tool_name import tool_name
from store.verification import Verification
from store.verify import verify_remote
from store.verify_cache import CacheReport, verify_cache
from store.verify_local import LocalVerification, verify_local
from store.verify_opening import OpenVerification, VerifyOptions, open_other, open_verification
from store.verify_repair import RepairPlan, plan_repair


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for. `remote` is None where no remote is to be asked, and empty
    for the default one."""

    revisions: tuple[str, ...]
    all_refs: bool
    history: bool
    remote: str | None
    read: bool
    repair: bool
    dry_run: bool
    yes: bool
    of_cache: bool
    as_json: bool

    def check(self) -> None:
        """Raise UsageError for what does not go together."""
        rest = (self.revisions, self.all_refs, self.history, self.remote is not None, self.repair)
        if self.of_cache and (any(rest) or self.read):
            raise click.UsageError("--cache checks all of the cache, and goes with --json alone")
        if self.all_refs and self.revisions:
            raise click.UsageError("give revisions or --all, not both")
        if self.repair and self.remote is None:
            raise click.UsageError("--repair puts back what a remote lost: give --remote, too")
        if (self.dry_run or self.yes) and not self.repair:
            raise click.UsageError("--dry-run and --yes go with --repair")


@click.command("verify")
@click.argument("revisions", metavar="[REV...]", nargs=-1, shell_complete=complete_revision)
@click.option(
    "--all",
    "all_refs",
    is_flag=True,
    help="All branches and tags; with --remote also every other commit here that has a manifest.",
)
@click.option("--history", is_flag=True, help="Also the commits before them.")
@click.option(
    "--remote",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    shell_complete=complete_remote,
    help="Check what is in that remote, or in the default one.",
)
@click.option("--read", is_flag=True, help="Read and hash every byte; else sizes and tables.")
@click.option("--repair", is_flag=True, help="Put back what there is a copy of; shows how first.")
@click.option("--dry-run", is_flag=True, help="With --repair: only show how.")
@click.option("--yes", is_flag=True, help="With --repair: do not ask.")
@click.option("--cache", "of_cache", is_flag=True, help="Check the cache, and drop what is wrong.")
@JSON
@click.pass_context
def command(
    ctx: click.Context,
    revisions: tuple[str, ...],
    all_refs: bool,
    history: bool,
    remote: str | None,
    read: bool,
    repair: bool,
    dry_run: bool,
    yes: bool,
    of_cache: bool,
    as_json: bool,
) -> None:
    """Check that all data of HEAD, or of each REV, is there and is what the commit says. Every file
    that is hurt is named, with the object that hurts it.

    Without --remote it is about this machine: git's objects, staged packs, and whether all else is
    in the cache or known to be in the remote, which is not asked. With --remote it is about the
    remote: manifests, index objects, packs and their tables, and with --read every byte. The exit
    code is 1 where something is missing or damaged, or not pushed.

    --repair puts back what is staged, cached, in the work tree, in another remote, or sound still
    in a damaged pack. It goes into new packs; what is damaged is not written over.

    \b
    Example:
      revfs verify --all --remote --read
    """
    asked = _Asked(
        revisions, all_refs, history, remote, read, repair, dry_run, yes, of_cache, as_json
    )
    asked.check()
    app: App = ctx.obj
    if of_cache:
        ctx.exit(_check_cache(app, asked))
    if remote is None:
        ctx.exit(_check_here(app, asked))
    ctx.exit(_check_remote(app, *_sort_out(app, asked)))


def _sort_out(app: App, asked: _Asked) -> tuple[_Asked, Settings]:
    """The settings with the remote that is meant. What stands behind --remote and is none of the
    remotes is a revision."""
    name = asked.remote or None
    if name is not None:
        settings = load_settings(app)
        if name not in settings.config.remote_names():
            return _with_revision(asked, name), settings
    return asked, load_settings(app, remote_name=name)


def _with_revision(asked: _Asked, name: str) -> _Asked:
    if asked.all_refs:
        raise ConfigError(f"there is no remote {name}")
    facts = {field: getattr(asked, field) for field in asked.__slots__}
    return _Asked(**{**facts, "revisions": (name, *asked.revisions), "remote": ""})


def _commits(repository: GitRepository, asked: _Asked) -> list[Commit]:
    if asked.all_refs:
        tips = list(repository.branch_and_tag_commits())
    else:
        names = list(asked.revisions) or ["HEAD"]
        if names == ["HEAD"] and not repository.head_exists():
            raise ConfigError("there is no commit yet: git commit first")
        tips = [repository.resolve(name).commit for name in names]
    if asked.history:
        return repository.history(tips)
    found = [repository.resolve(tip) for tip in dict.fromkeys(tips)]
    return [Commit(revision.commit, revision.tree) for revision in found]


def _check_cache(app: App, asked: _Asked) -> int:
    settings = load_settings(app)
    with (
        LocalStore(store_settings(settings), to_write=False) as local,
        app.console.progress("verify", None) as progress,
    ):
        report = verify_cache(local.cache, local.index, progress)
    if asked.as_json:
        app.console.out_json(asdict(report))
    else:
        app.console.say(_cache_words(report))
    return 0 if report.is_clean else 1


def _cache_words(report: CacheReport) -> str:
    words = f"checked {format_count(report.packs, 'pack')} ({format_bytes(report.checked_bytes)})"
    if report.unknown_packs:
        words += f", {report.unknown_packs:,} of them without a table to check them by"
    if report.is_clean:
        return f"{words}: nothing is wrong"
    dropped = format_bytes(report.dropped_bytes)
    parts = [f"{format_count(report.damaged_chunks, 'damaged chunk')} ({dropped})"]
    if report.lost_files:
        parts.append(f"what was said of {format_count(report.lost_files, 'file')} that are gone")
    if report.bad_rows:
        parts.append(format_count(report.bad_rows, "damaged row"))
    return f"{words}; dropped {', '.join(parts)}: what is needed is fetched again"


def _check_here(app: App, asked: _Asked) -> int:
    settings = load_settings(app)
    with LocalStore(store_settings(settings), to_write=False) as local:
        commits = _commits(local.repository, asked)
        with app.console.progress("verify", None) as progress:
            found = trio.run(_verify_here, local, commits, progress, asked.read)
        words = FindingWords(app, local.directories)
        findings = found.findings.all()
        if asked.as_json:
            facts = {
                "commits": found.commits,
                "files": found.files,
                "here": found.here,
                "staged_packs": found.staged_packs,
            }
            app.console.out_json(facts | {"findings": words.facts(findings)})
        else:
            words.say(findings)
            app.console.say(f"{_here_words(found)}: {words.sum(findings)}")
    return 1 if findings else 0


def _here_words(found: LocalVerification) -> str:
    files, commits = format_count(found.files, "file"), format_count(found.commits, "commit")
    elsewhere = found.files - found.here
    where = f"{elsewhere:,} only in the remote or nowhere" if elsewhere else "all of them here"
    return f"{commits} ({files}, {where}), {format_count(found.staged_packs, 'staged pack')}"


async def _verify_here(
    local: LocalStore, commits: Sequence[Commit], progress: ByteProgress, read: bool
) -> LocalVerification:
    return await verify_local(local, commits, progress, read=read)


def _check_remote(app: App, asked: _Asked, settings: Settings) -> int:
    if settings.remote is None:
        raise ConfigError("there is no remote yet: `revfs remote add -d NAME URL` makes one")
    require_initialised(settings)
    with LocalStore(store_settings(settings), to_write=asked.repair) as local:
        return trio.run(_RemoteRun(app, asked, settings, local).run)


class _RemoteRun:
    """One check of a remote, and its repair."""

    def __init__(self, app: App, asked: _Asked, settings: Settings, local: LocalStore) -> None:
        self._app = app
        self._asked = asked
        self._settings = settings
        self._local = local
        self._words = FindingWords(app, local.directories)
        assert settings.remote is not None
        self._url = settings.remote.url

    async def run(self) -> int:
        """The exit code."""
        commits = _commits(self._local.repository, self._asked)
        options = VerifyOptions(read=self._asked.read, every_manifest=self._asked.all_refs)
        async with open_verification(self._local, options) as opened:
            with self._app.console.progress("verify", None) as progress:
                found = await verify_remote(opened.context, commits, progress)
            findings = found.findings.all()
            if not self._asked.as_json:
                self._words.say(findings)
                self._app.console.say(self._summary(found))
            if self._asked.repair and findings:
                return await self._repair(opened, found)
        if self._asked.as_json:
            self._app.console.out_json(self._facts(found))
        return 1 if findings else 0

    def _summary(self, found: Verification) -> str:
        commits = format_count(len(found.commits), "commit")
        files = format_count(found.files, "file")
        packs = format_count(len(found.checks), "pack")
        how = "read whole" if self._asked.read else "sizes and tables"
        words = f"{commits} ({files}) in {self._url}, {packs} ({how})"
        if found.unknown:
            words += (
                f", {format_count(len(found.unknown), 'manifest')} of commits not in this clone"
            )
        return f"{words}: {self._words.sum(found.findings.all())}"

    def _facts(self, found: Verification) -> dict[str, object]:
        return {
            "remote": self._url,
            "commits": len(found.commits),
            "files": found.files,
            "packs": len(found.checks),
            "read": self._asked.read,
            "findings": self._words.facts(found.findings.all()),
        }

    async def _repair(self, opened: OpenVerification, found: Verification) -> int:
        tool = tool_name()
        assert self._local.staging is not None
        with self._local.staging.locked("push"):
            async with AsyncExitStack() as stack:
                others = []
                for remote in other_remotes(self._settings):
                    source = open_other(self._local, remote)
                    others.append(await stack.enter_async_context(source))
                context = opened.repair_context(found, tool, others)
                with self._app.console.progress("look for copies", None) as progress:
                    plan = await plan_repair(found, context, progress)
                summary = await self._carry_out(plan)
        is_whole = summary is not None and not (plan.lost or plan.not_pushed)
        if self._asked.as_json:
            done = None if summary is None else asdict(summary)
            facts = {"plan": plan_facts(plan), "done": done}
            self._app.console.out_json(self._facts(found) | {"repair": facts})
        return 0 if is_whole else 1

    async def _carry_out(self, plan: RepairPlan) -> PushSummary | None:
        """Show the plan, and do it unless somebody does not want it."""
        app = self._app
        if not self._asked.as_json:
            show_plan(app, plan)
        if plan.is_empty or self._asked.dry_run:
            return None
        if not self._asked.yes:
            if self._asked.as_json or not sys.stdin.isatty():
                raise StoreError("nothing was changed: give --yes to repair without being asked")
            if not click.confirm(f"repair {self._url} so?", err=True):
                return None
        with ExitStack() as shown:

            def progress_to(total_bytes: int | None) -> ByteProgress:
                shown.close()
                return shown.enter_context(app.console.progress("repair", total_bytes))

            summary = await plan.execute(progress_to)
        if not self._asked.as_json:
            commits = format_count(summary.commits, "commit")
            size = format_bytes(summary.uploaded_bytes)
            app.console.say(f"repaired {self._url} for {commits}: {size} uploaded")
        return summary
