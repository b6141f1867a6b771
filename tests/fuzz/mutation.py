"""Plain mutation of seeds, for a Python that atheris does not know: blind, but better than nothing.

What it prints at its end looks as atheris' own lines do.
"""

import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63, 10**9)
_STOP_CODE = 77


def mutate(chance: random.Random, seeds: Sequence[bytes], most_bytes: int) -> bytes:
    """One of the seeds with a few changes: bytes flipped, cut, doubled, numbers put in, spliced."""
    raw = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        start = chance.randrange(len(raw) + 1)
        end = min(len(raw), start + chance.choice((1, 1, 2, 4, 8, 40)))
        match chance.randrange(6):
            case 0 if start < len(raw):
                raw[start] ^= 1 << chance.randrange(8)
            case 1:
                del raw[start:end]
            case 2:
                raw[start:start] = raw[start:end] * chance.choice((1, 1, 10))
            case 3:
                width = chance.choice((1, 2, 4, 8))
                number = chance.choice(_NUMBERS) % (1 << 8 * width)
                raw[start : start + width] = number.to_bytes(
                    width, chance.choice(("little", "big"))
                )
            case 4:
                raw[start:end] = chance.randbytes(end - start + chance.randrange(3))
            case _:
                other = chance.choice(seeds)
                raw[start:] = other[chance.randrange(len(other) + 1) :]
    return bytes(raw[:most_bytes])


def fuzz(
    check: Callable[[bytes], None],
    seeds: Sequence[bytes],
    most_bytes: int,
    seconds: float,
    findings: Path,
) -> None:
    """Check mutated seeds until the time is over; end the process where one fails."""
    chance = random.Random()
    deadline, runs = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        raw = seeds[runs] if runs < len(seeds) else mutate(chance, seeds, most_bytes)
        runs += 1
        try:
            check(raw)
        except BaseException:
            traceback.print_exc()
            place = findings / f"crash-{runs}"
            place.write_bytes(raw)
            sys.exit(_STOP_CODE)
    print(f"#{runs} DONE cov: 0 corp: {len(seeds)}", file=sys.stderr)
