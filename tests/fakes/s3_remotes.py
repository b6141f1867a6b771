"""An S3Remote at any endpoint, and the one object that tests of its faults ask it for."""

import time
from collections.abc import Callable

from store.s3 import S3Location, S3Remote

BUCKET = "faults"
KEY = "packs/00/object"
CONTENT = bytes(range(256)) * 1024
TIMEOUT_SECONDS = 10.0
CONNECTIONS = 4


def remote_at(
    endpoint: str,
    bucket: str = BUCKET,
    profile: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> S3Remote:
    location = S3Location(bucket, "", "us-east-1", endpoint, profile)
    return S3Remote(location, connections=CONNECTIONS, clock=clock)


async def fetch(remote: S3Remote, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    return await remote.fetch(KEY, max_bytes=len(CONTENT), timeout_seconds=timeout_seconds)
