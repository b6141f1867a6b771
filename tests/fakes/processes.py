"""Python in a process of its own, for what only a real end, a real kill or a real pipe can show."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_command(code: str, *arguments: str | Path) -> list[str]:
    """The command that runs `code` with this Python."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def revfs_command(*arguments: str | Path) -> list[str]:
    """The command that runs revfs with these arguments, as the installed one does."""
    return python_command("from cli.main import main; main()", *arguments)


def environment_with(**variables: str) -> dict[str, str]:
    """The environment of this test and `variables`; our modules are found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def ended_process() -> int:
    """The number of a process that was, and is no more."""
    process = subprocess.Popen(python_command(""))
    process.wait()
    return process.pid
