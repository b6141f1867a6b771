"""FaultyRemote: any remote, with what a plan says going wrong call by call.

def plan(call: Call, number: int) -> Fault | None:
    return Raises(RemoteUnavailable("busy")) if number < 2 else None

FaultyRemote(MemoryRemote(), plan)
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from store.remote import ObjectInfo, Remote
from tests.fakes.memory_remote import Call

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Raises:
    """The call raises `error`; the inner remote is not asked, or, `after` it was, its answer is
    lost."""

    error: Exception
    after: bool = False


@dataclass(frozen=True, slots=True)
class Delays:
    """The call is made, `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hangs:
    """The call never ends."""


@dataclass(frozen=True, slots=True)
class Flips:
    """One bit of byte `offset` of what is fetched is wrong."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class Cuts:
    """Only the first `length` bytes of what is fetched arrive, and nobody says so."""

    length: int


Fault = Raises | Delays | Hangs | Flips | Cuts
Plan = Callable[[Call, int], Fault | None]
"""The fault of a call, given how many calls were made before it; None for none."""


def faulty(plan: Plan) -> Callable[[Remote], Remote]:
    """Wraps any remote in the faults of `plan`."""
    return lambda remote: FaultyRemote(remote, plan)


class FaultyRemote:
    """`inner`, with the faults of `plan`. `calls` are all calls so far, in order."""

    def __init__(self, inner: Remote, plan: Plan) -> None:
        self._inner = inner
        self._plan = plan
        self.calls: list[Call] = []

    @property
    def url(self) -> str:
        return self._inner.url

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        async def ask() -> bytes:
            return await self._inner.fetch(
                key, max_bytes=max_bytes, timeout_seconds=timeout_seconds
            )

        return await self._fetch(Call("fetch", key), ask)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        async def ask() -> bytes:
            return await self._inner.fetch_range(
                key, start, length, timeout_seconds=timeout_seconds
            )

        return await self._fetch(Call("fetch_range", key, start, length), ask)

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        async def ask() -> None:
            await self._inner.put(key, body, timeout_seconds=timeout_seconds)

        size = body.stat().st_size if isinstance(body, Path) else len(body)
        await self._call(self._next_fault(Call("put", key, length=size)), ask)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        async def ask() -> Sequence[ObjectInfo]:
            return await self._inner.list_objects(prefix, timeout_seconds=timeout_seconds)

        return await self._call(self._next_fault(Call("list", prefix)), ask)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        async def ask() -> None:
            await self._inner.delete(key, timeout_seconds=timeout_seconds)

        await self._call(self._next_fault(Call("delete", key)), ask)

    def local_path(self, key: str) -> Path | None:
        return self._inner.local_path(key)

    async def close(self) -> None:
        await self._inner.close()

    def _next_fault(self, call: Call) -> Fault | None:
        self.calls.append(call)
        return self._plan(call, len(self.calls) - 1)

    async def _fetch(self, call: Call, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        fault = self._next_fault(call)
        content = await self._call(fault, ask)
        match fault:
            case Flips(offset):
                flipped = bytearray(content)
                flipped[offset] ^= 1
                return bytes(flipped)
            case Cuts(length):
                return content[:length]
        return content

    async def _call(self, fault: Fault | None, ask: Callable[[], Awaitable[Result]]) -> Result:
        match fault:
            case Raises(error, after=True):
                await ask()
                raise error
            case Raises(error):
                raise error
            case Delays(seconds):
                await trio.sleep(seconds)
            case Hangs():
                await trio.sleep_forever()
        return await ask()
