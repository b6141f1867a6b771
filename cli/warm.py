"""`revfs warm`: a mount fetches ahead of need."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from cli.completing import complete_mountpoint
from cli.console import App, Progress, format_bytes, format_count
from cli.options import JSON
from cli.stores import open_mount_records
from cli.warming_options import AHEAD, paths_inside
from store.errors import ConfigError, StoreError
from store.messages import Facts, Kind, pack_numbered, pack_paths
from store.order_files import MountPaths, read_order
from vfs.keeper_client import KeeperAway, KeeperClient
from vfs.mount_records import MountRecord

_POLL_SECONDS = 0.2
# So long a keeper that was killed may take to be replaced and to go on.
_AWAY_SECONDS = 15.0


class _Mount(NamedTuple):
    """A mount, and how paths are meant that somebody types to a place in it."""

    record: MountRecord
    inside: MountPaths


@click.command("warm")
@click.argument("mountpoint", type=click.Path(path_type=Path), shell_complete=complete_mountpoint)
@click.argument("paths", metavar="[PATH...]", nargs=-1)
@click.option(
    "--order",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Keep ahead of a job that reads the paths in FILE, one a line; - is standard input.",
)
@click.option("-z", "nul", is_flag=True, help="In FILE a NUL ends each path.")
@AHEAD
@click.option("--wait", is_flag=True, help="Return when all is here.")
@click.option("--stop", is_flag=True, help="End all that the mount is warming.")
@JSON
@click.pass_obj
def command(
    app: App,
    mountpoint: Path,
    paths: tuple[str, ...],
    order: Path | None,
    nul: bool,
    ahead_bytes: int,
    wait: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Have a mount fetch what is below each PATH (all of it, if none is named) ahead of need, after
    whatever is being read. It is what the mount shows now. Returns at once; Ctrl-C of --wait leaves
    it going on.

    MOUNTPOINT may be any folder in the mount: a PATH is relative to it, or absolute.

    With --order only so much is fetched ahead of the job as --ahead says, and more as it reads on.
    `revfs mount --record` writes such a file.

    \b
    Example:
      revfs warm /mnt/data train --wait
      python print_sampler.py | revfs warm /mnt/data --order -
    """
    if order is not None and paths:
        raise click.UsageError("an order has its own paths: leave out PATH or --order")
    mount = _find_mount(app, mountpoint)
    with KeeperClient(Path(mount.record.control)) as keeper, _telling_what_goes_on(app, mount):
        if stop:
            _stop(app, keeper, mount)
            return
        if order is None:
            facts = keeper.ask(Kind.WARM, pack_paths(paths_inside(paths or ["."], mount.inside)))
        else:
            facts = _send_order(app, keeper, mount, order, nul, ahead_bytes)
        if wait:
            facts = _wait(app, keeper, mount, facts["number"])
        _say(app, mount, facts, as_json)


