"""FetchService: fetches for other processes, so that one miss is one GET for all of a mount.

The half that has the Fetcher; `store.fetch_client` is that of the processes that ask.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from socket import socket
from types import MappingProxyType

import trio

from store import byte_ranges
from store.cache_rows import PackPlace
from store.errors import MalformedObject, StoreError
from store.ids import GitId
from store.messages import (
    Kind,
    Message,
    MessageBuffer,
    pack_error,
    pack_fetched,
    parse_places,
)
from store.opening import RemoteParts
from store.pack_cache import PackCache

log = logging.getLogger(__name__)

_RECEIVED_AT_ONCE = 256 << 10
_LEAST_PAUSE_SECONDS = 0.02
_MOST_PAUSE_SECONDS = 0.5


Answer = tuple[Kind, bytes]
Call = Callable[[bytes], Awaitable[Answer]]
"""What answers a call, given its body; raises StoreError."""


@dataclass(frozen=True, slots=True, eq=False)
class _Client:
    """A connection, on which one at a time may send; `nursery` lasts as long as it."""

    stream: trio.SocketStream
    nursery: trio.Nursery
    sending: trio.Lock = field(default_factory=trio.Lock)

    async def send(self, message: Message) -> None:
        async with self.sending:
            await self.stream.send_all(message.to_bytes())


class FetchService:
    """Answers the calls of any number of clients. Belongs to one trio loop."""

    def __init__(
        self,
        cache: PackCache,
        remote: RemoteParts | None,
        more: Mapping[int, Call] = MappingProxyType({}),
    ) -> None:
        """`remote` is None where none is configured: then nothing can be fetched. `more` are calls
        of other kinds, which others answer."""
        self._cache = cache
        self._remote = remote
        self._calls: dict[int, Call] = {
            Kind.FETCH: self._fetch,
            Kind.FETCH_ANEW: self._fetch_anew,
            Kind.PREFETCH: self._prefetch,
            Kind.LEARN: self._learn,
            Kind.SHOWN: self._note_shown,
            **more,
        }
        self._clients: set[_Client] = set()
        self._watches_reads = False
        # What a client said last that it shows; empty where none said so.
        self.shown_commit = ""

    async def serve(self, listening: socket) -> None:
        """Serve those who connect, until cancelled."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_news)
            await trio.serve_listeners(self._serve_client, [listener])

    async def _tell_news(self) -> None:
        """Tell all clients what came into the cache, so that they need not ask for each chunk."""
        pause_seconds = _LEAST_PAUSE_SECONDS
        while True:
            news = self._cache.take_news()
            # Where nothing is fetched there is no hurry: what is not told is asked for.
            longer = min(2 * pause_seconds, _MOST_PAUSE_SECONDS)
            pause_seconds = _LEAST_PAUSE_SECONDS if news else longer
            for pack, ranges in news.items():
                message = Message(Kind.KEPT, 0, bytes.fromhex(pack) + ranges)
                for client in self._clients:
                    client.nursery.start_soon(client.send, message)
            await trio.sleep(pause_seconds)

    def watch_reads(self, wanted: bool) -> None:
        """Have clients tell, or tell no more, of the files that they serve (Kind.READS)."""
        if wanted != self._watches_reads:
            self._watches_reads = wanted
            for client in self._clients:
                client.nursery.start_soon(client.send, self._watch_message())

    def _watch_message(self) -> Message:
        return Message(Kind.WATCH, 0, bytes([self._watches_reads]))

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        received = MessageBuffer()
        try:
            async with stream, trio.open_nursery() as nursery:
                client = _Client(stream, nursery)
                self._clients.add(client)
                try:
                    nursery.start_soon(client.send, self._watch_message())
                    while part := await stream.receive_some(_RECEIVED_AT_ONCE):
                        for message in received.feed(part):
                            nursery.start_soon(self._answer, client, message)
                finally:
                    # While its nursery still takes what is to be sent.
                    self._clients.discard(client)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, MalformedObject) as group:
            log.debug("a client is gone: %r", group.exceptions)

    async def _answer(self, client: _Client, message: Message) -> None:
        try:
            kind, body = await self._act(message)
        except StoreError as error:
            kind, body = Kind.FAILED, pack_error(error)
        except trio.Cancelled:
            raise
        except BaseException as error:
            log.exception("a call failed in a way that it should not")
            kind, body = Kind.FAILED, pack_error(StoreError(f"internal error: {error!r}"))
        if message.call:
            await client.send(Message(kind, message.call, body))

    async def _act(self, message: Message) -> Answer:
        act = self._calls.get(message.kind)
        if act is None:
            raise MalformedObject(f"there is no call {message.kind}")
        return await act(message.body)

    async def _fetch(self, body: bytes) -> Answer:
        place = _parse_place(body)
        entry = place.entry
        ranges = self._cache.load_ranges(place.pack)
        if byte_ranges.covered_by(ranges, entry.offset, entry.end):
            return Kind.HERE, byte_ranges.pack(ranges)
        return await self._fetch_anew(body)

    async def _fetch_anew(self, body: bytes) -> Answer:
        place = _parse_place(body)
        chunk = await self._require_remote().fetcher.fetch_chunk(place)
        ranges = self._cache.load_ranges(place.pack)
        return Kind.FETCHED, pack_fetched(byte_ranges.pack(ranges), chunk)

    async def _prefetch(self, body: bytes) -> Answer:
        self._require_remote().fetcher.prefetch(parse_places(body))
        return Kind.DONE, b""

    async def _learn(self, body: bytes) -> Answer:
        catalog = self._require_remote().catalog
        if body:
            await catalog.fetch_commit_indexes(_parse_commit(body))
        else:
            await catalog.fetch_all_indexes()
        return Kind.DONE, b""

    async def _note_shown(self, body: bytes) -> Answer:
        commit = _parse_commit(body)
        self.shown_commit = commit
        await self._learn_shown(commit)
        return Kind.DONE, b""

    def _require_remote(self) -> RemoteParts:
        if self._remote is None:
            raise StoreError("no remote is configured")
        return self._remote

    async def _learn_shown(self, commit: GitId) -> None:
        """Have the index at hand before the first read, which says what is wrong if something
        is."""
        if self._remote is not None and not self._remote.catalog.knows_commit(commit):
            try:
                await self._remote.catalog.fetch_commit_indexes(commit)
            except StoreError as error:
                log.debug("the remote was not asked ahead of the first read: %s", error)


def _parse_place(body: bytes) -> PackPlace:
    places = parse_places(body)
    if len(places) != 1:
        raise MalformedObject(f"a message names {len(places)} places in place of one")
    return places[0]


def _parse_commit(body: bytes) -> GitId:
    if not body.isalnum():
        raise MalformedObject("a message names no commit")
    return GitId(body.decode())
