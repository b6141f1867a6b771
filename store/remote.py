"""Remote: the contract of object storage, and the keys that revfs uses in it.

Every object is immutable and written whole: a reader sees all of it or none. Keys are relative to
the remote's own prefix. One contract suite (tests/contract) holds every implementation to this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from store.ids import CHUNK_ID_BYTES, GitId, PackName, is_lower_hex, is_pack_name, is_uuid

FORMAT_KEY = "format"
PACKS_PREFIX = "packs/"
INDEX_PREFIX = "index/"
MANIFESTS_PREFIX = "manifests/"
TOMBS_PREFIX = "tombs/"
LEASES_PREFIX = "leases/"
TRASH_PREFIX = "trash/"


def pack_key(name: PackName) -> str:
    """Where a pack lies: spread over 256 folders by its first two digits."""
    return f"{PACKS_PREFIX}{name[:2]}/{name}"


def parse_pack_key(key: str) -> PackName | None:
    """The name of the pack that lies at that key, or None if it is no pack's key."""
    name = key.rpartition("/")[2]
    return PackName(name) if is_pack_name(name) and key == pack_key(PackName(name)) else None


def index_key(index_hash: str) -> str:
    """Where the index object of that BLAKE3 (hex) lies."""
    return f"{INDEX_PREFIX}{index_hash}"


def parse_index_key(key: str) -> str | None:
    """The BLAKE3 (hex) of the index object that lies at that key, or None if it is none's key."""
    name = key.removeprefix(INDEX_PREFIX)
    return name if key != name and is_lower_hex(name, 2 * CHUNK_ID_BYTES) else None


def manifests_prefix(repository: str, commit: GitId | None = None) -> str:
    """Where the manifests of a repository lie, or those of one commit of it."""
    prefix = f"{MANIFESTS_PREFIX}{repository}/"
    return prefix if commit is None else f"{prefix}{commit}/"


def tomb_key(name: PackName) -> str:
    """Where the tomb of a condemned pack lies."""
    return f"{TOMBS_PREFIX}{name}"


def parse_tomb_key(key: str) -> PackName | None:
    """The name of the pack whose tomb lies at that key, or None if it is no tomb's key."""
    name = key.removeprefix(TOMBS_PREFIX)
    return PackName(name) if key != name and is_pack_name(name) else None


def lease_key(lease: str) -> str:
    """Where the lease of that uuid lies."""
    return f"{LEASES_PREFIX}{lease}"


def parse_lease_key(key: str) -> str | None:
    """The uuid of the lease that lies at that key, or None if it is no lease's key."""
    name = key.removeprefix(LEASES_PREFIX)
    return name if key != name and is_uuid(name) else None


def trash_key(manifest_key: str) -> str:
    """Where the manifest of that key lies once it is forgotten."""
    return TRASH_PREFIX + manifest_key.removeprefix(MANIFESTS_PREFIX)


def restored_key(trash_key: str) -> str:
    """The key that a manifest in the trash had before it was forgotten."""
    return MANIFESTS_PREFIX + trash_key.removeprefix(TRASH_PREFIX)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of one object: its key, its size in bytes, and when it was written, in
    seconds since 1970 by the clock of the remote."""

    key: str
    size: int
    modified_seconds: float


class Remote(Protocol):
    """Object storage under one prefix.

    Every method may raise RemoteError. `timeout_seconds` bounds one call from start to end, the
    body included, whatever the server does; past it the call raises RemoteUnavailable.
    """

    @property
    def url(self) -> str:
        """What a person knows this remote by, for messages."""
        ...

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """The whole object.

        Raises ObjectMissing if it is not there, and MalformedObject if it is larger than
        `max_bytes`, of which at most `max_bytes` + 1 have then been read.
        """
        ...

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        """Exactly `length` bytes (at least 1) from `start`.

        An object that ends earlier, or an answer of any other length or place, is a RemoteError;
        bytes are never made up or cut short. Raises ObjectMissing if the object is not there.
        """
        ...

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        """Write the object whole. A Path is a local file whose bytes are streamed."""
        ...

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        """Every object whose key begins with `prefix`, in order of key; complete or an error."""
        ...

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """Remove the object. One that is not there is no error."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the object lies as a plain local file, if this remote is a folder; it may not
        exist. A reader then needs no copy of its own."""
        ...

    async def close(self) -> None:
        """Let go of connections. No call may follow."""
        ...


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a remote refuses for now (credentials, rights, no such bucket), so that such calls fail
    without asking it. `said` has a sentence for each, by what tells it from others; `may_try` is
    whether a call would be let through to see if one is over."""

    said: Mapping[str, str] = field(default_factory=dict)
    may_try: bool = True


class RefusingRemote(Remote, Protocol):
    """A remote that remembers that it was refused."""

    def get_refusals(self) -> Refusals:
        """What is refused now."""
        ...


def get_refusals(remote: Remote) -> Refusals:
    """What `remote` refuses now, as far as it is one that remembers that."""
    remembering = getattr(remote, "get_refusals", None)
    return Refusals() if remembering is None else remembering()
