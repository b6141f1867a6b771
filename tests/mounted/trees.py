"""Folders compared byte by byte: what is below them, in short."""

import hashlib
import os
import stat
from pathlib import Path

Summary = tuple[str, bool, bytes]


def summaries(top: Path) -> dict[bytes, Summary]:
    """(type, executable, hash or target) of everything below a folder, by path."""
    found: dict[bytes, Summary] = {}
    base = os.fsencode(top)
    for folder, folders, files in os.walk(base):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[os.path.relpath(path, base)] = summary_of(path, status)
    return found


def summary_of(path: bytes, status: os.stat_result) -> Summary:
    """(type, executable, hash or target) of one of them."""
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(path)
        assert status.st_size == len(target)
        return "link", False, target
    if stat.S_ISDIR(status.st_mode):
        return "folder", False, b""
    with open(path, "rb") as file:
        content = file.read()
    assert status.st_size == len(content)
    return "file", bool(status.st_mode & stat.S_IXUSR), hashlib.sha256(content).digest()
