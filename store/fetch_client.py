"""FetchClient: has another process fetch, and learn what the remote holds.

The half of the processes that serve readers; `store.fetch_service` is the other. Where that process
ends, another takes its place, and calls without an answer are made again.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

import trio

from store.cache_index import CacheIndex
from store.cache_rows import PackPlace
from store.catalog import Catalog
from store.errors import MalformedObject
from store.ids import PACK_NAME_BYTES, GitId, pack_name_from_bytes
from store.messages import (
    FileRead,
    Kind,
    Message,
    MessageBuffer,
    pack_places,
    pack_reads,
    parse_error,
    parse_fetched,
)
from store.pack_cache import PackCache
from store.remote import Remote

log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[trio.SocketStream]]

_RECEIVED_AT_ONCE = 4 << 20
_PAUSE_SECONDS = 0.05


def _ignore(wanted: bool) -> None:
    pass


@dataclass(slots=True, eq=False)
class _Call:
    """A call under way. `answer` is there once `answered` is set."""

    message: Message
    answered: trio.Event = field(default_factory=trio.Event)
    answer: Message | None = None


class FetchClient:
    """Calls to the process that fetches. Belongs to one trio loop."""

    def __init__(
        self, connect: Connect, cache: PackCache, watch: Callable[[bool], None] = _ignore
    ) -> None:
        """`watch` is called when that process begins, or ends, to want what `tell_reads` tells."""
        self._connect = connect
        self._cache = cache
        self._watch = watch
        self._numbers = count(1)
        # By number, exactly those that have no answer yet, in the order in which they were made.
        self._calls: dict[int, _Call] = {}
        self._stream: trio.SocketStream | None = None
        self._sending = trio.Lock()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be connected until cancelled; no call is answered outside of this."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                try:
                    async with await self._connect() as stream:
                        await self._talk(stream)
                except (OSError, trio.BrokenResourceError, MalformedObject) as error:
                    log.debug("the process that fetches is not there: %s", error)
                finally:
                    self._stream = None
                await trio.sleep(_PAUSE_SECONDS)

    async def fetch_chunk(self, place: PackPlace, *, anew: bool = False) -> bytes | None:
        """The proven bytes of a chunk that the cache does not have; None where it does by now.
        `anew` has it fetched whatever the cache has. Raises StoreError."""
        kind = Kind.FETCH_ANEW if anew else Kind.FETCH
        answer = await self._call(kind, pack_places([place]))
        if answer.kind == Kind.HERE:
            self._cache.note_ranges(place.pack, answer.body)
            return None
        ranges, chunk = parse_fetched(answer.body)
        self._cache.note_ranges(place.pack, ranges)
        return chunk

    def prefetch(self, places: Iterable[PackPlace]) -> None:
        """Get these ahead of need, in this order, as far as there is room for it."""
        body = pack_places(places)
        if body:
            self._tell(Kind.PREFETCH, body)

    async def learn(self, commit: GitId | None) -> None:
        """Make the index objects that a commit needs known here; None: all. Raises StoreError."""
        await self._call(Kind.LEARN, (commit or "").encode())

    def tell_shown(self, commit: GitId) -> None:
        """Say what commit is shown now."""
        self._tell(Kind.SHOWN, commit.encode())

    async def tell_reads(self, reads: Iterable[FileRead]) -> None:
        """Say what files began to be read; returns when that was heard."""
        await self._call(Kind.READS, pack_reads(reads))

    async def _call(self, kind: Kind, body: bytes) -> Message:
        number = next(self._numbers)
        call = self._calls[number] = _Call(Message(kind, number, body))
        try:
            await self._send(call.message)
            await call.answered.wait()
        finally:
            self._calls.pop(number, None)
        assert call.answer is not None
        if call.answer.kind == Kind.FAILED:
            raise parse_error(call.answer.body)
        return call.answer

    def _tell(self, kind: Kind, body: bytes) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._send, Message(kind, 0, body))

    async def _talk(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        for call in list(self._calls.values()):
            await self._send(call.message)
        received = MessageBuffer()
        while part := await stream.receive_some(_RECEIVED_AT_ONCE):
            for message in received.feed(part):
                self._hear(message)

    def _hear(self, message: Message) -> None:
        if message.kind == Kind.WATCH:
            self._watch(message.body == b"\1")
            return
        if message.kind == Kind.KEPT:
            name, ranges = message.body[:PACK_NAME_BYTES], message.body[PACK_NAME_BYTES:]
            self._cache.note_ranges(pack_name_from_bytes(name), ranges)
            return
        # Nobody may wait for it any more.
        asked = self._calls.get(message.call)
        if asked is not None:
            asked.answer = message
            asked.answered.set()

    async def _send(self, message: Message) -> None:
        """Send where there is a connection; a call is sent again when there is a new one."""
        async with self._sending:
            if self._stream is None:
                return
            try:
                await self._stream.send_all(message.to_bytes())
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                log.debug("the process that fetches is gone: %s", error)


class ServedCatalog(Catalog):
    """What this machine knows of a remote; what it does not, another process has to learn."""

    def __init__(
        self,
        remote: Remote,
        identity: str,
        repository: str | None,
        index: CacheIndex,
        client: FetchClient,
    ) -> None:
        """`remote` is asked for its paths and its name alone."""
        super().__init__(remote, identity, repository, index, timeout_seconds=0.0)
        self._client = client

    async def fetch_commit_indexes(self, commit: GitId) -> bool:
        """See Catalog; whether anything new was learnt is not known."""
        await self._client.learn(commit)
        return True

    async def fetch_all_indexes(self) -> str | None:
        """See Catalog."""
        await self._client.learn(None)
        return self.get_store()
