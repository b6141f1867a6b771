"""MountRequest: what is to be mounted, where, and how; without the libraries that do it."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from store.store_settings import StoreSettings
from vfs.mount_records import MountRecords

DEFAULT_AHEAD_BYTES = 1 << 30
"""How many bytes an order is ahead of its reader unless somebody says."""


class MountKind(StrEnum):
    """What a mount shows: one commit for ever, the commit of a ref as it moves, or every commit by
    name."""

    REVISION = "revision"
    FOLLOW = "follow"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What is to be mounted where; `mountpoint` was prepared (see mountpoints.prepare).

    `revision` is REV or REV:PATH as the user typed it, the name to follow in place of REV where
    that is what is wanted, and empty for all revisions. `workers` processes serve it. When it
    answers, the paths `warm` (from the mountpoint; an empty one means all) are warmed, and the
    order file `order` is followed, `ahead_bytes` ahead; reads are recorded in `record`.
    """

    settings: StoreSettings
    records: MountRecords
    revision: str
    mountpoint: Path
    allow_other: bool
    log: Path
    kind: MountKind = MountKind.REVISION
    workers: int = 1
    warm: tuple[bytes, ...] = ()
    order: Path | None = None
    ahead_bytes: int = DEFAULT_AHEAD_BYTES
    record: Path | None = None

    @property
    def label(self) -> str:
        """What the mount is called in the kernel's table."""
        return self.revision or self.kind.value


class RevisionPart(NamedTuple):
    """A revision and the path in it; the root where the path is empty."""

    revision: str
    path: str


def split_revision(text: str) -> RevisionPart:
    """REV and PATH of `REV:PATH`: no revision has a colon but between braces, as in `@{10:30}`."""
    depth = 0
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == ":" and depth <= 0:
            return RevisionPart(text[:place] or "HEAD", text[place + 1 :])
    return RevisionPart(text, "")
