"""Options of `mount` and `warm` on what is fetched ahead of need, and on recording what is read."""

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import click

from cli.settings import SIZE
from store.errors import PathRefused, StoreError
from store.order_files import MountPaths
from vfs.mount_request import DEFAULT_AHEAD_BYTES

AHEAD = click.option(
    "--ahead",
    "ahead_bytes",
    type=SIZE,
    default=DEFAULT_AHEAD_BYTES,
    metavar="SIZE",
    help="How far ahead of the reader of an order (1GiB; half of the cache at the most).",
)
_WARM = click.option(
    "--warm",
    "warm",
    multiple=True,
    metavar="PATH",
    help="Fetch what is below PATH in the mount ahead of need; `.` is all. May be repeated.",
)
_ORDER = click.option(
    "--order",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Fetch ahead in the order of the paths in FILE, one a line.",
)
_RECORD = click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the order in which files are first read, for a later --order.",
)


class WarmingFields(NamedTuple):
    """The same as fields of a MountRequest."""

    warm: tuple[bytes, ...]
    order: Path | None
    ahead_bytes: int
    record: Path | None


class MountWarming(NamedTuple):
    """What a mount is to fetch ahead and to record, as somebody typed it."""

    warm: tuple[str, ...]
    order: Path | None
    ahead_bytes: int
    record: Path | None

    def checked(self, folder: Path, mountpoint: Path) -> WarmingFields:
        """What that means to somebody in that folder. The record is made, or emptied. Raises
        StoreError where a file cannot be used, and PathRefused."""
        order = None if self.order is None else (folder / self.order).absolute()
        record = None if self.record is None else Path(os.path.realpath(folder / self.record))
        warm = paths_inside(self.warm, MountPaths([os.fsencode(mountpoint)]))
        if order is not None:
            _require_readable(order)
        if record is not None:
            _require_outside(record, mountpoint)
            if order is not None and os.path.realpath(order) == str(record):
                raise PathRefused(f"{record} cannot be read as the order and written as the record")
            _make_record(record)
        return WarmingFields(warm, order, self.ahead_bytes, record)


def paths_inside(paths: Iterable[str], inside: MountPaths) -> tuple[bytes, ...]:
    """Paths from the top of a mount. Raises PathRefused for one that leads out of it."""
    found = []
    for path in paths:
        below = inside.from_top(os.fsencode(path))
        if below is None:
            raise PathRefused(f"{path} lies outside of the mount")
        found.append(below)
    return tuple(found)


def with_mount_warming(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command these options, as one argument `warming`."""

    @_WARM
    @_ORDER
    @AHEAD
    @_RECORD
    @functools.wraps(command)
    def with_one_argument(
        *arguments: object,
        warm: tuple[str, ...],
        order: Path | None,
        ahead_bytes: int,
        record: Path | None,
        **others: object,
    ) -> None:
        warming = MountWarming(warm, order, ahead_bytes, record)
        command(*arguments, warming=warming, **others)

    return with_one_argument


def _require_readable(order: Path) -> None:
    try:
        os.close(os.open(order, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise StoreError(f"the order {order} cannot be read: {error.strerror}") from error


def _require_outside(record: Path, mountpoint: Path) -> None:
    if record.is_relative_to(mountpoint):
        raise PathRefused(f"the record {record} would lie in the mount: name another place")


def _make_record(record: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        os.close(os.open(record, flags, 0o600))
    except OSError as error:
        raise StoreError(f"the record {record} cannot be written: {error.strerror}") from error
