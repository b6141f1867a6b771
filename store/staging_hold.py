"""Who works with staged packs, and who takes some away because nothing needs them: never both at
once, in whatever processes.

Whoever stages, or finds that what it has is staged already, holds them from before it looks until
git has its pointers. Readers do not: a pack that goes is one that no commit of theirs needs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_SH, flock
from pathlib import Path
from typing import BinaryIO

from store.errors import Busy
from store.local_folders import try_lock

_NAME = "staging.lock"


def hold_staging(state_dir: Path) -> BinaryIO:
    """Hold the staged packs of a repository until the file that this gives is closed, beside any
    others that do. Waits while somebody takes packs away, which is short."""
    file = (state_dir / _NAME).open("ab")
    flock(file, LOCK_SH)
    return file


@contextmanager
def alone_with_staging(state_dir: Path) -> Iterator[None]:
    """Be the only one who works with the staged packs. Raises Busy where somebody holds them."""
    with (state_dir / _NAME).open("ab") as file:
        if not try_lock(file):
            raise Busy(
                "revfs or git is at work on data files in this repository (add, push, checkout); "
                "wait for its end"
            )
        yield
