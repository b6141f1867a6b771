"""The rows of the benchmark: what each measures, in which unit, and the budget that it has."""

from dataclasses import dataclass
from enum import Enum

OURS = "revfs"
LINK = "link"
UNLIMITED_LINK = "link, no limit"
NATIVE = "local disk"
LOOP = "C loop-through"
RCLONE = "rclone mount"
S3FS = "s3fs"
DVC = "dvc"
# These are limits, no competitors: nothing can be quicker.
LIMITS = frozenset({LINK, UNLIMITED_LINK, NATIVE})


class Bound(Enum):
    """What a budget is said against."""

    ABSOLUTE = "absolute"
    LIMIT = "of the limit"
    PEER = "of the named peer"


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound on our figure itself, or on its ratio to the limit or to a peer: at least that where
    more is better, else at most."""

    value: float
    bound: Bound
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `limit` names the contender that nothing can beat, where there is one."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    limit: str = ""
    budget: Budget | None = None


ROWS = (
    Row("link-up", "through the proxy, to the server", "MB/s", True),
    Row("link-down", "through the proxy, from the server", "MB/s", True),
    Row(
        "first-byte",
        "fresh clone: mounted, listed, first byte (dvc: pulled)",
        "s",
        False,
        budget=Budget(1.0, Bound.ABSOLUTE),
    ),
    Row(
        "cold-epoch",
        "small files, cold, shuffled, 32 readers",
        "files/s",
        True,
        LINK,
        Budget(0.75, Bound.LIMIT),
    ),
    Row("cold-text", "the same with text that compresses", "files/s", True, LINK),
    Row("cold-large", "large file, cold, in order", "MB/s", True, LINK, Budget(0.9, Bound.LIMIT)),
    Row(
        "sparse",
        "1 % of the small files: bytes over the link per byte",
        "times",
        False,
        budget=Budget(8.0, Bound.ABSOLUTE),
    ),
    Row(
        "warm-small",
        "small files, second epoch, new order, 8 readers",
        "files/s",
        True,
        NATIVE,
        Budget(0.6, Bound.PEER, LOOP),
    ),
    Row(
        "warm-large",
        "large file, from the page cache",
        "MB/s",
        True,
        NATIVE,
        Budget(0.9, Bound.LIMIT),
    ),
    Row("add", "add of it all", "s", False, budget=Budget(1 / 3, Bound.PEER, DVC)),
    Row("push", "push of it all", "s", False, LINK, Budget(1.35, Bound.LIMIT)),
    Row("add-text", "add of the text", "s", False, budget=None),
    Row("push-text", "push of the text", "s", False, LINK),
    Row(
        "edit",
        "1 % of a large file edited: bytes pushed, of its size",
        "%",
        False,
        budget=Budget(3.0, Bound.ABSOLUTE),
    ),
    Row(
        "million-mount",
        "{files:,} files: mount ready",
        "s",
        False,
        budget=Budget(0.5, Bound.ABSOLUTE),
    ),
    Row(
        "million-list",
        "{files:,} files: first ls -l of a folder",
        "s",
        False,
        budget=Budget(0.2, Bound.ABSOLUTE),
    ),
    Row("million-find", "{files:,} files: find", "s", False, budget=Budget(15.0, Bound.ABSOLUTE)),
    Row(
        "million-again",
        "{files:,} files: find again",
        "s",
        False,
        budget=Budget(5.0, Bound.ABSOLUTE),
    ),
    Row("million-anew", "{files:,} files: find in a new mount", "s", False),
    Row(
        "million-memory",
        "{files:,} files: memory of the mount",
        "MB",
        False,
        budget=Budget(300.0, Bound.ABSOLUTE),
    ),
    Row("million-add", "{files:,} files: add", "s", False),
    Row("million-push", "{files:,} files: push", "s", False),
    Row("million-read", "{files:,} files: 1,000 read at random, cold", "files/s", True),
    Row("help", "revfs --help", "s", False, budget=Budget(0.15, Bound.ABSOLUTE)),
    Row(
        "status",
        "status with nothing changed in {status:,} files",
        "s",
        False,
        budget=Budget(1.0, Bound.ABSOLUTE),
    ),
)
ROW_NAMES = tuple(row.name for row in ROWS)
