"""The `format` object of a remote: that it is one, which one, and how its files are cut.

It is written first, once, and read before anything else. Everybody who adds files for that remote
cuts them by its parameters, so that the same bytes are stored once, whoever adds them.
"""

from dataclasses import dataclass

from store.chunking import ChunkingParameters
from store.errors import MalformedObject
from store.ids import is_uuid
from store.sealed_text import check_fields, integer_field, seal, text_field, unseal

MAX_FORMAT_BYTES = 4096

_KIND = "format"
_VERSION = 1
_FIELDS = ("store", "least_bytes", "mean_bytes", "most_bytes")


@dataclass(frozen=True, slots=True)
class RemoteFormat:
    """What holds for a whole remote. `store` is its random uuid: two addresses with the same one
    are the same remote. Raises MalformedObject if that is no uuid."""

    store: str
    chunking: ChunkingParameters

    def __post_init__(self) -> None:
        if not is_uuid(self.store):
            raise MalformedObject("the format object of a remote names no store")


def encode_remote_format(remote_format: RemoteFormat) -> bytes:
    """The sealed record that says so."""
    chunking = remote_format.chunking
    sizes = (chunking.least_bytes, chunking.mean_bytes, chunking.most_bytes)
    return seal(_KIND, _VERSION, dict(zip(_FIELDS, (remote_format.store, *sizes), strict=True)))


def parse_remote_format(raw: bytes) -> RemoteFormat:
    """What the format object of a remote says.

    Raises UnsupportedVersion for a remote of another version of revfs, and MalformedObject for
    bytes that are no format object or parameters that cannot be used.
    """
    payload = unseal(_KIND, _VERSION, raw)
    check_fields(_KIND, payload, _FIELDS)
    store = text_field(_KIND, payload, "store")
    least, mean, most = (integer_field(_KIND, payload, name) for name in _FIELDS[1:])
    return RemoteFormat(store, ChunkingParameters(least, mean, most))
