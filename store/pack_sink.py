"""PackSink: chunks in, staged packs out, each chunk once."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

from store.ids import ChunkId, PackName
from store.packs import PackKind, PackSummary
from store.staged_writer import StagedPackWriter
from store.staging import Staging

# What is handed to the writing thread at once, and the most that may wait for it.
_WRITE_BYTES = 1 << 20
_MOST_WAITING_BYTES = 64 << 20


class PackSink:
    """Writes chunks of one kind into as many staged packs as they need.

    Chunks are written, and hashed into their pack, by a thread beside the caller's; a full pack is
    synced and named by another while the next is being filled. Packs that were finished stay when
    an error ends the work: they hold what the next run need not read again.
    """

    def __init__(self, staging: Staging, kind: PackKind, *, saving: bool = False) -> None:
        """With `saving`, what was saved (`save`) outlives a kill of this process."""
        self._staging = staging
        self._kind = kind
        self._saving = saving
        self._stack = ExitStack()
        self._writer: StagedPackWriter | None = None
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="pack")
        self._finishing: list[tuple[PackName, Future[PackSummary]]] = []
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="write")
        # Bytes that the writer holds back, and what the thread has to write still, with its bytes.
        self._held_bytes = 0
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._waiting_bytes = 0
        # Every chunk that went in, so that none goes in twice.
        self._chunks: set[ChunkId] = set()
        self.stored_bytes = 0

    def __enter__(self) -> "PackSink":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hand.shutdown(wait=True)
        self._finisher.shutdown(wait=True)
        self._stack.close()

    def __contains__(self, chunk: ChunkId) -> bool:
        return chunk in self._chunks

    def append(self, chunk: ChunkId, codec: int, stored: bytes, raw_length: int) -> None:
        """Write a chunk, unless it is here already. Raises LocalDiskFull, where nothing is to be
        saved perhaps for a chunk before."""
        if chunk in self._chunks:
            return
        writer = self._writer
        if writer is not None and not writer.fits(len(stored)):
            self._finish_current()
            writer = None
        if writer is None:
            writer = self._stack.enter_context(self._staging.new_pack(self._kind))
            self._writer = writer
        if self._saving:
            writer.append(chunk, codec, stored, raw_length)
        else:
            writer.add(chunk, codec, stored, raw_length)
            self._held_bytes += len(stored)
            if self._held_bytes >= _WRITE_BYTES:
                self._write_beside(writer)
        self._chunks.add(chunk)
        self.stored_bytes += len(stored)

    def _write_beside(self, writer: StagedPackWriter) -> None:
        self._waiting.append(
            (self._hand.submit(writer.write, writer.take_added()), self._held_bytes)
        )
        self._waiting_bytes += self._held_bytes
        self._held_bytes = 0
        while self._waiting_bytes > _MOST_WAITING_BYTES or (
            self._waiting and self._waiting[0][0].done()
        ):
            written, size = self._waiting.popleft()
            self._waiting_bytes -= size
            written.result()

    def save(self) -> None:
        """Have all that was appended so far outlive this process. Raises LocalDiskFull."""
        assert self._saving
        if self._writer is not None:
            self._writer.save()

    def finish(self) -> dict[PackName, PackSummary]:
        """Finish the last pack and wait until all of them last. The packs written."""
        self._finish_current()
        return {name: future.result() for name, future in self._finishing}

    def _finish_current(self) -> None:
        if self._finishing:
            # An error of the pack before, such as a full disk, shows here at the latest.
            self._finishing[-1][1].result()
        if self._writer is not None:
            if self._saving:
                self._writer.save()
            last = self._waiting[-1][0] if self._waiting else None
            future = self._finisher.submit(_finish, self._writer, last)
            self._finishing.append((self._writer.name, future))
            self._writer = None
            self._held_bytes = 0


def _finish(writer: StagedPackWriter, last_write: Future[None] | None) -> PackSummary:
    """Finish a pack behind the last of its writes."""
    if last_write is not None:
        last_write.result()
    return writer.finish()
