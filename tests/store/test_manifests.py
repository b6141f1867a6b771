import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import manifests
from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.ids import GitId, PackName, hash_bytes, is_repository_id
from store.manifests import (
    Manifest,
    encode_manifest,
    manifest_key,
    new_ulid,
    parse_manifest,
    parse_manifest_key,
)
from store.sealed_text import seal, unseal
from tests.store.damage import every_damage, unhurried

REPOSITORY = "6f0f3a52-3f0c-4a3e-9d0a-1c5f0e8b7a21"
COMMIT = GitId("da39a3ee5e6b4b0d3255bfef95601890afd80709")
MANIFEST = Manifest(
    REPOSITORY,
    COMMIT,
    tuple(PackName(hash_bytes(text).hex()[:32]) for text in (b"one", b"two")),
    (hash_bytes(b"an index").hex(),),
    (),
    "revfs 0.1.0",
)
FIELDS = unseal("manifest", 1, encode_manifest(MANIFEST))
ULID = "01M3250V00A24PNE95EJFRMDEX"


def hex_names(digits: int) -> st.SearchStrategy[tuple[str, ...]]:
    names = st.text("0123456789abcdef", min_size=digits, max_size=digits)
    return st.lists(names, unique=True, max_size=5).map(lambda found: tuple(sorted(found)))


plain_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200)


@unhurried
@given(
    st.uuids(version=4).map(str),
    st.text("0123456789abcdef", min_size=40, max_size=40).map(GitId),
    hex_names(32).map(lambda names: tuple(PackName(name) for name in names)),
    hex_names(64),
    plain_texts,
)
def test_what_is_written_is_read_back(
    repository: str,
    commit: GitId,
    packs: tuple[PackName, ...],
    indexes: tuple[str, ...],
    tool: str,
) -> None:
    manifest = Manifest(repository, commit, packs, indexes, (), tool)
    assert parse_manifest(encode_manifest(manifest)) == manifest


def test_every_damage_is_refused() -> None:
    for damaged in every_damage(encode_manifest(MANIFEST)):
        with pytest.raises(MalformedObject):
            parse_manifest(damaged)


@pytest.mark.parametrize(
    "change",
    [
        {"repository": REPOSITORY.upper()},
        {"repository": "../../etc"},
        {"repository": None},
        {"commit": COMMIT[:-1]},
        {"commit": COMMIT.upper()},
        {"commit": 7},
        {"packs": [MANIFEST.packs[1], MANIFEST.packs[0]]},
        {"packs": [MANIFEST.packs[0], MANIFEST.packs[0]]},
        {"packs": ["../" + MANIFEST.packs[0]]},
        {"packs": MANIFEST.packs[0]},
        {"packs": {MANIFEST.packs[0]: 1}},
        {"packs": [1]},
        {"indexes": [MANIFEST.indexes[0][:-1]]},
        {"indexes": [MANIFEST.indexes[0].upper()]},
        {"indexes": None},
        {"features": "none"},
        {"tool": 1},
        {"tool": "x" * 201},
        {"tool": "\x1b[2J"},
        {"tool": "rëvfs"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_well_sealed_manifest_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedObject):
        parse_manifest(seal("manifest", 1, {**FIELDS, **change}))


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_manifest_without_one_of_its_fields_is_refused(name: str) -> None:
    rest = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(MalformedObject):
        parse_manifest(seal("manifest", 1, rest))


def test_an_unknown_feature_is_refused_as_such_with_whatever_fields_it_brings() -> None:
    with pytest.raises(UnsupportedVersion, match="erasure-codes"):
        parse_manifest(seal("manifest", 1, {**FIELDS, "features": ["erasure-codes"], "codes": 3}))


def test_an_unknown_version_is_refused_as_such() -> None:
    with pytest.raises(UnsupportedVersion):
        parse_manifest(seal("manifest", 2, {"nothing": "known"}))


def test_a_manifest_above_the_limit_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(encode_manifest(MANIFEST))
    monkeypatch.setattr(manifests, "MAX_MANIFEST_BYTES", size - 1)
    with pytest.raises(StoreError, match="too large"):
        encode_manifest(MANIFEST)


@unhurried
@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_ulids_sort_by_time(earlier: int, later: int) -> None:
    if earlier < later:
        assert new_ulid(earlier) < new_ulid(later)


@unhurried
@given(st.integers(0, 2**48 - 1))
def test_a_ulid_tells_its_time(milliseconds: int) -> None:
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = 0
    for digit in new_ulid(milliseconds):
        number = number * 32 + digits.index(digit)
    assert number >> 80 == milliseconds


def test_two_ulids_of_one_moment_differ() -> None:
    count = 100
    assert len({new_ulid(0) for _ in range(count)}) == count


def test_a_manifest_key_is_read_back() -> None:
    key = manifest_key(REPOSITORY, COMMIT, ULID)
    assert key == f"manifests/{REPOSITORY}/{COMMIT}/{ULID}"
    assert parse_manifest_key(key) == (REPOSITORY, COMMIT, ULID)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "format",
        "manifests/",
        f"manifests/{REPOSITORY}/{COMMIT}",
        f"manifests/{REPOSITORY}/{COMMIT}/",
        f"manifests/{REPOSITORY}/{COMMIT}/{ULID}/",
        f"manifests/{REPOSITORY}/{COMMIT}/{ULID}/x",
        f"manifests/{REPOSITORY}/{COMMIT}/{ULID}\n",
        f"manifests/{REPOSITORY}/{COMMIT}/{ULID.lower()}",
        f"manifests/{REPOSITORY}/{COMMIT}/8{ULID[1:]}",
        f"manifests/{REPOSITORY}/{COMMIT}/{ULID[:-1]}U",
        f"manifests/{REPOSITORY}/{COMMIT}/{ULID}0",
        f"manifests/{REPOSITORY}/{COMMIT[:-1]}/{ULID}",
        f"manifests/{REPOSITORY}/{COMMIT.upper()}/{ULID}",
        f"manifests/{REPOSITORY.upper()}/{COMMIT}/{ULID}",
        f"manifests//{COMMIT}/{ULID}",
        f"trash/{REPOSITORY}/{COMMIT}/{ULID}",
        f"{REPOSITORY}/{COMMIT}/{ULID}",
        f"manifests/.tmp-{REPOSITORY}/{COMMIT}/{ULID}",
    ],
)
def test_a_strangers_object_is_no_manifest(key: str) -> None:
    assert parse_manifest_key(key) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "910e918e-e71f-11f1-85f8-02fc00000001",
        str(uuid.UUID(int=0)),
        REPOSITORY.replace("-", ""),
        "{" + REPOSITORY + "}",
        REPOSITORY + "\n",
        REPOSITORY.upper(),
    ],
)
def test_only_a_random_uuid_in_lower_case_is_a_repository_id(text: str) -> None:
    assert is_repository_id(REPOSITORY)
    assert is_repository_id(str(uuid.uuid4()))
    assert not is_repository_id(text)
