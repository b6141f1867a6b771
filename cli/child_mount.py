"""A revision mounted by a child of ours, for as long as something here needs it."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.console import App
from cli.own_command import own_command
from store.errors import StoreError
from store.interruptions import held_back


@contextmanager
def mounted(app: App, work_tree: Path, revision: str) -> Iterator[Path]:
    """The folder that shows `revision` while the context lasts, whatever ends it.

    A child mounts it, since a mount forks before it opens what this process may have open. Raises
    StoreError with the words of the child.
    """
    place = Path(os.path.realpath(tempfile.mkdtemp(prefix="revfs-run-")))
    try:
        with held_back():
            _revfs(app, work_tree, "mount", revision, str(place))
        yield place
    finally:
        with held_back():
            _take_down(app, work_tree, place)


def _take_down(app: App, work_tree: Path, place: Path) -> None:
    if os.path.ismount(place):
        _revfs(app, work_tree, "unmount", str(place))
    with suppress(OSError):
        place.rmdir()


def _revfs(app: App, work_tree: Path, *arguments: str) -> None:
    """Run it in a session of its own: a Ctrl-C is not for it."""
    completed = subprocess.run(
        [*own_command(), "-C", str(work_tree), *arguments],
        env=dict(app.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        check=False,
    )
    if completed.returncode:
        lines = completed.stderr.decode(errors="replace").splitlines() or ["it did not say why"]
        raise StoreError(lines[-1].removeprefix("revfs: "))
