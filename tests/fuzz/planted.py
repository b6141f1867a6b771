"""A target with a mistake in it, to see that the fuzzer finds mistakes."""

from collections.abc import Iterator

from tests.fuzz.target import Target


def check_error(raw: bytes) -> None:
    """An undeclared error, some bytes away from the seed."""
    if raw[:1] == b"s" and raw[3:4] == b"k":
        raise KeyError("planted")


def seeds() -> Iterator[bytes]:
    """One that is fine."""
    yield b"seed"


TARGETS = {"planted": Target(check_error, seeds, 8)}
