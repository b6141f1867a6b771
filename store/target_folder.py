"""TargetFolder: a folder that files are written below, without ever following a link out of it.

Every folder on the way is opened from the one above it, and a link in its place is refused. Only
calls that all Unix systems have.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from store.errors import PathRefused
from store.shown_names import escape_name

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: a pipe may lie where a file should, and to open it would wait for ever.
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TargetFolder:
    """An open folder and what is below it. Safe from any thread."""

    def __init__(self, top: Path) -> None:
        """`top` itself was named by somebody who may have meant a link. Raises OSError."""
        self.descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.descriptor)

    @contextmanager
    def opened(self, folder: bytes, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder below, while the context lasts; as `open_folder`."""
        descriptor = self.open_folder(folder, make=make)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open_folder(self, folder: bytes, *, make: bool = False) -> int:
        """A descriptor, for the caller to close, of the folder at a path below (empty: itself).

        With `make` it is made, with those above it, if it is missing; else that is a
        FileNotFoundError. Raises PathRefused where a link or a file is in its place.
        """
        parts = folder.split(b"/") if folder else []
        here = os.dup(self.descriptor)
        try:
            for depth, part in enumerate(parts, 1):
                below = _step(here, part, b"/".join(parts[:depth]), make=make)
                os.close(here)
                here = below
        except BaseException:
            os.close(here)
            raise
        return here


class FolderCursor:
    """Looks at files below a TargetFolder, and keeps the folder of the last one open: paths in
    order cost little. Belongs to one thread."""

    def __init__(self, target: TargetFolder) -> None:
        self._target = target
        self._folder: bytes | None = None
        self._descriptor: int | None = None

    def close(self) -> None:
        """Let go of the folder."""
        self._folder = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def get_folder(self, folder: bytes) -> int | None:
        """A descriptor of a folder, good until the next call; None where it is missing. Raises
        PathRefused as `TargetFolder.open_folder` does."""
        if self._folder != folder:
            self.close()
            try:
                self._descriptor = self._target.open_folder(folder)
            except FileNotFoundError:
                self._descriptor = None
            self._folder = folder
        return self._descriptor

    def load_stat(self, path: bytes) -> os.stat_result | None:
        """The stat of what lies at a path, a link not followed; None where nothing does."""
        folder, name = os.path.split(path)
        descriptor = self.get_folder(folder)
        return None if descriptor is None else load_stat(descriptor, name)


def load_stat(folder: int, name: bytes) -> os.stat_result | None:
    """The stat of a name in an open folder, a link not followed; None where there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def load_file(folder: int, name: bytes, most_bytes: int) -> bytes | None:
    """The content of a regular file in an open folder; None where there is none, or it is no
    regular file, or has more than `most_bytes` bytes."""
    try:
        descriptor = open_file(folder, name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = os.read(descriptor, most_bytes + 1)
        return content if len(content) <= most_bytes else None
    finally:
        os.close(descriptor)


def open_file(folder: int, name: bytes) -> int:
    """A descriptor to read what lies at a name, which is no link; raises OSError for one."""
    return os.open(name, _OLD_FILE, dir_fd=folder)


def create_file(folder: int, name: bytes, mode: int) -> int:
    """A descriptor to write a new file; its mode is `mode` less the umask."""
    return os.open(name, _NEW_FILE, mode, dir_fd=folder)


def temporary_name(prefix: bytes) -> bytes:
    """A name that nothing else has, which `is_temporary_name` knows again."""
    return prefix + secrets.token_hex(16).encode()


def is_temporary_name(name: bytes, prefix: bytes) -> bool:
    """Whether a name was made by `temporary_name` with that prefix."""
    digits = name.removeprefix(prefix)
    return name.startswith(prefix) and len(digits) == 32 and not digits.strip(b"0123456789abcdef")


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it at the descriptor's place. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _step(above: int, name: bytes, path: bytes, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        # What a link gives differs from system to system.
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            raise PathRefused(
                f"{escape_name(path)} is a link or a file where a folder has to be, and nothing is "
                "written through it; move it away"
            ) from error
        raise
    # Where somebody was faster, the second look tells what it is.
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
    return _step(above, name, path, make=False)
