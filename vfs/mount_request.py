"""MountRequest: what is to be mounted, where, and how; without the libraries that do it."""

from dataclasses import dataclass
from pathlib import Path

from store.store_settings import StoreSettings
from vfs.mount_records import MountRecords


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What is to be mounted where; `mountpoint` was prepared (see mountpoints.prepare)."""

    settings: StoreSettings
    records: MountRecords
    revision: str
    mountpoint: Path
    allow_other: bool
    log: Path
