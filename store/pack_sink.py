"""PackSink: chunks in, staged packs out, each chunk once."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

from store.ids import ChunkId, PackName
from store.packs import PackKind, PackSummary
from store.staged_writer import StagedPackWriter
from store.staging import Staging


class PackSink:
    """Writes chunks of one kind into as many staged packs as they need.

    A full pack is synced and named while the next is being filled. Packs that were finished stay
    when an error ends the work: they hold what the next run need not read again.
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
        self._finisher.shutdown(wait=True)
        self._stack.close()

    def __contains__(self, chunk: ChunkId) -> bool:
        return chunk in self._chunks

    def append(self, chunk: ChunkId, codec: int, stored: bytes, raw_length: int) -> None:
        """Write a chunk, unless it is here already. Raises LocalDiskFull."""
        if chunk in self._chunks:
            return
        if self._writer is not None and not self._writer.fits(len(stored)):
            self._finish_current()
        if self._writer is None:
            self._writer = self._stack.enter_context(self._staging.new_pack(self._kind))
        self._writer.append(chunk, codec, stored, raw_length)
        self._chunks.add(chunk)
        self.stored_bytes += len(stored)

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
            future = self._finisher.submit(self._writer.finish)
            self._finishing.append((self._writer.name, future))
            self._writer = None
