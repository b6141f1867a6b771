"""The logs of mounts that are gone: which of them nobody will look for any more."""

import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vfs.mount_records import MountRecord


@dataclass(frozen=True, slots=True)
class OldLog:
    """A log, or an older part of one, and its size in bytes."""

    path: Path
    size: int


def find_old_logs(
    folder: Path, records: Sequence[MountRecord], older_than_seconds: float
) -> list[OldLog]:
    """The logs in a folder that belong to no mount that is there, dead ones included, and were last
    written before a time (seconds since 1970)."""
    found = []
    in_use = {record.log for record in records}
    # Parts that were put aside have a number behind.
    for path in sorted(folder.glob("*.log*")):
        log = path.with_name(f"{path.name.partition('.log')[0]}.log")
        if str(log) not in in_use:
            with suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_mtime < older_than_seconds:
                    found.append(OldLog(path, status.st_size))
    return found
