"""`revfs mount`: a revision as a folder."""

import logging
import logging.handlers
import math
import os
from collections.abc import Callable
from pathlib import Path

import click

from cli.console import App, LogFormatter
from cli.settings import SIZE, Settings, load_settings
from cli.stores import open_mount_records, store_settings
from store.errors import StoreError
from store.local_folders import make_private_folder
from vfs.daemon import run_in_background
from vfs.mount_records import mount_id
from vfs.mount_request import MountRequest
from vfs.mountpoints import default_mountpoint, prepare, real_place

_LOG_BYTES = 4 << 20
_OLD_LOGS = 2
# What stands for the log of a mount that logs to where it was started.
_TERMINAL = Path("/dev/stderr")


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A range lets "nan" pass, which is on neither side of anything."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("it must be a number of seconds")
    return value


@click.command("mount")
@click.argument("revision", metavar="REV")
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--foreground", is_flag=True, help="Serve from this process, and log to stderr.")
@click.option("--remote", "remote_name", metavar="NAME", help="The remote; else the default one.")
@click.option("--cache-size", type=SIZE, help="The most that the cache may hold, as in 50GiB.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    metavar="SECONDS",
    help="How long a read waits for its bytes before it fails (30).",
)
@click.option("--allow-other", is_flag=True, help="Let other users read the mount.")
@click.option("--log", "log_file", type=click.Path(path_type=Path), help="Where the mount logs.")
@click.pass_obj
def command(
    app: App,
    revision: str,
    mountpoint: Path | None,
    foreground: bool,
    remote_name: str | None,
    cache_size: int | None,
    timeout: float | None,
    allow_other: bool,
    log_file: Path | None,
) -> None:
    """Show revision REV as a read-only folder. All files are there at once; bytes come on first
    read.

    MOUNTPOINT is an empty folder; without one it is mnt/REV at the top of the work tree. Returns
    when the mount answers; a process in the background serves it until `revfs unmount`.

    \b
    Example:
      revfs mount v1.2 /mnt/data && ls /mnt/data
    """
    settings = load_settings(app, remote_name=remote_name, cache_size=cache_size, timeout=timeout)
    make_private_folder(settings.cache_directory)
    records = open_mount_records(app)
    chosen = default_mountpoint(settings.paths, revision) if mountpoint is None else mountpoint
    wanted = real_place(app.cwd / chosen)
    with records.claimed(wanted) as release:
        place = prepare(wanted, settings.paths, settings.cache_directory)
        log = _choose_log(app, settings, place, log_file, foreground=foreground)
        request = MountRequest(store_settings(settings), records, revision, place, allow_other, log)
        _start(app, request, release, foreground=foreground)


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
    app: App, request: MountRequest, release: Callable[[], None], *, foreground: bool
) -> None:
    """Mount from this process until it ends, or from one in the background; say when it is done."""

    def say_ready() -> None:
        release()
        app.console.say(f"mounted {request.revision} on {request.mountpoint}")

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


def _require_writable(log: Path) -> None:
    try:
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"the log {log} cannot be written: {error.strerror}") from error


def _log_to_file(log: Path, verbose: bool) -> None:
    """Log to a file that is put aside when it gets large, instead of to the terminal."""
    handler = logging.handlers.RotatingFileHandler(log, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS)
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name in ("store", "vfs", "cli"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
