"""Going to the background: fork, hand over the log, and tell the parent how the start went."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from store.errors import StoreError, find_store_error, leaves_of

_READY = b"ready"
_FAILED = b"failed "
_END = b"\0"

Ready = Callable[[], None]


def run_in_background(work: Callable[[Ready], None], log: Path) -> None:
    """Run `work` in a process of its own, and return when it calls the function it is given.

    Must be called before any thread is started or library is opened that does not survive a fork.
    Standard output and error of the process go to `log`. Raises StoreError with the words of a
    StoreError that `work` raised before it was ready, or if it ended without a word.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _become_daemon(work, sender, log)
    os.close(sender)
    os.waitpid(child, 0)
    word = _receive_word(receiver)
    if word.startswith(_FAILED):
        raise StoreError(word.removeprefix(_FAILED).decode(errors="replace"))
    if word != _READY:
        raise StoreError(f"the mount's process ended before it was ready; its log is {log}")


def _receive_word(receiver: int) -> bytes:
    """What comes up to the end of a word, or of the pipe: children of the process may hold it open
    for as long as they live."""
    with os.fdopen(receiver, "rb", buffering=0) as pipe:
        received = b""
        while not received.endswith(_END) and (part := pipe.read(4096)):
            received += part
    return received.removesuffix(_END)


class _Line:
    """The pipe to the parent, for one word: after that its descriptor's number may be another
    file's."""

    def __init__(self, sender: int) -> None:
        self._sender: int | None = sender

    def tell(self, word: bytes) -> None:
        """Send the word and hang up. Raises BrokenPipeError where nobody waits for it."""
        sender, self._sender = self._sender, None
        if sender is not None:
            try:
                os.write(sender, word + _END)
            finally:
                os.close(sender)


def _become_daemon(work: Callable[[Ready], None], sender: int, log: Path) -> None:
    """The child's half: never returns."""
    code = 1
    line = _Line(sender)
    try:
        os.setsid()
        # The second fork leaves a process that can never get a terminal.
        if os.fork():
            os._exit(0)
        _redirect(log)
        os.chdir("/")
        os.umask(0o077)
        work(partial(line.tell, _READY))
        code = 0
    except BaseException as error:
        _explain(line, error, log)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _explain(line: _Line, error: BaseException, log: Path) -> None:
    """Say why the work ended, in the log and, where it waits for a word, to the parent."""
    expected = find_store_error(error)
    if expected is not None:
        words = str(expected)
    else:
        words = f"the mount failed: {next(leaves_of(error))!r}; its log is {log}"
        sys.excepthook(type(error), error, error.__traceback__)
    print(f"revfs: {words}", file=sys.stderr)
    # Whoever started this may be gone.
    with suppress(OSError):
        line.tell(_FAILED + words.encode(errors="replace"))


def _redirect(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
