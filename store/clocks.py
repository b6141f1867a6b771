"""The clocks of this machine, in seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

# Only Linux has one that counts sleep, too.
_RUNNING: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def running_seconds() -> float:
    """Seconds since some moment, those included in which the machine slept."""
    return time.clock_gettime(_RUNNING)


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks that a writer goes by: one that goes on while the machine sleeps and is never
    set, and the time since 1970."""

    running: Callable[[], float] = running_seconds
    wall: Callable[[], float] = time.time
