"""What long work tells of itself."""

from typing import Protocol


class ByteProgress(Protocol):
    """Who wants to know how far the work is; may be called from any thread."""

    def advance(self, byte_count: int, items: int = 0) -> None:
        """So many more bytes, and so many more items, are done."""
        ...


class StepProgress(ByteProgress, Protocol):
    """As ByteProgress, of work in several steps."""

    def describe(self, text: str) -> None:
        """Say which step it is."""
        ...
