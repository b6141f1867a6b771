"""A remote in trouble, and two hundred readers that are stuck: an errno in time for each of them,
and for all others nothing has happened. `python -m tests.mounted.outage` gives figures.
"""

from collections.abc import Iterator

import pytest

from tests.fakes.tcp_proxy import Link
from tests.mounted.outage import FAULTS, HEALED_SECONDS, Scene, open_scene, run_fault, share

TIMEOUT = 2.0
# Less than another deadline on top, and what a busy machine needs to start so many readers.
SLACK_SECONDS = 5.0
READERS = 200
DEADLY = [name for name, fault in FAULTS.items() if fault.is_deadly and name != "gone"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_scene(tmp_path_factory.mktemp("outage"), (READERS + 1) * (len(DEADLY) + 1)) as scene:
        yield scene


@pytest.mark.parametrize("name", DEADLY)
def test_stuck_readers_have_their_errno_in_time_and_nobody_else_is_held_up(
    scene: Scene, name: str
) -> None:
    first = (READERS + 1) * DEADLY.index(name)
    seen, healed = run_fault(scene, FAULTS[name], timeout=TIMEOUT, readers=READERS, first=first)
    (one,) = seen
    # Some files may have come along with those of the test before.
    assert one.errnos.keys() <= {"EIO", "bytes"}
    assert one.errnos["EIO"] > READERS / 2
    assert one.last_seconds < TIMEOUT + SLACK_SECONDS
    # Of half of them: what takes longer on a busy machine is in the figures of the long run.
    assert share(one.stats, 0.5) < 0.1
    assert share(one.reads, 0.5) < 0.1
    assert healed < HEALED_SECONDS


def test_a_server_that_refuses_every_third_request_costs_tries_and_no_errors(scene: Scene) -> None:
    first = (READERS + 1) * len(DEADLY)
    seen, _ = run_fault(scene, FAULTS["busy"], timeout=20, readers=READERS, first=first)
    assert [one.errnos for one in seen] == [{"bytes": READERS}]


def test_over_a_link_that_cuts_every_answer_a_file_of_long_chunks_comes_whole(scene: Scene) -> None:
    with scene.clone.mounted("many") as mount:
        scene.proxy.set_link(Link(cut_after_bytes=700_000))
        try:
            read = (mount.path / "data/large").read_bytes()
        finally:
            scene.end()
        assert read == (scene.top / "data/large").read_bytes()
        assert "ERROR" not in mount.log
