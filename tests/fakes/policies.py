"""Policies of a bucket as IAM has them, as far as ours go: Allow alone, patterns of actions and of
resources, and a condition on the prefix that is listed. And a remote that keeps to one.

PolicedRemote(MemoryRemote(), load_policies()["pusher"])
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from store.errors import RemoteDenied
from store.remote import ObjectInfo, Remote
from tests.fakes.processes import ROOT

Policy = dict[str, Any]
_ARN = "arn:aws:s3:::"
_BUCKET, _PREFIX = "BUCKET", "PREFIX"
_BLOCK = re.compile(r"^\*\*(\w+)\*\*.*?^```json\n(.*?)^```", re.DOTALL | re.MULTILINE)


def load_policies() -> dict[str, Policy]:
    """The policies in SECURITY.md by whom they are for, in lower case."""
    text = (ROOT / "SECURITY.md").read_text()
    return {name.lower(): json.loads(policy) for name, policy in _BLOCK.findall(text)}


def allows(policy: Policy, action: str, key: str, prefix: str = _PREFIX) -> bool:
    """Whether a policy allows an action on an object, or, of a list, on keys that begin so."""
    is_list = action == "s3:ListBucket"
    resource = f"{_ARN}{_BUCKET}" if is_list else f"{_ARN}{_BUCKET}/{prefix}/{key}"
    return any(
        action in _as_list(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in _as_list(statement["Resource"]))
        and _holds(statement.get("Condition"), f"{prefix}/{key}" if is_list else None)
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
    )


def _holds(condition: Policy | None, prefix: str | None) -> bool:
    if condition is None:
        return True
    assert condition.keys() == {"StringLike"}
    patterns = condition["StringLike"]
    assert patterns.keys() == {"s3:prefix"}
    return prefix is not None and any(
        fnmatchcase(prefix, pattern) for pattern in _as_list(patterns["s3:prefix"])
    )


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@dataclass
class PolicedRemote:
    """A remote that refuses what its policy does not allow. `used` and `refused` are pairs of an
    action and the first part of a key."""

    inner: Remote
    policy: Policy
    used: set[tuple[str, str]] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return self.inner.url

    def _check(self, action: str, key: str) -> None:
        kind = action, key.partition("/")[0]
        if not allows(self.policy, action, key):
            self.refused.add(kind)
            raise RemoteDenied(f"{action} is not allowed on {key}")
        self.used.add(kind)

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        self._check("s3:GetObject", key)
        return await self.inner.fetch(key, max_bytes=max_bytes, timeout_seconds=timeout_seconds)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        self._check("s3:GetObject", key)
        return await self.inner.fetch_range(key, start, length, timeout_seconds=timeout_seconds)

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        self._check("s3:PutObject", key)
        await self.inner.put(key, body, timeout_seconds=timeout_seconds)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        self._check("s3:ListBucket", prefix)
        return await self.inner.list_objects(prefix, timeout_seconds=timeout_seconds)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        self._check("s3:DeleteObject", key)
        await self.inner.delete(key, timeout_seconds=timeout_seconds)

    def local_path(self, key: str) -> Path | None:
        return self.inner.local_path(key)

    async def close(self) -> None:
        await self.inner.close()
