"""How this very revfs is run again: by git, by a hook, by a child of ours."""

import shutil
import sys
from pathlib import Path


def own_command() -> list[str]:
    """The words that start it. The plain name where a shell finds this one by it, which survives
    that it is moved; else its place."""
    beside = Path(sys.executable).parent / "revfs"
    on_path = shutil.which("revfs")
    if on_path is not None and (not beside.exists() or Path(on_path).samefile(beside)):
        return ["revfs"]
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from cli.main import main; main()"]
