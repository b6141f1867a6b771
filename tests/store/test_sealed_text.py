import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import MalformedObject, UnsupportedVersion
from store.ids import hash_bytes
from store.sealed_text import (
    check_fields,
    integer_field,
    seal,
    text_field,
    texts_field,
    unseal,
)
from tests.store.damage import every_damage, unhurried

PAYLOAD: dict[str, object] = {"b": [1, "zwei"], "a": "ä"}
RAW = seal("thing", 1, PAYLOAD)

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def sealed(body: bytes) -> bytes:
    """Any bytes under a seal that is right for them."""
    return body + f"blake3 {hash_bytes(body).hex()}\n".encode()


def test_a_record_is_spelled_as_documented() -> None:
    body = b'revfs-thing 1\n{"a":"\\u00e4","b":[1,"zwei"]}\n'
    assert sealed(body) == RAW


@unhurried
@given(st.dictionaries(st.text(), values))
def test_what_is_sealed_is_unsealed(payload: dict[str, object]) -> None:
    assert unseal("thing", 7, seal("thing", 7, payload)) == payload


def test_every_damage_is_refused() -> None:
    for damaged in every_damage(RAW):
        with pytest.raises(MalformedObject):
            unseal("thing", 1, damaged)


@unhurried
@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused_under_a_right_header_and_seal_too(raw: bytes) -> None:
    for candidate in (raw, b"revfs-thing 1\n" + raw, sealed(b"revfs-thing 1\n" + raw + b"\n")):
        with pytest.raises(MalformedObject):
            unseal("thing", 1, candidate)


@pytest.mark.parametrize("rest", [b"", b"{}", b"\xff\x00 not even text", RAW])
def test_an_unknown_version_is_refused_as_such_whatever_follows(rest: bytes) -> None:
    with pytest.raises(UnsupportedVersion, match="unknown version 2"):
        unseal("thing", 1, b"revfs-thing 2\n" + rest)


@pytest.mark.parametrize(
    "header", [b"revfs-other 2", b"revfs-thing 02", b"revfs-thing +2", b"revfs-thing", b"thing 2"]
)
def test_another_kind_or_an_odd_header_is_refused(header: bytes) -> None:
    with pytest.raises(MalformedObject, match="not a revfs thing record") as caught:
        unseal("thing", 1, sealed(header + b"\n{}\n"))
    assert not isinstance(caught.value, UnsupportedVersion)


@pytest.mark.parametrize(
    "text",
    [
        b'{"b":1,"a":2}',
        b'{"a":1, "b":2}',
        b'{"a":1,"a":1}',
        '{"a":"ä"}'.encode(),
        b'{"a":"\\u00E4"}',
        b'{"a":1.50}',
        b'{"a":NaN}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b"null",
        b"",
        b"{}\n{}",
        b"{",
    ],
    ids=lambda text: text[:20].decode(),
)
def test_other_json_is_refused_under_a_right_seal(text: bytes) -> None:
    with pytest.raises(MalformedObject):
        unseal("thing", 1, sealed(b"revfs-thing 1\n" + text + b"\n"))


def test_what_json_does_not_have_is_not_sealed() -> None:
    with pytest.raises(ValueError):
        seal("thing", 1, {"a": float("nan")})


def test_fields_are_of_their_type_or_refused() -> None:
    record = json.loads('{"text":"x","texts":["x","y"],"number":3,"truth":true,"mixed":["x",1]}')
    assert text_field("thing", record, "text") == "x"
    assert texts_field("thing", record, "texts") == ("x", "y")
    assert integer_field("thing", record, "number") == 3
    for name in ("texts", "number", "truth", "absent"):
        with pytest.raises(MalformedObject, match=f"field {name} of a thing record"):
            text_field("thing", record, name)
    for name in ("text", "number", "mixed", "absent"):
        with pytest.raises(MalformedObject, match=f"field {name} of a thing record"):
            texts_field("thing", record, name)
    for name in ("text", "texts", "truth", "absent"):
        with pytest.raises(MalformedObject, match=f"field {name} of a thing record"):
            integer_field("thing", record, name)


def test_a_record_has_all_of_its_fields_and_no_other() -> None:
    check_fields("thing", PAYLOAD, ("a", "b"))
    for names in [("a",), ("a", "b", "c"), ()]:
        with pytest.raises(MalformedObject, match="fields"):
            check_fields("thing", PAYLOAD, names)
