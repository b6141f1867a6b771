"""What strangers can do to the lines of our log: nothing."""

import logging

from cli.console import LogFormatter


def formatted(message: str, *args: object, with_traceback: bool = False) -> str:
    """The text of a record about an error, as a handler would write it."""
    try:
        raise ValueError("cause")
    except ValueError as error:
        cause = (type(error), error, error.__traceback__) if with_traceback else None
    record = logging.LogRecord("store", logging.ERROR, "", 0, message, args, cause)
    return LogFormatter("%(levelname)s %(message)s").format(record)


def test_a_message_cannot_begin_a_line_of_its_own() -> None:
    assert formatted("reading %s failed", "a\nERROR b\x1b[0m") == (
        r"ERROR reading a\nERROR b\x1b[0m failed"
    )


def test_a_traceback_keeps_its_lines() -> None:
    lines = formatted("odd\nthing", with_traceback=True).splitlines()
    assert lines[0] == r"ERROR odd\nthing"
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: cause"
