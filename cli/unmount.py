"""`revfs unmount`: end a mount."""

import os
from pathlib import Path

import click

from cli.completing import complete_mountpoint
from cli.console import App
from cli.stores import open_mount_records
from vfs.mount_records import unmount


@click.command("unmount")
@click.argument("mountpoint", type=click.Path(path_type=Path), shell_complete=complete_mountpoint)
@click.pass_obj
def command(app: App, mountpoint: Path) -> None:
    """Take a mounted revision down, also a busy one or one whose process is gone. Reads under way
    have five seconds to finish.

    A mount that moved with the folder that it is in goes by its old place and by its new one.

    \b
    Example:
      revfs unmount /mnt/data
    """
    # Not resolved as a whole: a dead mount cannot be looked at.
    place = Path(os.path.normpath(app.cwd.absolute() / mountpoint))
    ended = unmount(open_mount_records(app), place)
    app.console.say(f"unmounted {ended}")
