"""OneProgress: what a verb of several steps tells while it works, one step after another."""

from contextlib import ExitStack

from cli.console import Console, Progress


class OneProgress:
    """Shows one display at a time: the next one ends the one before, as does the context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = ExitStack()

    def __enter__(self) -> "OneProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, label: str, total_bytes: int | None = None) -> Progress:
        """A display of that label, and of that many bytes where somebody knows."""
        self.close()
        return self._shown.enter_context(self._console.progress(label, total_bytes))

    def close(self) -> None:
        """End the one that is shown."""
        self._shown.close()
