"""Smudging: what git writes into the work tree in place of a pointer, as the policy says.

What is not to be had stays a pointer, a short text that git finds clean, and is counted: a checkout
is never ended in the middle for the sake of one file.
"""

import logging
import os
import queue
from collections.abc import Callable, Iterator, Sequence

import trio

from store.config_keys import SmudgePolicy
from store.errors import StoreError, is_of_the_remote
from store.filter_protocol import Delayed
from store.local_store import LocalStore
from store.opening import Reading
from store.pointer import Pointer, parse_pointer
from store.reading_thread import ReadingThread
from store.shown_names import escape_name

log = logging.getLogger(__name__)

_PIECE_BYTES = 4 << 20
# Up to here a file is read whole before git is told that all is well.
_WHOLE_BYTES = 32 << 20
_FILES_AT_ONCE = 32
_POLL_SECONDS = 0.5
# Git holds all of what it is given in memory.
_MEMORY_SHARE = 0.25


class Smudger:
    """Smudges files of one repository. Belongs to one thread."""

    def __init__(
        self, local: LocalStore, policy: SmudgePolicy, check_listener: Callable[[], None]
    ) -> None:
        """`check_listener` is called now and then while git waits, and raises if it does not."""
        self._local = local
        self._policy = policy
        self._check_listener = check_listener
        self._reading: ReadingThread | None = None
        self._largest_bytes = int(_MEMORY_SHARE * _memory_bytes())
        self._at_once = trio.Semaphore(_FILES_AT_ONCE)
        # Pointers by path that git was told to ask for again, which it does without them; each path
        # is put into the queue once it is ready.
        self._delayed: dict[bytes, bytes] = {}
        self._unnamed = 0
        self._ready: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # Of those, the ones that could not be fetched.
        self._failed: set[bytes] = set()
        # Set once the remote did not answer, or not as it should: nothing more is asked of it.
        self._remote_failed = False
        self._failures = 0
        self.left_as_pointers = 0
        self.too_large = 0

    def smudge(self, path: bytes, content: bytes, *, can_delay: bool) -> Iterator[bytes]:
        """The pieces of what is to stand in the work tree for what git keeps. Raises Delayed where
        `can_delay` and the content must be fetched first, StoreError for what git must not take."""
        content = self._delayed.pop(path, content)
        pointer = parse_pointer(content)
        if pointer is None or self._policy is SmudgePolicy.POINTER:
            return iter([content])
        if pointer.size > self._largest_bytes:
            self.too_large += 1
            return iter([content])
        try:
            if not self._open().call(lambda reading: reading.contents.is_here(pointer)):
                if not self._may_fetch(path):
                    self.left_as_pointers += 1
                    return iter([content])
                if can_delay:
                    self._delayed[path] = content
                    self._fetch_later(path, pointer)
                    raise Delayed
            return self._pieces(pointer)
        except StoreError as error:
            self._leave(path, error)
            return iter([content])

    def wait_available(self) -> Sequence[bytes]:
        """Delayed paths whose content is here, or not to be had, by now; at least one unless all
        were named."""
        found: list[bytes] = []
        while self._unnamed and not (found and self._ready.empty()):
            try:
                found.append(self._ready.get(timeout=_POLL_SECONDS))
                self._unnamed -= 1
            except queue.Empty:
                self._check_listener()
        return found

    def close(self) -> None:
        """Let go of the reading."""
        if self._reading is not None:
            self._reading.close()

    def _may_fetch(self, path: bytes) -> bool:
        wanted = self._policy is SmudgePolicy.FETCH
        return wanted and not self._remote_failed and path not in self._failed

    def _open(self) -> ReadingThread:
        if self._reading is None:
            self._reading = ReadingThread(self._local)
        return self._reading

    def _leave(self, path: bytes, error: StoreError) -> None:
        self._note_failure(path, error)
        self.left_as_pointers += 1

    def _note_failure(self, path: bytes, error: StoreError) -> None:
        # The first cause is said, the others are most often the same.
        level = logging.DEBUG if self._failures else logging.WARNING
        log.log(level, "%s stays a pointer: %s", escape_name(path), error)
        self._failures += 1
        self._remote_failed |= is_of_the_remote(error)

    def _fetch_later(self, path: bytes, pointer: Pointer) -> None:
        async def fetch(reading: Reading) -> None:
            try:
                async with self._at_once:
                    if self._remote_failed:
                        return
                    for offset in range(0, pointer.size, _PIECE_BYTES):
                        await reading.contents.read(pointer, offset, _PIECE_BYTES)
            except StoreError as error:
                self._note_failure(path, error)
                self._failed.add(path)
            finally:
                self._ready.put(path)

        self._unnamed += 1
        self._open().start(fetch)

    def _pieces(self, pointer: Pointer) -> Iterator[bytes]:
        """The bytes of a file; all of them before the first is given, but for a large one, whose
        first piece then is."""
        offsets = iter(range(0, pointer.size, _PIECE_BYTES))
        whole = pointer.size <= _WHOLE_BYTES
        first = [self._read(pointer, offset) for offset in (offsets if whole else [next(offsets)])]

        def rest() -> Iterator[bytes]:
            yield from first
            for offset in offsets:
                yield self._read(pointer, offset)

        return rest()

    def _read(self, pointer: Pointer, offset: int) -> bytes:
        return self._open().call(
            lambda reading: reading.contents.read(pointer, offset, _PIECE_BYTES)
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
