"""What a fuzz target is: a parser with all that must hold for any bytes, and where to begin.

A check returns where the bytes were refused by a declared error, or taken and all holds. Anything
that it raises is a finding; so is one that takes too long or too much memory.
"""

import contextlib
import resource
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from store.errors import StoreError

# Every format here is read in time and memory linear in its bytes, of which there are few.
MOST_SECONDS = 3.0
# One chunk and one zstd window, and as much again for what Python makes of it.
MOST_GROWTH_BYTES = 48 << 20
_GROWTH_PER_BYTE = 200


@dataclass(frozen=True, slots=True)
class Target:
    """`check` takes any bytes; `seeds` are bytes that a parser takes whole, made of valid objects.
    No input is longer than `most_bytes`."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    most_bytes: int = 4096


class Refused(Exception):
    """The bytes were refused as they should be."""


def is_harmless(text: str) -> bool:
    """Whether a text stays on one line of a terminal and does nothing to it."""
    kinds = {unicodedata.category(character) for character in text}
    return kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"}) and len(text.splitlines()) <= 1


@contextlib.contextmanager
def only(*declared: type[Exception]) -> Iterator[None]:
    """The block raises none but the declared errors, each of which says something; they become
    Refused."""
    try:
        yield
    except declared as error:
        if isinstance(error, StoreError) and not str(error):
            raise ValueError("an error that says nothing") from error
        raise Refused from error


class Limits:
    """Runs a check, and fails it where it took more time or memory than its input explains."""

    def __init__(self, check: Callable[[bytes], None]) -> None:
        self._check = check

    def warm_up(self, seeds: Iterable[bytes]) -> None:
        """Check the seeds without a limit: what is imported or cached at the first time is not
        theirs to answer for. One at least has to be taken, else a fuzzer would begin outside."""
        taken = 0
        for raw in seeds:
            with contextlib.suppress(Refused):
                self._check(raw)
                taken += 1
        assert taken, "no seed is taken"

    def run(self, raw: bytes) -> None:
        """Check one input. Raises what is wrong."""
        began_bytes, began = _peak_bytes(), time.process_time()
        with contextlib.suppress(Refused):
            self._check(raw)
        seconds = time.process_time() - began
        grown = _peak_bytes() - began_bytes
        assert seconds < MOST_SECONDS, f"{len(raw)} bytes took {seconds:.1f} s"
        allowed = MOST_GROWTH_BYTES + _GROWTH_PER_BYTE * len(raw)
        assert grown < allowed, f"{len(raw)} bytes took {grown >> 20} MiB of memory"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