@contextmanager
def _telling_what_goes_on(app: App, mount: _Mount) -> Iterator[None]:
    """Say what becomes of it where the command is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        place = mount.record.mountpoint
        app.console.warn(f"what has begun goes on; `revfs warm {place} --stop` ends it")
        raise


def _find_mount(app: App, mountpoint: Path) -> _Mount:
    """The mount that a place is in. Raises StoreError where there is none that answers."""
    typed = Path(os.path.normpath(app.cwd.absolute() / mountpoint))
    real = Path(os.path.realpath(typed))
    above = [r for r in open_mount_records(app).load_all() if real.is_relative_to(r.mountpoint)]
    if not above:
        raise StoreError(f"no revision is mounted on {typed}; revfs mounts lists those that are")
    record = max(above, key=lambda record: len(record.mountpoint))
    if not record.is_alive():
        raise StoreError(f"the mount on {record.mountpoint} is dead; mount it again")
    if not record.control:
        raise StoreError(f"the mount on {record.mountpoint} is of an older revfs; mount it again")
    base = os.fsencode(real.relative_to(record.mountpoint))
    base = b"" if base == b"." else base
    top = os.fsencode(typed).removesuffix(b"/" + base if base else b"")
    return _Mount(record, MountPaths([os.fsencode(record.mountpoint), top], base))


def _send_order(
    app: App, keeper: KeeperClient, mount: _Mount, order: Path, nul: bool, ahead_bytes: int
) -> Facts:
    facts = keeper.ask(Kind.ORDER, str(ahead_bytes).encode())
    number = facts["number"]
    with _open_order(app, order) as file:
        try:
            for batch in read_order(file, mount.inside, nul=nul):
                facts = keeper.ask(Kind.ORDER_PATHS, pack_numbered(number, pack_paths(batch)))
        except ConfigError as error:
            raise ConfigError(f"{order} cannot be an order: {error}") from error
    unknown, first = format_count(facts["unknown"], "path"), facts["first_unknown"]
    if not facts["files"]:
        raise StoreError(
            f"of {unknown} in {order} none is a file of the mount{first and f', as {first}'}"
        )
    if facts["unknown"]:
        app.console.warn(f"in {order} there is no file of the mount for {unknown}, as {first}")
    return keeper.ask(Kind.FOLLOW, pack_numbered(number, b""))


@contextmanager
def _open_order(app: App, order: Path) -> Iterator[BinaryIO]:
    if str(order) == "-":
        yield sys.stdin.buffer
        return
    with (app.cwd / order).open("rb") as file:
        yield file


def _wait(app: App, keeper: KeeperClient, mount: _Mount, number: int) -> Facts:
    """What is known of a warming at its end. Raises StoreError where not all of it is here."""
    with app.console.progress("warm", None) as progress:
        facts = _watch(keeper, mount, number, progress)
    if facts["failed"]:
        files = format_count(facts["failed"], "file")
        raise StoreError(f"{files} could not be fetched, as {facts['error']}")
    if facts["error"]:
        raise StoreError(facts["error"])
    return facts


def _watch(keeper: KeeperClient, mount: _Mount, number: int, progress: Progress) -> Facts:
    done_bytes = 0
    heard = time.monotonic()
    while True:
        facts = _facts_of(keeper, number)
        if facts is not None:
            heard = time.monotonic()
            progress.set_total(facts["wanted_bytes"])
            progress.advance(max(0, facts["done_bytes"] - done_bytes))
            done_bytes = max(done_bytes, facts["done_bytes"])
            if facts["has_ended"]:
                return facts
        elif not mount.record.is_alive() or time.monotonic() - heard > _AWAY_SECONDS:
            raise StoreError(f"the mount on {mount.record.mountpoint} ended before all was here")
        time.sleep(_POLL_SECONDS)


def _facts_of(keeper: KeeperClient, number: int) -> Facts | None:
    """What the keeper knows of a warming; None while another takes its place."""
    try:
        warmings = keeper.ask(Kind.WARMINGS)["warmings"]
    except KeeperAway:
        return None
    return next((facts for facts in warmings if facts["number"] == number), None)


def _stop(app: App, keeper: KeeperClient, mount: _Mount) -> None:
    stopped = keeper.ask(Kind.STOP)["warmings"]
    if stopped:
        app.console.say(f"stopped {format_count(len(stopped), 'warming')}")
    else:
        app.console.say(f"nothing is being warmed on {mount.record.mountpoint}")


def _say(app: App, mount: _Mount, facts: Facts, as_json: bool) -> None:
    if as_json:
        app.console.out_json(facts)
        return
    files = format_count(facts["files"], "file")
    if facts["has_ended"]:
        size, fetched = format_bytes(facts["done_bytes"]), format_bytes(facts["fetched_bytes"])
        app.console.say(f"{files} are here ({size}), {fetched} were fetched")
    elif facts["is_order"]:
        app.console.say(f"following an order of {files} on {mount.record.mountpoint}")
    else:
        app.console.say(f"warming {mount.record.mountpoint}; revfs mounts says how far it is")
