import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunking import DEFAULT_CHUNKING, ChunkingParameters
from store.errors import MalformedObject, UnsupportedVersion
from store.remote_format import (
    MAX_FORMAT_BYTES,
    RemoteFormat,
    encode_remote_format,
    parse_remote_format,
)
from store.sealed_text import seal, unseal
from tests.store.damage import every_damage, unhurried

STORE = "6f0f3a52-3f0c-4a3e-9d0a-1c5f0e8b7a21"
FORMAT = RemoteFormat(STORE, DEFAULT_CHUNKING)
FIELDS = unseal("format", 1, encode_remote_format(FORMAT))


@unhurried
@given(
    st.uuids(version=4).map(str),
    st.integers(64, 256),
    st.integers(256, 1024),
    st.integers(1024, 1 << 22),
)
def test_what_is_written_is_read_back(store: str, least: int, mean: int, most: int) -> None:
    remote_format = RemoteFormat(store, ChunkingParameters(least, mean, most))
    raw = encode_remote_format(remote_format)
    assert len(raw) <= MAX_FORMAT_BYTES
    assert parse_remote_format(raw) == remote_format


def test_every_damage_is_refused() -> None:
    for damaged in every_damage(encode_remote_format(FORMAT)):
        with pytest.raises(MalformedObject):
            parse_remote_format(damaged)


@pytest.mark.parametrize(
    "change",
    [
        {"store": STORE.upper()},
        {"store": ""},
        {"store": None},
        {"least_bytes": 0},
        {"least_bytes": "262144"},
        {"mean_bytes": 1048576.0},
        {"mean_bytes": True},
        {"most_bytes": 8 << 20},
        {"most_bytes": 10**30},
        {"more": 1},
    ],
    ids=str,
)
def test_a_well_sealed_format_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedObject):
        parse_remote_format(seal("format", 1, {**FIELDS, **change}))


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_format_without_one_of_its_fields_is_refused(name: str) -> None:
    rest = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(MalformedObject):
        parse_remote_format(seal("format", 1, rest))


def test_a_remote_of_a_later_version_is_refused_as_such() -> None:
    with pytest.raises(UnsupportedVersion, match="unknown version 2"):
        parse_remote_format(seal("format", 2, {"whatever": "it says"}))
