"""`revfs doctor`: what revfs needs, and what to do where it is not so."""

import os
from collections.abc import Sequence

import click
import trio

from cli.console import App, format_count
from cli.options import JSON, REMOTE
from cli.settings import load_settings, repository_of
from cli.stores import open_mount_records
from store.checks import (
    Finding,
    Outcome,
    check_cache,
    check_git,
    check_python,
    load_user_config,
    not_checked,
    problem,
    run_check,
)
from store.config import load_config
from store.errors import StoreError
from store.remote_checks import check_remote
from store.repository_checks import check_repository, is_in_repository
from vfs.mount_checks import (
    check_device,
    check_helper,
    check_library,
    check_mounts,
    check_other_users,
)


@click.command("doctor")
@REMOTE
@JSON
@click.pass_context
def command(ctx: click.Context, remote_name: str | None, as_json: bool) -> None:
    """Check what revfs needs of this machine, this clone and its remote, and say what to do about
    each problem. A small object is written to the remote, read, and deleted again.

    Outside of a repository only the machine is checked. The exit code is 1 where there is a
    problem; with -q only problems are printed.

    \b
    Example:
      revfs doctor
    """
    app: App = ctx.obj
    findings = [*_check_machine(app), *_check_here(app, remote_name)]
    problems = [finding for finding in findings if finding.outcome is Outcome.PROBLEM]
    if as_json:
        app.console.out_json([_as_json(finding) for finding in findings])
    else:
        _show(app, findings)
        app.console.say(f"{format_count(len(problems), 'problem')} found")
    ctx.exit(1 if problems else 0)


def _check_machine(app: App) -> list[Finding]:
    user_id = os.geteuid()
    return [
        *run_check("git", check_git),
        *run_check("python", check_python),
        check_device(),
        *run_check("fusermount3", lambda: [check_helper(app.environment, user_id)]),
        check_library(),
        check_other_users(user_id),
        *run_check("mounts", lambda: check_mounts(open_mount_records(app).load_all())),
    ]


def _check_here(app: App, remote_name: str | None) -> list[Finding]:
    """The checks of the repository that is meant, of its remote, and of the cache it uses."""
    try:
        paths = repository_of(app)
        config = load_config(paths, app.environment)
    except StoreError as error:
        return [_why_no_repository(app, error), *run_check("cache", lambda: _check_cache(app))]
    return [
        *check_cache(config.cache_directory, config.cache_size_bytes),
        *check_repository(paths, config),
        *run_check("remote", lambda: _check_remote(app, remote_name)),
    ]


def _why_no_repository(app: App, error: StoreError) -> Finding:
    """Where nobody named a repository, that there is none is no problem."""
    is_expected = app.repo is None and not is_in_repository(app.cwd)
    return (not_checked if is_expected else problem)("repository", str(error))


def _check_cache(app: App) -> list[Finding]:
    """The cache that is used where no repository says anything else."""
    config = load_user_config(app.environment, app.cwd)
    return check_cache(config.cache_directory, config.cache_size_bytes)


def _check_remote(app: App, name: str | None) -> list[Finding]:
    remote = load_settings(app, remote_name=name).remote
    if remote is None:
        words = "there is none yet: `revfs remote add -d NAME URL` makes one"
        return [not_checked("remote", words)]
    return trio.run(check_remote, remote)


def _show(app: App, findings: Sequence[Finding]) -> None:
    """A line for each; of those where nothing is to be done, none with -q."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        line = f"{finding.outcome.value:<11}  {finding.name:<{width}}  {finding.text}"
        if finding.outcome is Outcome.PROBLEM:
            app.console.out(line)
        else:
            app.console.say(line)


def _as_json(finding: Finding) -> dict[str, str]:
    return {"check": finding.name, "outcome": finding.outcome.value, "text": finding.text}
