"""Push and gc as they are meant lose nothing in any order of their steps; each mistake that they
could make is found, which shows that the search can find one."""

from collections.abc import Callable, Iterator

import pytest

from tests.model.bucket import EVERYTHING, SAFETY, Bucket, Rules, Watch, find_astray, find_loss
from tests.model.explore import Finding, Model, explore
from tests.model.scenes import SCENES, P, Q, R, Scene, full, scene
from tests.model.walks import walk
from tests.model.writers import Step

LOSS: tuple[Watch, ...] = (find_loss,)


class Idle:
    """An actor of two steps that change nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> int | None:
        return 0

    def crash(self, local: int | None) -> int | None:
        return None

    def tick(self, local: int | None) -> int | None:
        return local

    def steps(self, bucket: Bucket, local: int | None) -> Iterator[Step]:
        yield Step(f"{self.name}: step {local}", bucket, 1 if local == 0 else None)


def test_the_search_comes_to_every_pair_of_places_and_knows_no_twin_from_the_other() -> None:
    bucket = scene(Rules()).bucket.without_pack("P")
    first, second = Idle("first"), Idle("second")
    assert explore(Model(Rules(), bucket, (first, second))).states == 3 * 3
    assert explore(Model(Rules(), bucket, (first, first))).states == 3 * 3 - 3


@pytest.mark.parametrize("name", sorted(name for name, scene in SCENES.items() if scene.quick))
def test_nothing_is_lost_in_any_order_of_steps(name: str) -> None:
    found = explore(SCENES[name].model, SCENES[name].watches)
    assert found.wrong is None, f"\n{found}"
    # All of it was looked at, not a first state from which nothing follows.
    assert found.states > 1_000


def is_reached(model: Model, goal: Callable[[Bucket], bool]) -> bool:
    """Whether there is a way to such a bucket."""
    return explore(model, [lambda _, before, after: "yes" if goal(after) else None]).wrong == "yes"


def names(bucket: Bucket) -> set[str]:
    """Manifests, packs and tombs that are there."""
    manifests = {f"{manifest.commit}/{manifest.ulid}" for manifest in bucket.manifests}
    return manifests | bucket.pack_names() | {f"tomb of {name}" for name in bucket.tomb_names()}


def test_a_push_uses_what_is_there_or_puts_and_heals_it_and_the_rest_is_deleted() -> None:
    model = scene(Rules(), pushes=("a",), collectors=1)
    assert is_reached(model, lambda bucket: {"commit1/push1.0", "P"} <= names(bucket))
    assert is_reached(model, lambda bucket: names(bucket) == {"tomb of P"})
    healed = {"commit1/push1.1", "push1.1", "tomb of P"}
    assert is_reached(model, lambda bucket: names(bucket) == healed)


def test_the_tomb_of_a_pack_that_is_gone_is_deleted_in_the_end() -> None:
    model = scene(Rules(clears_tombs=True), collectors=1, runs=3)
    assert is_reached(model, lambda bucket: not names(bucket))


def test_a_repack_comes_to_its_end_and_the_old_pack_is_deleted() -> None:
    model = scene(Rules(), collectors=1, repack=True, needed=(P,))
    end = {"zero/repack.1", "repack.1", "tomb of P"}
    assert is_reached(model, lambda bucket: names(bucket) == end and not bucket.leases)


def test_an_undo_brings_a_commit_back_from_a_condemned_pack() -> None:
    model = undoing(Rules()).model
    end = {"zero/undo.1", "undo.1", "P", "tomb of P"}
    assert is_reached(model, lambda bucket: names(bucket) == end and bool(bucket.trash))


def test_a_repack_may_bring_back_a_commit_that_was_forgotten_meanwhile() -> None:
    """No data is lost by that, but its place is not given back: to be forgotten once more."""
    model = scene(Rules(), forget=True, repack=True, needed=(P,))
    gone = explore(model, [comes_back])
    assert_found(gone, "zero came back", "repack: PUT manifest")


def comes_back(rules: Rules, before: Bucket, after: Bucket) -> str | None:
    """A watch for a commit that has a manifest after it had none."""
    return "zero came back" if after.manifests and not before.manifests else None


def assert_found(found: Finding, wrong: str, last: str) -> None:
    """A trace was found that ends so; it is printed, for whoever runs this with -s."""
    text = str(found)
    print(text)
    assert found.wrong is not None, "the mistake was not found"
    assert wrong in found.wrong
    assert last in found.trace[-1]
    lines = text.splitlines()
    assert lines[0] == f"  1 {found.trace[0]}"
    assert lines[-2] == f"    => {found.wrong}"
    assert len(lines) == len(found.trace) + 2


def test_names_from_contents_lose_a_pack_that_came_back() -> None:
    """What a push puts anew under an old name is deleted for what lay there before."""
    rules = Rules(names_from_contents=True)
    found = explore(scene(rules, pushes=("a",), collectors=1), LOSS)
    assert_found(found, "names chunk a in pack #a", "gc: DELETE")
    assert "push1: PUT pack #a with a" in found.trace


@pytest.mark.parametrize("grace", [0, 1])
def test_a_grace_no_longer_than_a_look_counts_loses_a_pack_that_is_just_used(grace: int) -> None:
    """Leases alone do not help: that of the push runs out before its manifest is there."""
    found = explore(scene(Rules(grace=grace), pushes=("a",), collectors=1), LOSS)
    assert_found(found, "names chunk a in pack P", "gc: DELETE")
    assert "gc: LIST leases: none" in found.trace


def test_lifted_tombs_lose_a_pack_that_a_collector_has_in_hand() -> None:
    """The collector has looked at all manifests when the pack is used again."""
    model = scene(Rules(lifted_tombs=True), pushes=("a",), collectors=1)
    found = explore(model, LOSS)
    assert_found(found, "names chunk a in pack P", "gc: DELETE")
    assert "push1: DELETE tomb of P" in found.trace
    assert_found(explore(model), "the tomb of pack P was lifted", "DELETE tomb")


def test_a_collector_that_marks_once_deletes_what_came_to_be_used() -> None:
    found = explore(scene(Rules(marks_once=True), pushes=("a",), collectors=1), LOSS)
    assert_found(found, "names chunk a in pack P", "gc: DELETE")


def test_an_index_object_that_goes_after_its_pack_leads_astray() -> None:
    found = explore(scene(Rules(index_after_pack=True), pushes=("a",), collectors=1))
    assert_found(found, "an index object leads to pack P, which is missing", "PUT manifest")
    assert "gc: DELETE pack P" in found.trace


def test_a_manifest_that_arrives_long_after_its_look_names_a_missing_chunk() -> None:
    """To look once more after the manifest finds this, but cannot undo it: the chunk may be in no
    other place. That a manifest is late must not happen at all."""
    found = explore(scene(Rules(late_manifests=True), pushes=("a",), collectors=1), LOSS)
    assert_found(found, "names chunk a in pack P", "gc: DELETE")


def test_a_writer_that_outlives_its_lease_leaves_an_index_object_that_leads_astray() -> None:
    """Its pack was deleted before it came to put the index object of it."""
    model = scene(Rules(outlived_leases=True), pushes=("a",), collectors=1, packs=())
    assert_found(explore(model), "leads to pack push1.1, which is missing", "")
    # It is found out in time for its data.
    assert explore(model, SAFETY).wrong is None


def test_two_collectors_at_once_leave_an_index_object_that_leads_astray() -> None:
    """One puts anew what is left of an index object, of which the other deleted that rest."""
    found = explore(two_collectors(Rules()).model)
    assert_found(found, "an index object leads to pack Q, which is missing", "gc: DELETE pack Q")


def test_two_collectors_that_take_turns_do_not() -> None:
    found = explore(two_collectors(Rules(turns=True)).model)
    assert found.wrong is None, f"\n{found}"


def two_collectors(rules: Rules) -> Scene:
    """P was condemned before Q; what commit zero needs of Q's chunks lies in R as well."""
    tombs = (("P", rules.grace), ("Q", rules.grace - 1))
    return Scene(
        scene(rules, collectors=2, runs=1, packs=(P, Q, R), needed=(R,), tombs=tombs), EVERYTHING
    )


