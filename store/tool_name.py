"""What wrote a record in a remote, for people."""

import importlib.metadata


def tool_name() -> str:
    """The name and version of this program."""
    return f"revfs {importlib.metadata.version('revfs')}"
