"""The socket of a mount: where its keeper hears from the processes that serve it, and from
commands.
"""

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

# Connections of a keeper that is being replaced wait here.
_BACKLOG = 128
_PAUSE_SECONDS = 0.01


def control_path(folder: Path, name: str) -> Path:
    """The socket of the mount that this process has, in the user's folder of mounts."""
    return folder / f"{name}.{os.getpid()}.socket"


def listen_on(path: Path) -> socket.socket:
    """A socket that listens there, for this user alone since the folder is."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        listening.bind(_short(folder, path))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.close(folder)
    return listening


async def connect_to(path: Path) -> "trio.SocketStream":
    """A connection to whoever listens there. Raises OSError."""
    import trio

    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        return await trio.open_unix_socket(_short(folder, path))
    finally:
        os.close(folder)


def connect_now(path: Path, timeout_seconds: float) -> socket.socket:
    """As `connect_to`, without a loop: whoever calls waits. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout_seconds)
        _connect(connected, _short(folder, path), time.monotonic() + timeout_seconds)
    except OSError:
        connected.close()
        raise
    finally:
        os.close(folder)
    return connected


def _connect(connecting: socket.socket, address: str, deadline: float) -> None:
    while True:
        try:
            connecting.connect(address)
        except BlockingIOError:
            # As many as may wait do already.
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _short(folder: int, path: Path) -> str:
    # An address has 108 bytes at most, and a home may lie deep.
    return f"/proc/self/fd/{folder}/{path.name}"
