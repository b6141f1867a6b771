"""Ranges that are handed out while they arrive: what takes the bytes, and how a remote is asked.

A remote that can do so has `stream_range`; any other gives the whole range at its end, which is the
same but for the time.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from store.concurrency import VERIFY
from store.remote import Remote

Take = Callable[[bytes | memoryview], None]
"""Takes the next bytes of a range, in a thread; they are copied. Raises RemoteUnavailable where a
later attempt has begun."""


class RangeSink(Protocol):
    """Takes the bytes of one range in order, over as many attempts as it needs."""

    @property
    def taken_bytes(self) -> int:
        """So many of the first bytes need not come again: the next attempt begins behind them."""
        ...

    def begin(self) -> Take:
        """Begin an attempt, at `taken_bytes`; what an earlier one still gives is refused."""
        ...


class StreamingRemote(Remote, Protocol):
    """A remote that gives the bytes of a range while they arrive."""

    async def stream_range(
        self, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
    ) -> None:
        """As Remote.fetch_range, into `sink`: it has had all `length` bytes when this returns, and
        some of them, in order, when this raises."""
        ...


async def stream_range(
    remote: Remote, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
) -> None:
    """Have `remote` give a range to `sink`, while it arrives if it can do that."""
    streaming = getattr(remote, "stream_range", None)
    if streaming is not None:
        await streaming(key, start, length, sink, timeout_seconds=timeout_seconds)
        return
    take, done = sink.begin(), sink.taken_bytes
    content = await remote.fetch_range(
        key, start + done, length - done, timeout_seconds=timeout_seconds
    )
    await trio.to_thread.run_sync(partial(take, content), limiter=VERIFY)
