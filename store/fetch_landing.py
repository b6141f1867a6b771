"""Landing: the bytes of one flight as they arrive, proven chunk by chunk and handed to who waits.

A reader whose chunk is at the beginning of a long range has it as soon as it is there. The bytes
come in threads; readers wait in the loop.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import trio

from store.codec import Codec
from store.concurrency import VERIFY
from store.errors import IntegrityError, RemoteUnavailable, StoreError
from store.fetch_schedule import Flight
from store.ids import chunk_id
from store.packs import PackEntry, unpack_chunk
from store.range_sink import Take

# Proven bytes are written in pieces of about this length: a call for each chunk would cost more
# than the writing of a small one.
_WRITE_BYTES = 4 << 20
# A compressed chunk that decodes to more is decoded in a thread.
_INLINE_BYTES = 256 << 10

Keep = Callable[[int, memoryview], object]
"""Writes proven bytes of the pack, given the offset of the first."""

Note = Callable[[int, int], object]
"""Notes that bytes of the pack are in its file, given the offset of the first and their number."""


class Landing:
    """What has come of one flight, as a RangeSink.

    Invariant: each entry of the flight that ends at `_decided` or before is true in `_buffer`, or
    in `bad`; so is every one when it has landed, unless `error` says why not. What is true before
    `_kept` was written. Threads change this under `_lock`; the loop reads it without.
    """

    def __init__(self, flight: Flight, keep: Keep) -> None:
        """In a trio loop, which is the one that readers wait in."""
        self.flight = flight
        self.bad: dict[PackEntry, StoreError] = {}
        self.error: StoreError | None = None
        self.landed = trio.Event()
        # How many readers wait for it at this moment; how many bytes have come, also in vain.
        self.waiting = self.received_bytes = 0
        self._keep = keep
        self._lock = threading.Lock()
        self._attempt = 0
        self._buffer = bytearray()
        self._filled = self._decided = self._kept = flight.start
        self._entries = iter(flight.entries())
        self._next = next(self._entries, None)
        # Whoever waits for a chunk, by its offset; and the wanted chunks that had to be decoded.
        self._events: dict[int, trio.Event] = {}
        self._decoded: dict[int, bytes] = {}
        self._token = trio.lowlevel.current_trio_token()

    async def wait_for(self, entry: PackEntry) -> bytes:
        """The proven bytes of one of the flight's chunks, as soon as they are there. Raises
        IntegrityError where they are not what they should be, or what ended the flight."""
        self.waiting += 1
        try:
            # In this order: a thread looks for events after it has decided.
            event = self._events.setdefault(entry.offset, trio.Event())
            if not (entry.end <= self._decided or entry in self.bad or self.landed.is_set()):
                await event.wait()
        finally:
            self.waiting -= 1
        if entry in self.bad:
            raise self.bad[entry]
        if entry.end > self._decided:
            assert self.error is not None
            raise self.error
        found = self._decoded.get(entry.offset)
        if found is None and entry.codec != Codec.RAW and entry.raw_length > _INLINE_BYTES:
            return await trio.to_thread.run_sync(self._decode, entry, limiter=VERIFY)
        return self._decode(entry) if found is None else found

    def finish(self, error: StoreError | None) -> None:
        """The flight has come to its end; what did not arrive is damaged, if it was to."""
        for entry in () if error else self._undecided(self.flight.end):
            self.bad[entry] = IntegrityError(f"chunk {entry.chunk.hex()} did not arrive whole")
        self.error = error
        self.landed.set()
        self._wake()

    @property
    def taken_bytes(self) -> int:
        """See RangeSink: what has come need not come again, the first part of a chunk neither:
        over a link that is cut every few megabytes a long chunk would never be whole."""
        return self._filled - self.flight.start

    @property
    def is_whole(self) -> bool:
        """Whether nothing has to come any more."""
        return self._decided == self.flight.end

    @property
    def next_entry(self) -> PackEntry | None:
        """The first entry that is not decided; None where all are."""
        return self._next

    def adopt(self, start: int, content: bytes, note: Note) -> None:
        """Take bytes of the pack from `start` on that are in its file already, as far as they are
        true, and `note` them. In a thread."""
        with self._lock:
            self._begin()
            self._filled = self._decided
            before, wanted = self._decided, False
            while (entry := self._next) is not None and self._is_adoptable(entry, start, content):
                self._decided = self._kept = entry.end
                self._next = next(self._entries, None)
                wanted = wanted or entry.offset in self._events
            self._filled = self._decided
            if self._decided > before:
                # First, as with what is written: what a reader has had is kept.
                note(before, self._decided - before)
        if wanted:
            self._wake_soon()

    def resume(self, content: bytes) -> None:
        """Begin with what an earlier flight got of the first chunk, which nothing has proven."""
        with self._lock:
            self._begin()
            self._buffer[: len(content)] = content
            self._filled = self.flight.start + len(content)

    def take_rest(self) -> tuple[int, bytes]:
        """What has come of a chunk that is not whole, and where in the pack it begins."""
        with self._lock:
            low, high = self._decided - self.flight.start, self._filled - self.flight.start
            return self._decided, bytes(memoryview(self._buffer)[low:high])

    @property
    def has_unwritten(self) -> bool:
        """Whether `settle` has something to do."""
        return self._kept < self._decided

    def begin(self) -> Take:
        """See RangeSink."""
        with self._lock:
            attempt = self._begin()
        return lambda block: self._take(block, attempt)

    def settle(self) -> None:
        """Write what is true and was not written yet. In a thread, when nothing more comes."""
        with self._lock:
            # From here on no late attempt changes anything.
            self._attempt += 1
            self._write()

    def _take(self, block: bytes | memoryview, attempt: int) -> None:
        with self._lock:
            low = self._filled - self.flight.start
            if attempt != self._attempt or low + len(block) > self.flight.length:
                raise RemoteUnavailable("more came than was asked for")
            self._buffer[low : low + len(block)] = block
            self._filled += len(block)
            self.received_bytes += len(block)
            wanted = [self._decide(entry) for entry in self._undecided(self._filled)]
            if any(wanted) or self._filled == self.flight.end:
                # First: what a reader has had is kept.
                self._write()
        if any(wanted):
            self._wake_soon()

    def _begin(self) -> int:
        self._attempt += 1
        if not self._buffer:
            self._buffer = bytearray(self.flight.length)
        return self._attempt

    def _is_adoptable(self, entry: PackEntry, start: int, content: bytes) -> bool:
        """Put the entry into the buffer and see whether it is true."""
        # Nothing in front of it is left out: what is before `_kept` was written.
        if entry.offset != self._decided or entry.end > start + len(content):
            return False
        low, high = entry.offset - self.flight.start, entry.end - self.flight.start
        self._buffer[low:high] = content[entry.offset - start : entry.end - start]
        return self._prove(entry) is None

    def _undecided(self, arrived: int) -> Iterator[PackEntry]:
        """The entries that have arrived as a whole and are not decided, and those whose rows lie
        about their place."""
        while (entry := self._next) is not None:
            if self._is_in_place(entry) and entry.end > arrived:
                return
            self._next = next(self._entries, None)
            yield entry

    def _is_in_place(self, entry: PackEntry) -> bool:
        return self._decided <= entry.offset and entry.end <= self.flight.end

    def _decide(self, entry: PackEntry) -> bool:
        """Prove an entry; whether somebody waits for it."""
        if not self._is_in_place(entry):
            self.bad[entry] = IntegrityError(f"chunk {entry.chunk.hex()} is not where it should be")
            return entry.offset in self._events
        if entry.offset != self._decided:
            self._skip_to(entry.offset)
        error = self._prove(entry)
        if error is not None:
            self.bad[entry] = error
            self._skip_to(entry.end)
        self._decided = entry.end
        if self._decided - self._kept >= _WRITE_BYTES:
            self._write()
        return entry.offset in self._events

    def _prove(self, entry: PackEntry) -> StoreError | None:
        low = entry.offset - self.flight.start
        stored = memoryview(self._buffer)[low : low + entry.stored_length]
        is_raw = entry.codec == Codec.RAW and len(stored) == entry.raw_length
        # Proven where it lies, without a copy.
        if is_raw and chunk_id(stored) == entry.chunk:
            return None
        try:
            raw = unpack_chunk(entry, bytes(stored))
        except IntegrityError as error:
            return error
        if entry.offset in self._events:
            self._decoded[entry.offset] = raw
        return None

    def _skip_to(self, offset: int) -> None:
        """Leave what lies before `offset` and was not proven out of what is written."""
        self._write()
        self._kept = offset

    def _write(self) -> None:
        if self._kept < self._decided:
            low, high = self._kept - self.flight.start, self._decided - self.flight.start
            self._keep(self._kept, memoryview(self._buffer)[low:high])
            self._kept = self._decided

    def _decode(self, entry: PackEntry) -> bytes:
        low = entry.offset - self.flight.start
        stored = bytes(memoryview(self._buffer)[low : low + entry.stored_length])
        # Raw bytes were proven where they lie.
        return stored if entry.codec == Codec.RAW else unpack_chunk(entry, stored)

    def _wake_soon(self) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        everyone = self.landed.is_set()
        for offset in list(self._events):
            if everyone or offset < self._decided:
                self._events.pop(offset).set()
