"""The code keeps what the model promises, call by call; and where a mistake is put into it that the
model knows, the same check finds it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from store import collection, push, push_manifests
from store.collection import CollectionRules
from store.collector_marks import Marks
from store.leases import LeaseSeen
from store.looks import Look, take_look
from tests.model.real_steps import Stage, Template, make_template, staged

pytestmark = pytest.mark.frozen_clock

ACTORS = ("push-left", "push-right", "gc", "gc", "gc", "repack", "undo")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The two clones, made once."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def stage(template: Template, tmp_path: Path) -> Iterator[Stage]:
    with staged(template, tmp_path) as stage:
        yield stage


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    order=st.permutations(ACTORS),
    choices=st.lists(st.integers(0, 299), min_size=100, max_size=250),
)
def test_nothing_is_lost_in_any_order_of_calls(
    template: Template, tmp_path: Path, order: list[str], choices: list[int]
) -> None:
    """Somebody forgets; then the others come in any order, crash anywhere, and time goes by."""
    folder = tmp_path / "stage"
    try:
        with staged(template, folder) as stage:

            async def play() -> None:
                await stage.prepare()
                for name in ("gc-forget", *order):
                    stage.add(name)
                await stage.play(iter(choices))

            trio.run(play, clock=MockClock())
            assert all(task.ended for task in stage.tasks), stage.log
    finally:
        shutil.rmtree(folder)


async def test_all_of_it_goes_well_one_after_another(stage: Stage) -> None:
    await stage.prepare()
    async with stage.open():
        for name in ("gc-forget", "push-left", "undo", "push-right", "repack", "gc"):
            await stage.run(name)
            assert stage.log[-1] == f"{name}: done"
            stage.time.pass_days(1.5)
        stage.time.pass_days(8)
        await stage.run("gc")
    stage.checker.check()


async def use_while_deleting(stage: Stage) -> None:
    """A push comes while a collector is about to delete what it needs."""
    await stage.prepare()
    async with stage.open():
        await stage.run("gc-forget")
        stage.time.pass_days(7.1)
        await stage.run("gc", until="list index/")
        await stage.run("push-left")
        await stage.run("gc")


async def name_while_condemning(stage: Stage) -> None:
    """A push names a pack that a collector has found dead, and crashes before its last look."""
    await stage.prepare()
    async with stage.open():
        await stage.run("gc-forget", until="put tombs/")
        await stage.run("push-left", until="list tombs/")
        await stage.run("push-left", until="put manifests/")
        stage.tasks[-1].gate.crash(after=True)
        await stage.run("gc-forget")
        stage.time.pass_days(7.1)
        await stage.run("gc")


async def condemn_while_pushing(stage: Stage) -> None:
    """A pack is condemned, and that again and again, right before a manifest names it."""
    await stage.prepare()
    async with stage.open():
        await stage.run("push-left", until="put manifests/")
        await stage.run("gc-forget")
        await stage.run("gc")
        await stage.run("push-left")


SCENES = [use_while_deleting, name_while_condemning, condemn_while_pushing]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_close_calls_end_well(stage: Stage, scene: object) -> None:
    await scene(stage)  # type: ignore[operator]
    assert stage.log[-1].endswith(": done"), stage.log


async def blind_look(*arguments: object) -> Look:
    """Sees no tombs, as if each that is in the way were lifted."""
    return replace(await take_look(*arguments), condemned=frozenset())  # type: ignore[arg-type]


def use_the_condemned(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push, "take_look", blind_look)
    patch.setattr(push_manifests, "take_look", blind_look)


async def test_a_push_that_uses_the_condemned_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_the_condemned(monkeypatch)
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="missing"), flatten_subgroups=True
    ):
        await use_while_deleting(stage)


async def test_a_collector_that_marks_once_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(marks: Marks, *rest: object) -> collection.Decisions:
        return decide(replace(marks, manifests={}) if marks.tombs else marks, *rest)

    decide = collection.decide
    monkeypatch.setattr("store.gc.decide", blind)
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="missing"), flatten_subgroups=True
    ):
        await name_while_condemning(stage)


async def test_no_grace_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where leases do not count either, which alone would hold the collector up."""
    monkeypatch.setattr(collection, "LEAST_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(LeaseSeen, "is_live", lambda *_: False)
    for who in stage.actors:
        who.rules = CollectionRules(grace_seconds=0.0, most_share=1.0)
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="missing"), flatten_subgroups=True
    ):
        await condemn_while_pushing(stage)
