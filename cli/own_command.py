"""How this very revfs is run again: by git, by a hook, by a child of ours."""

import shutil
import sys
from pathlib import Path

from cli.console import App
from store.git_command import RepositoryPaths
from store.git_setup import filter_is_set_up, set_filter_up


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


def ensure_filter(app: App, paths: RepositoryPaths) -> None:
    """Have git's filter set up before the work tree gets data: without it the next git add would
    put the data itself into git. A filter that is configured anywhere stays as it is."""
    if filter_is_set_up(paths):
        return
    set_filter_up(paths, own_command())
    # Not on stdout, where a program may wait for JSON.
    if not app.console.quiet:
        app.console.trace("revfs: git's filter for tracked files is set up in this clone")