def test_a_repack_that_drops_the_old_manifest_first_loses_the_commit() -> None:
    """Whoever stops then leaves a commit without a manifest, and its packs to the collectors."""
    model = scene(Rules(repack_drops_first=True), collectors=1, repack=True, needed=(P,))
    assert_found(explore(model, LOSS), "commit zero lost its manifest", "repack: DELETE manifest")


def test_a_repack_that_looks_once_names_a_pack_that_is_gone() -> None:
    """The commit was forgotten meanwhile, and what the repack goes on using was collected."""
    rules = Rules(repack_looks_once=True)
    packs = (P, Q)
    model = scene(rules, collectors=1, forget=True, repack=True, packs=packs, needed=packs)
    assert_found(explore(model, LOSS), "manifest zero/repack.1 names chunk", "")


def test_a_repack_that_deletes_the_old_pack_itself_loses_what_a_push_uses() -> None:
    model = scene(Rules(repack_deletes=True), pushes=("a",), repack=True, needed=(P,))
    assert_found(explore(model, LOSS), "names chunk a in pack P", "repack: DELETE pack P")


def test_a_pack_condemned_long_ago_goes_as_soon_as_its_last_manifest_is_forgotten() -> None:
    """Where the trash does not hold it, no grace is left for those who would undo that."""
    rules = Rules(forgotten_at_once=True)
    found = explore(undoing(rules).model)
    assert_found(found, "pack P is gone within the grace of zero", "gc: DELETE pack P")


def test_an_undo_that_does_not_look_at_the_packs_brings_back_a_manifest_without_them() -> None:
    model = undoing(Rules(undo_unchecked=True)).model
    assert_found(explore(model, LOSS), "manifest zero/undo.0 names chunk a in pack P", "")


def undoing(rules: Rules) -> Scene:
    """P is condemned for long, but commit zero still needs it."""
    tombs = (("P", rules.grace),)
    model = scene(rules, collectors=1, forget=True, undo=True, needed=(P,), tombs=tombs)
    return Scene(model, EVERYTHING)


def test_the_watches_see_faults_that_were_made_for_them() -> None:
    model = scene(Rules(), needed=(P,))
    good = model.bucket
    for wrong in (good.without_pack("P"), good._replace(indexes=frozenset())):
        assert find_loss(model.rules, good, wrong) is not None
    assert find_astray(model.rules, good, good.without_pack("P")) is not None
    assert [watch(model.rules, good, good) for watch in EVERYTHING] == [None] * len(EVERYTHING)


def test_random_walks_of_all_actors_together_lose_nothing() -> None:
    for seed in range(2_000):
        found = walk(full(Rules()), SAFETY, seed)
        assert found.wrong is None, f"\n{found}"


@pytest.mark.parametrize("mistake", ["names_from_contents", "repack_drops_first"])
def test_random_walks_find_mistakes_too(mistake: str) -> None:
    model = full(Rules(**{mistake: True}))
    assert any(walk(model, LOSS, seed).wrong for seed in range(3_000))
