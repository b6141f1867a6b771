"""Recording: the order in which the files of a mount were first read, as a file of paths, which can
be the order file of the next run (`store.order_files`).

One path a line, from the mountpoint; in a file whose name ends in `.z` a NUL is behind each path
instead. Only there names with a line break have a place.
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path

import trio

from store.concurrency import DISK_WRITES
from store.errors import ConfigError
from store.messages import FileRead
from store.order_files import iterate_paths
from store.shown_names import escape_name
from vfs.first_reads import InodeSet

log = logging.getLogger(__name__)

_WRITE_SECONDS = 0.5
# Several processes tell of reads: what is so old will not be overtaken any more.
_SETTLED_SECONDS = 0.25
_NUL_SUFFIX = ".z"


class Recorder:
    """Appends to one record. Belongs to one trio loop."""

    def __init__(self, path: Path) -> None:
        """`path` may hold what another process recorded of the same mount before."""
        self._path = path
        self._separator = b"\0" if path.name.endswith(_NUL_SUFFIX) else b"\n"
        self._seen = InodeSet()
        # Of what was recorded before only the path is known.
        self._before = _load_paths(path, self._separator)
        self._waiting: list[FileRead] = []
        self._is_lost = False
        self._has_left_out = False

    def note(self, reads: Iterable[FileRead]) -> None:
        """These were read."""
        for read in reads:
            if read.is_first and self._seen.add(read.inode) and hash(read.path) not in self._before:
                self._waiting.append(read)

    async def run(self) -> None:
        """Write until cancelled, all that is old enough at least every second."""
        while True:
            await trio.sleep(_WRITE_SECONDS)
            await self.write(time.monotonic() - _SETTLED_SECONDS)

    async def write(self, until_seconds: float) -> None:
        """Write what was read before that time of the machine's steady clock."""
        due = sorted(read for read in self._waiting if read.seconds <= until_seconds)
        if due:
            self._waiting = [read for read in self._waiting if read.seconds > until_seconds]
            paths = [read.path for read in due]
            await trio.to_thread.run_sync(self._append, paths, limiter=DISK_WRITES)

    def _append(self, paths: list[bytes]) -> None:
        lines = b"".join(path + self._separator for path in paths if self._is_recordable(path))
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            if not self._is_lost:
                log.error("the record %s cannot be written: %s", self._path, error.strerror)
            self._is_lost = True

    def _is_recordable(self, path: bytes) -> bool:
        if self._separator not in path:
            return True
        if not self._has_left_out:
            log.warning(
                "%s is left out of the record, since there is a line break in its name: a record "
                "whose name ends in %s has room for it",
                escape_name(path),
                _NUL_SUFFIX,
            )
        self._has_left_out = True
        return False


def _load_paths(path: Path, separator: bytes) -> set[int]:
    """The hashes of the paths that a record has."""
    try:
        with path.open("rb") as file:
            return {hash(found) for found in iterate_paths(file, nul=separator == b"\0")}
    except (OSError, ConfigError) as error:
        log.debug("what was recorded before is not known: %s", error)
        return set()
