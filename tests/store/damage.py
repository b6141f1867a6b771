"""What can happen to stored bytes: every small way to damage an object, one after the other."""

from collections.abc import Iterator

from hypothesis import settings

MASKS = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF)

# Hypothesis would fail an example that takes 200 ms, which on a busy machine says nothing.
unhurried = settings(deadline=None)


def every_flip(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """`raw` with one byte changed, for every place in it and several changes, and the place."""
    for place in range(len(raw)):
        for mask in MASKS:
            yield place, raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]


def every_cut_or_addition(raw: bytes) -> Iterator[bytes]:
    """`raw` cut short anywhere, and `raw` with one more byte of any value at its end."""
    for end in range(len(raw)):
        yield raw[:end]
    for byte in range(256):
        yield raw + bytes([byte])


def every_damage(raw: bytes) -> Iterator[bytes]:
    """All of the above."""
    yield from (damaged for _, damaged in every_flip(raw))
    yield from every_cut_or_addition(raw)
