"""MemoryRemote: object storage in a dictionary, which writes down every call."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from store.errors import MalformedObject, ObjectMissing, RemoteUnavailable
from store.remote import ObjectInfo


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `verb` is fetch, fetch_range, put, list or delete; `key` the key or prefix. `start`
    and `length` are those of a range; `length` of a put is the size of its body."""

    verb: str
    key: str
    start: int | None = None
    length: int | None = None


class MemoryRemote:
    """A remote in memory. `clock` gives the seconds since 1970 of the remote.

    `objects` may be looked at and tampered with: key → (bytes, modified_seconds). `calls` are all
    calls so far, in order, those that fail included.
    """

    def __init__(
        self, url: str = "memory://remote", clock: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._clock = clock
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.calls: list[Call] = []
        self.closed = False

    @property
    def url(self) -> str:
        return self._url

    def count(self, verb: str | None = None) -> int:
        """How many calls there were, of one verb or of all."""
        return sum(verb in (None, call.verb) for call in self.calls)

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        await self._begin(Call("fetch", key))
        content = self._get(key)
        if len(content) > max_bytes:
            raise MalformedObject(f"{self.url}: {key} is larger than {max_bytes} bytes")
        return content

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        await self._begin(Call("fetch_range", key, start, length))
        content = self._get(key)[start : start + length]
        if len(content) < length:
            raise RemoteUnavailable(f"{self.url}: {key} ends before byte {start + length}")
        return content

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        content = body.read_bytes() if isinstance(body, Path) else bytes(body)
        await self._begin(Call("put", key, length=len(content)))
        self.objects[key] = content, self._clock()

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        await self._begin(Call("list", prefix))
        return [
            ObjectInfo(key, len(content), modified_seconds)
            for key, (content, modified_seconds) in sorted(self.objects.items())
            if key.startswith(prefix)
        ]

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        await self._begin(Call("delete", key))
        self.objects.pop(key, None)

    def local_path(self, key: str) -> Path | None:
        return None

    async def close(self) -> None:
        self.closed = True

    async def _begin(self, call: Call) -> None:
        assert not self.closed, "a call after close"
        self.calls.append(call)
        # As a real one would, let others run between the question and the answer.
        await trio.lowlevel.checkpoint()

    def _get(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectMissing(f"{self.url}: there is no object {key}")
        return self.objects[key][0]
