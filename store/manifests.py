"""The manifest: the record in a remote that one commit of one repository is complete there.

It is the commit point of a push. Its key names repository, commit and a ulid (a time-ordered
random id), so that pushes of the same commit never meet, and it is never written twice.
"""

import re
import secrets
from dataclasses import dataclass

from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.ids import (
    CHUNK_ID_BYTES,
    GitId,
    PackName,
    is_git_id,
    is_lower_hex,
    is_pack_name,
    is_repository_id,
)
from store.remote import MANIFESTS_PREFIX, manifests_prefix
from store.sealed_text import check_fields, seal, text_field, texts_field, unseal

MAX_MANIFEST_BYTES = 8 << 20
KNOWN_FEATURES: frozenset[str] = frozenset()
"""What a manifest may demand of its reader beyond version 1 of the format."""

_KIND = "manifest"
_VERSION = 1
_FIELDS = ("repository", "commit", "packs", "indexes", "features", "tool")
_MAX_TOOL_CHARACTERS = 200

# Crockford's base 32, as in the ulid specification (github.com/ulid/spec): 48 bits of time in
# milliseconds, 80 random bits, 26 digits; the first holds three bits only.
_ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_LENGTH = 26
_ULID_RANDOM_BITS = 80
_ULID = re.compile(f"[0-7][{_ULID_DIGITS}]{{{_ULID_LENGTH - 1}}}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One commit of one repository is complete in the remote.

    `packs` are all the packs that hold its chunks, `indexes` the BLAKE3 (hex) of the index objects
    that say where; both sorted, no name twice. `features` are what a reader must know to use it,
    `tool` what wrote it, for people. Raises MalformedObject if made of anything else.
    """

    repository: str
    commit: GitId
    packs: tuple[PackName, ...]
    indexes: tuple[str, ...]
    features: tuple[str, ...]
    tool: str

    def __post_init__(self) -> None:
        if not is_repository_id(self.repository):
            raise MalformedObject("a manifest names no repository")
        if not is_git_id(self.commit):
            raise MalformedObject("a manifest names no commit")
        if not all(is_pack_name(name) for name in self.packs):
            raise MalformedObject("a manifest lists something that is no pack name")
        if not all(is_lower_hex(name, 2 * CHUNK_ID_BYTES) for name in self.indexes):
            raise MalformedObject("a manifest lists something that is no index object")
        for names in (self.packs, self.indexes, self.features):
            if list(names) != sorted(set(names)):
                raise MalformedObject("a list of a manifest is out of order or repeats itself")
        if len(self.tool) > _MAX_TOOL_CHARACTERS or not _is_plain(self.tool):
            raise MalformedObject("the tool field of a manifest is not a short plain text")


def encode_manifest(manifest: Manifest) -> bytes:
    """The sealed record of a manifest. Raises StoreError if it lists more than fits in one."""
    raw = seal(_KIND, _VERSION, {name: getattr(manifest, name) for name in _FIELDS})
    if len(raw) > MAX_MANIFEST_BYTES:
        raise StoreError(f"a manifest of {len(manifest.packs)} packs is too large")
    return raw


def parse_manifest(raw: bytes) -> Manifest:
    """The manifest that was written so.

    Raises UnsupportedVersion where it demands a version or feature that is not known here, and
    MalformedObject where anything else is off. That it lies under the key of its own repository
    and commit is for the caller to check.
    """
    payload = unseal(_KIND, _VERSION, raw)
    features = texts_field(_KIND, payload, "features")
    # Before the fields: a feature may bring fields of its own.
    unknown = set(features) - KNOWN_FEATURES
    if unknown:
        raise UnsupportedVersion(f"a manifest needs features unknown here: {sorted(unknown)}")
    check_fields(_KIND, payload, _FIELDS)
    return Manifest(
        text_field(_KIND, payload, "repository"),
        GitId(text_field(_KIND, payload, "commit")),
        tuple(PackName(name) for name in texts_field(_KIND, payload, "packs")),
        texts_field(_KIND, payload, "indexes"),
        features,
        text_field(_KIND, payload, "tool"),
    )


def new_ulid(milliseconds: int) -> str:
    """A ulid of that time, in milliseconds since 1970: sorts by time, and is never made twice."""
    time_bits = 48
    assert 0 <= milliseconds < 1 << time_bits
    number = milliseconds << _ULID_RANDOM_BITS | secrets.randbits(_ULID_RANDOM_BITS)
    shifts = range((_ULID_LENGTH - 1) * 5, -1, -5)
    return "".join(_ULID_DIGITS[number >> shift & 31] for shift in shifts)


def manifest_key(repository: str, commit: GitId, ulid: str) -> str:
    """Where the manifest of that push lies in a remote."""
    return manifests_prefix(repository, commit) + ulid


def parse_manifest_key(key: str) -> tuple[str, GitId, str] | None:
    """The repository, commit and ulid of a manifest's key, or None if it is no manifest's key."""
    parts = key.removeprefix(MANIFESTS_PREFIX).split("/")
    if not key.startswith(MANIFESTS_PREFIX) or len(parts) != 3:
        return None
    repository, commit, ulid = parts
    if not (is_repository_id(repository) and is_git_id(commit) and _ULID.fullmatch(ulid)):
        return None
    return repository, GitId(commit), ulid


def _is_plain(text: str) -> bool:
    """Whether `text` can be shown in a terminal as it is."""
    return text.isascii() and text.isprintable()
