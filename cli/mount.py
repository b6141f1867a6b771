"""`revfs mount`: a revision as a folder, or all of them."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from cli.completing import complete_revision_then_place
from cli.console import App, LogFormatter
from cli.options import REMOTE, TIMEOUT
from cli.settings import SIZE, Settings, load_settings
from cli.stores import default_workers, open_mount_records, store_settings
from cli.warming_options import MountWarming, with_mount_warming
from store.errors import StoreError
from store.local_folders import make_private_folder
from vfs.daemon import run_in_background
from vfs.mount_records import mount_id
from vfs.mount_request import MountKind, MountRequest
from vfs.mountpoints import default_mountpoint, prepare, real_place

# What stands for the log of a mount that logs to where it was started.
_TERMINAL = Path("/dev/stderr")


@click.command("mount")
@click.argument(
    "words",
    metavar="REV[:PATH] [MOUNTPOINT]",
    nargs=-1,
    shell_complete=complete_revision_then_place,
)
@click.option("--all", "show_all", is_flag=True, help="All branches, tags and commits, by name.")
@click.option("--follow", is_flag=True, help="Move the mount whenever the branch REV moves.")
@click.option("--foreground", is_flag=True, help="Do not go to the background; log to stderr.")
@REMOTE
@click.option("--cache-size", type=SIZE, help="The most that the cache may hold, as in 50GiB.")
@TIMEOUT
@click.option("--allow-other", is_flag=True, help="Let other users read the mount.")
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=64),
    default=default_workers,
    metavar="N",
    help="How many processes serve it (a quarter of the cores, 1 to 8).",
)
@with_mount_warming
@click.option("--log", "log_file", type=click.Path(path_type=Path), help="Where the mount logs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON when the mount answers.")
@click.pass_obj
def command(
    app: App,
    words: tuple[str, ...],
    show_all: bool,
    follow: bool,
    foreground: bool,
    remote_name: str | None,
    cache_size: int | None,
    timeout: float | None,
    allow_other: bool,
    workers: int,
    log_file: Path | None,
    as_json: bool,
    warming: MountWarming,
) -> None:
    """Show revision REV, or its folder PATH, as a read-only folder. All files are there at once;
    bytes come on first read.

    MOUNTPOINT is an empty folder; without one it is mnt/REV at the top of the work tree. Returns
    when the mount answers; a process in the background serves it until `revfs unmount`.

    \b
    Example:
      revfs mount v1.2 /mnt/data && ls /mnt/data
      revfs mount --all /mnt/all && ls /mnt/all/branches
    """
    wish = _parse_words(words, show_all=show_all, follow=follow)
    settings = load_settings(app, remote_name=remote_name, cache_size=cache_size, timeout=timeout)
    make_private_folder(settings.cache_directory)
    records = open_mount_records(app)
    chosen = wish.mountpoint or default_mountpoint(settings.paths, wish.revision or "all")
    wanted = real_place(app.cwd / chosen)
    ahead = warming.checked(app.cwd, wanted)
    with records.claimed(wanted) as release:
        place = prepare(wanted, settings.paths, settings.cache_directory)
        log = _choose_log(app, settings, place, log_file, foreground=foreground)
        store = store_settings(settings)
        basics = (store, records, wish.revision, place, allow_other, log, wish.kind, workers)
        request = MountRequest(*basics, *ahead)
        _start(app, request, release, foreground=foreground, as_json=as_json)


class _Wish(NamedTuple):
    """What the words ask for; `revision` is empty where all are wanted."""

    kind: MountKind
    revision: str
    mountpoint: Path | None


def _parse_words(words: tuple[str, ...], *, show_all: bool, follow: bool) -> _Wish:
    if show_all and follow:
        raise click.UsageError("--all shows every branch as it moves; leave --follow out")
    most = 1 if show_all else 2
    if len(words) > most:
        expected = "only MOUNTPOINT with --all" if show_all else "REV and MOUNTPOINT"
        raise click.UsageError(f"there is a word too many: {words[most]!r}; name {expected}")
    if not show_all and not words:
        raise click.UsageError("name a revision, as in revfs mount v1.2 /mnt/data")
    place = Path(words[most - 1]) if len(words) == most else None
    if show_all:
        return _Wish(MountKind.ALL, "", place)
    return _Wish(MountKind.FOLLOW if follow else MountKind.REVISION, words[0], place)


def _choose_log(
    app: App, settings: Settings, place: Path, log_file: Path | None, *, foreground: bool
) -> Path:
    if log_file is not None:
        log = (app.cwd / log_file).absolute()
        _require_writable(log)
        return log
    if foreground:
        return _TERMINAL
    return make_private_folder(settings.cache_directory / "logs") / f"{mount_id(place)}.log"


def _start(
    app: App,
    request: MountRequest,
    release: Callable[[], None],
    *,
    foreground: bool,
    as_json: bool,
) -> None:
    """Mount from this process until it ends, or from one in the background; say when it is done."""

    def say_ready() -> None:
        release()
        if as_json:
            app.console.out_json(_facts(request))
        else:
            app.console.say(f"mounted {_title(request)} on {request.mountpoint}")

    def serve(ready: Callable[[], None]) -> None:
        # Imported only here, after any fork: libgit2, LMDB and trio are no things to fork with.
        from vfs.mounting import serve_mount

        if request.log != _TERMINAL:
            _log_to_file(request.log, app.verbose)
        serve_mount(request, ready)

    if foreground:
        serve(say_ready)
    else:
        run_in_background(serve, request.log)
        say_ready()


def _title(request: MountRequest) -> str:
    if request.kind is MountKind.ALL:
        return "all revisions"
    if request.kind is MountKind.FOLLOW:
        return f"{request.revision}, as it moves,"
    return request.revision


def _facts(request: MountRequest) -> dict[str, object]:
    """What its process says of a mount that has just become ready."""
    record = request.records.load(request.mountpoint)
    if record is None:
        raise StoreError(f"the mount on {request.mountpoint} has ended already")
    return {
        "mountpoint": record.mountpoint,
        "kind": record.kind,
        "revision": record.revision or None,
        "commit": record.commit or None,
        "pid": record.pid,
        "log": record.log,
    }


def _require_writable(log: Path) -> None:
    try:
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"the log {log} cannot be written: {error.strerror}") from error


def _log_to_file(log: Path, verbose: bool) -> None:
    """Log to a file that is put aside when it gets large, instead of to the terminal."""
    # What comes with it is nothing that the command itself should wait for.
    from cli.log_file import SharedLogFile

    handler = SharedLogFile(log)
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name in ("store", "vfs", "cli"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
