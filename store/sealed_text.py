r"""The envelope of small JSON records: what they are, in which version, and that they are whole.

    revfs-<kind> <version>\n
    <canonical JSON of one object: sorted keys, no spaces, ASCII>\n
    blake3 <64 hex digits: of every byte before this line>\n

One value has one spelling. The seal finds damage, not forgery: whoever can write the object can
seal it. The field readers below are for the parsers of the records inside.
"""

import json
import re
from collections.abc import Collection, Mapping

from store.errors import MalformedObject, UnsupportedVersion
from store.ids import hash_bytes

_HEADER = re.compile(rb"revfs-([a-z]{1,20}) ([1-9][0-9]{0,8})\n")


def seal(kind: str, version: int, payload: Mapping[str, object]) -> bytes:
    """The sealed record of that kind, version and JSON object."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    body = f"revfs-{kind} {version}\n{text}\n".encode("ascii")
    return body + f"blake3 {hash_bytes(body).hex()}\n".encode("ascii")


def unseal(kind: str, version: int, raw: bytes) -> dict[str, object]:
    """The JSON object of a sealed record of that kind and version.

    Raises UnsupportedVersion for another version, whatever else is wrong with the record, since
    only its own version can say; and MalformedObject for all that `seal` would not have written.
    """
    header = _HEADER.match(raw)
    if header is None or header[1] != kind.encode("ascii"):
        raise MalformedObject(f"this is not a revfs {kind} record")
    if int(header[2]) != version:
        found = header[2].decode("ascii")
        raise UnsupportedVersion(f"a {kind} record has the unknown version {found}")
    payload = _load_object(kind, raw[header.end() :])
    if _reseal(kind, version, payload) != raw:
        raise MalformedObject(f"a {kind} record is damaged, or not in its canonical spelling")
    return payload


def is_damaged_version(kind: str, version: int, raw: bytes) -> bool:
    """Whether a record that says it is of another version is one of this one, with a damaged first
    line: its seal holds with the right one."""
    _, _, rest = raw.partition(b"\n")
    try:
        unseal(kind, version, f"revfs-{kind} {version}\n".encode("ascii") + rest)
    except MalformedObject:
        return False
    return True


def check_fields(kind: str, payload: Mapping[str, object], names: Collection[str]) -> None:
    """Raise MalformedObject unless the record has exactly these fields."""
    if payload.keys() != set(names):
        raise MalformedObject(f"a {kind} record does not have the fields it should have")


def text_field(kind: str, payload: Mapping[str, object], name: str) -> str:
    """A field that must be a text; raises MalformedObject if it is not."""
    value = payload.get(name)
    if not isinstance(value, str):
        raise MalformedObject(f"the field {name} of a {kind} record is not a text")
    return value


def texts_field(kind: str, payload: Mapping[str, object], name: str) -> tuple[str, ...]:
    """A field that must be a list of texts; raises MalformedObject if it is not."""
    value = payload.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise MalformedObject(f"the field {name} of a {kind} record is not a list of texts")
    return tuple(value)


def integer_field(kind: str, payload: Mapping[str, object], name: str) -> int:
    """A field that must be a whole number; raises MalformedObject if it is not."""
    value = payload.get(name)
    # A bool is an int to Python, but not to JSON.
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedObject(f"the field {name} of a {kind} record is not a whole number")
    return value


def _load_object(kind: str, rest: bytes) -> dict[str, object]:
    text = rest.split(b"\n", 1)[0]
    try:
        payload = json.loads(text)
    # ValueError: no JSON, no UTF-8, or a number of too many digits. RecursionError: too deep.
    except (ValueError, RecursionError) as error:
        raise MalformedObject(f"a {kind} record holds no readable JSON") from error
    if not isinstance(payload, dict):
        raise MalformedObject(f"a {kind} record holds no JSON object")
    return payload


def _reseal(kind: str, version: int, payload: Mapping[str, object]) -> bytes:
    try:
        return seal(kind, version, payload)
    except (ValueError, RecursionError) as error:
        raise MalformedObject(f"a {kind} record holds a value that JSON does not have") from error
