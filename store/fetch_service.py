"""FetchService: fetches for other processes, so that one miss is one GET for all of a mount.

The half that has the Fetcher; `store.fetch_client` is that of the processes that ask.
"""

import logging
from socket import socket

import trio

from store import byte_ranges
from store.cache_index import PackPlace
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


class FetchService:
    """Answers the calls of any number of clients. Belongs to one trio loop."""

    def __init__(self, cache: PackCache, remote: RemoteParts | None) -> None:
        """`remote` is None where none is configured: then nothing can be fetched."""
        self._cache = cache
        self._remote = remote
        # What a client said last that it shows; empty where none said so.
        self.shown_commit = ""

    async def serve(self, listening: socket) -> None:
        """Serve those who connect, until cancelled."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
        await trio.serve_listeners(self._serve_client, [listener])

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        sending = trio.Lock()
        received = MessageBuffer()
        try:
            async with stream, trio.open_nursery() as nursery:
                while part := await stream.receive_some(_RECEIVED_AT_ONCE):
                    for message in received.feed(part):
                        nursery.start_soon(self._answer, stream, sending, message)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, MalformedObject) as group:
            log.debug("a client is gone: %r", group.exceptions)

    async def _answer(
        self, stream: trio.SocketStream, sending: trio.Lock, message: Message
    ) -> None:
        try:
            kind, body = await self._act(message)
        except StoreError as error:
            kind, body = Kind.FAILED, pack_error(error)
        except Exception as error:
            log.exception("a call failed in a way that it should not")
            kind, body = Kind.FAILED, pack_error(StoreError(f"internal error: {error!r}"))
        if message.call:
            async with sending:
                await stream.send_all(Message(kind, message.call, body).to_bytes())

    async def _act(self, message: Message) -> tuple[Kind, bytes]:
        if message.kind == Kind.SHOWN:
            self.shown_commit = message.body.decode()
            await self._learn_shown(GitId(self.shown_commit))
        elif self._remote is None:
            raise StoreError("no remote is configured")
        elif message.kind in (Kind.FETCH, Kind.FETCH_ANEW):
            (place,) = parse_places(message.body)
            return await self._fetch(self._remote, place, anew=message.kind == Kind.FETCH_ANEW)
        elif message.kind == Kind.PREFETCH:
            self._remote.fetcher.prefetch(parse_places(message.body))
        elif message.kind == Kind.LEARN:
            await self._learn(self._remote, message.body.decode())
        else:
            raise MalformedObject(f"there is no call {message.kind}")
        return Kind.DONE, b""

    async def _fetch(
        self, remote: RemoteParts, place: PackPlace, *, anew: bool
    ) -> tuple[Kind, bytes]:
        entry = place.entry
        if not anew:
            ranges = self._cache.load_ranges(place.pack)
            if byte_ranges.covered_by(ranges, entry.offset, entry.end):
                return Kind.HERE, byte_ranges.pack(ranges)
        chunk = await remote.fetcher.fetch_chunk(place)
        ranges = self._cache.load_ranges(place.pack)
        return Kind.FETCHED, pack_fetched(byte_ranges.pack(ranges), chunk)

    async def _learn_shown(self, commit: GitId) -> None:
        """Have the index at hand before the first read, which says what is wrong if something
        is."""
        if self._remote is not None and not self._remote.catalog.knows_commit(commit):
            try:
                await self._remote.catalog.fetch_commit_indexes(commit)
            except StoreError as error:
                log.debug("the remote was not asked ahead of the first read: %s", error)

    async def _learn(self, remote: RemoteParts, commit: str) -> None:
        if commit:
            await remote.catalog.fetch_commit_indexes(GitId(commit))
        else:
            await remote.catalog.fetch_all_indexes()
