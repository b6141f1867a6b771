"""DeferredRemote: an S3 remote that is made at its first use.

Importing boto3 and making its client take a part of a second, which nobody should pay who reads
what is cached.
"""

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from store.config import RemoteSettings
from store.errors import RemoteError
from store.range_sink import RangeSink, stream_range
from store.remote import ObjectInfo, Refusals, Remote, get_refusals

# One at a time: boto3's clients may be used by many threads, but not made by many at once.
_MAKING = trio.CapacityLimiter(1)


class DeferredRemote:
    """A remote in a bucket, as its settings say. Belongs to one trio loop."""

    def __init__(self, settings: RemoteSettings) -> None:
        self._settings = settings
        self._remote: Remote | None = None
        self._making = trio.Lock()
        # Why the last attempt to make it failed.
        self._failure: RemoteError | None = None

    @property
    def url(self) -> str:
        """The url as it was configured."""
        return self._settings.url

    async def _made(self) -> Remote:
        async with self._making:
            if self._remote is None:
                # In a thread: looking for credentials may run a program, or wait for a network.
                make = partial(_make_s3, self._settings)
                try:
                    self._remote = await trio.to_thread.run_sync(make, limiter=_MAKING)
                except RemoteError as error:
                    self._failure = error
                    raise
            return self._remote

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """As Remote.fetch."""
        return await (await self._made()).fetch(
            key, max_bytes=max_bytes, timeout_seconds=timeout_seconds
        )

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        """As Remote.fetch_range."""
        made = await self._made()
        return await made.fetch_range(key, start, length, timeout_seconds=timeout_seconds)

    async def stream_range(
        self, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
    ) -> None:
        """As StreamingRemote.stream_range."""
        made = await self._made()
        await stream_range(made, key, start, length, sink, timeout_seconds=timeout_seconds)

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        """As Remote.put."""
        await (await self._made()).put(key, body, timeout_seconds=timeout_seconds)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        """As Remote.list_objects."""
        return await (await self._made()).list_objects(prefix, timeout_seconds=timeout_seconds)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """As Remote.delete."""
        await (await self._made()).delete(key, timeout_seconds=timeout_seconds)

    def local_path(self, key: str) -> Path | None:
        """None: a bucket is not a folder."""
        return None

    def get_refusals(self) -> Refusals:
        """As RefusingRemote.get_refusals."""
        if self._remote is not None:
            return get_refusals(self._remote)
        return Refusals({} if self._failure is None else {"settings": str(self._failure)})

    async def close(self) -> None:
        """As Remote.close; nothing to do where nothing was made."""
        if self._remote is not None:
            await self._remote.close()


def import_ahead(settings: RemoteSettings) -> None:
    """Import what such a remote needs beside what goes on: a use soon from now need not wait for
    it. Asks nobody."""
    if settings.bucket is not None:
        threading.Thread(target=_import_s3, name="import of boto3", daemon=True).start()


def _import_s3() -> None:
    import store.s3  # noqa: F401


def _make_s3(settings: RemoteSettings) -> Remote:
    from store.s3 import S3Location, S3Remote

    assert settings.bucket is not None
    return S3Remote(
        S3Location(
            settings.bucket,
            settings.prefix,
            settings.region,
            settings.endpoint,
            settings.profile,
        )
    )
