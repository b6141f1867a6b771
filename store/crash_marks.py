"""Crash marks: what a process that LMDB takes down leaves for whoever opens the tables next.

LMDB reads its file through a memory map and believes what it reads. Damage that it does not notice
can end the process (SIGABRT, SIGBUS, SIGSEGV), where no line of Python runs any more. But the
interpreter's own handler of such signals can write where it was, to a file that is open already:
one in the folder of the tables of the cache, which is empty as long as nothing has happened.
"""

import faulthandler
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = "crashed"
_MOST_BYTES = 64 << 10
# As the handler writes it, the innermost call first.
_FRAME = re.compile(rb'File "[^"]*?(\w+)\.py", line')
_TABLES_MODULE = b"tables"
# Who looks at the tables of a repository; all others look at those of the cache.
_REPOSITORY_MODULES = {b"staging", b"stat_cache"}

# The descriptor that the handler writes to; None where it is not ours.
_descriptor: int | None = None


def watch_for_crashes(folder: Path) -> None:
    """Have this process leave a mark in `folder` if it crashes, unless somebody else wants to hear
    of that (python -X faulthandler)."""
    global _descriptor
    if faulthandler.is_enabled() and _descriptor is None:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    # A full disk must not keep anybody from reading.
    with suppress(OSError):
        opened = os.open(folder / _NAME, flags, 0o600)
        faulthandler.enable(file=opened, all_threads=False)
        if _descriptor is not None:
            os.close(_descriptor)
        _descriptor = opened


def crashed_in_index(folder: Path) -> bool:
    """Whether a process crashed in the tables of the cache, which lie in this folder."""
    found = _crashed_modules(folder)
    return bool(found) and _REPOSITORY_MODULES.isdisjoint(found)


def crashed_in_repository_tables(folder: Path) -> bool:
    """Whether one crashed in the tables of some repository, by the mark in that folder."""
    return not _REPOSITORY_MODULES.isdisjoint(_crashed_modules(folder))


def clear_crash(folder: Path) -> None:
    """Take the mark away; those who watch go on writing to the same file."""
    with suppress(OSError):
        os.truncate(folder / _NAME, 0)


def _crashed_modules(folder: Path) -> list[bytes]:
    """The modules that were at work, innermost first, if that was in a call to LMDB."""
    try:
        with (folder / _NAME).open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return []
    # Several may have crashed before anybody came; that of the last is as good as any.
    crashes = [_FRAME.findall(part) for part in text.split(b"Fatal Python error")[1:]]
    ours = [modules for modules in crashes if modules[:1] == [_TABLES_MODULE]]
    if not ours and text:
        log.debug("a process crashed, but not in the tables: %r", text)
        clear_crash(folder)
    return ours[-1] if ours else []
