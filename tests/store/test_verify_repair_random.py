"""A hundred random damages to a bucket: each is found, and healed from what the machine that pushed
has still; then every byte reads right in a clone with an empty cache."""

import random
from pathlib import Path

import pytest

from store.errors import StoreError
from store.local_store import LocalStore
from store.verification import Verification
from tests.fakes.bucket_damage import Damage, random_damage
from tests.fakes.buckets import to
from tests.fakes.repositories import Repository, read_file
from tests.fakes.verifying import (
    FIRST,
    SECOND,
    TwoVersions,
    named,
    publish_two_versions,
    repair,
    verify,
)

pytestmark = [pytest.mark.usefixtures("in_no_hurry_for_git"), pytest.mark.expects_warnings]

ROUNDS = 50
VERSIONS = {"v1": FIRST, "v2": SECOND}


@pytest.fixture
def two(repository: Repository, tmp_path: Path) -> TwoVersions:
    return publish_two_versions(repository, tmp_path)


async def unreadable(local: LocalStore, two: TwoVersions) -> set[bytes]:
    """The paths that cannot be read in every version, whatever the reason; wrong bytes fail."""
    failed: set[bytes] = set()
    for tag, contents in VERSIONS.items():
        for path, content in contents.items():
            try:
                assert await read_file(local, to(two.bucket), path, tag) == content
            except* StoreError:
                failed.add(path)
    return failed


def is_named(damage: Damage, found: Verification) -> bool:
    """Whether a finding is on an object that was damaged, or on where its manifests should be."""
    places = [finding.place for finding in found.findings.all()]
    return all(any(key.startswith(place) for place in places) for key in damage.keys)


@pytest.mark.parametrize("start", range(0, 100, ROUNDS))
async def test_every_random_damage_is_found_and_healed(
    two: TwoVersions, tmp_path: Path, start: int
) -> None:
    pristine = dict(two.bucket.objects)
    for seed in range(start, start + ROUNDS):
        contents = {key: raw for key, (raw, _) in pristine.items()}
        damage = random_damage(contents, random.Random(seed))
        two.bucket.objects = dict(pristine)
        for key, raw in damage.objects.items():
            del two.bucket.objects[key]
            if raw is not None:
                two.bucket.objects[key] = raw, 0.0
        with two.another_machine(tmp_path / f"{seed}-finds") as local:
            found = await verify(local, to(two.bucket), read=True)
            assert is_named(damage, found), (seed, damage.verb, damage.keys)
            hurt = set().union(*named(local, found).values())
            assert await unreadable(local, two) <= hurt, (seed, damage.verb, damage.keys)
        with two.pushing_machine(tmp_path / f"{seed}-heals") as local:
            assert not (await repair(local, to(two.bucket))).lost
        with two.another_machine(tmp_path / f"{seed}-reads") as local:
            found = await verify(local, to(two.bucket), read=True, every=True)
            assert named(local, found) == {}, (seed, damage.verb, damage.keys)
            assert await unreadable(local, two) == set(), (seed, damage.verb, damage.keys)
