"""A log file that several processes write to, put aside when it gets large."""

import logging
import logging.handlers
import os
from contextlib import suppress
from fcntl import LOCK_EX, flock
from pathlib import Path

_LOG_BYTES = 4 << 20
_OLD_LOGS = 2


class SharedLogFile(logging.handlers.WatchedFileHandler):
    """Appends to a file, also after another process has put it aside."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, to a new file where the old one is full."""
        with suppress(OSError):
            if self._log.stat().st_size > _LOG_BYTES:
                self._put_aside()
        super().emit(record)

    def _put_aside(self) -> None:
        folder = os.open(self._log.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            flock(folder, LOCK_EX)
            # Another process may have been quicker.
            if self._log.stat().st_size > _LOG_BYTES:
                for number in range(_OLD_LOGS, 0, -1):
                    newer = f"{self._log}.{number - 1}" if number > 1 else str(self._log)
                    with suppress(FileNotFoundError):
                        os.replace(newer, f"{self._log}.{number}")
        finally:
            os.close(folder)
