"""The quick part of the rounds that `scripts/kill-rounds` does by the thousand."""

import shutil
from pathlib import Path

import pytest

from tests.fakes.s3_servers import S3Server
from tests.kills.commands import COMMANDS, Command
from tests.kills.rounds import Rounds, Tally
from tests.kills.world import World

ROUNDS = 30
SHARES = 2


@pytest.fixture(autouse=True)
def can_mount() -> None:
    """Skip where nothing can be mounted, which is said by `scripts/test`."""
    if shutil.which("fusermount3") is None or not Path("/dev/fuse").exists():
        pytest.skip("/dev/fuse or fusermount3 is not there")


@pytest.mark.parametrize("share", range(SHARES))
def test_whatever_is_killed_no_byte_is_wrong_and_the_next_run_goes_on(
    share: int, tmp_path: Path, rclone_s3: S3Server
) -> None:
    world = World(tmp_path / "world", share, rclone_s3)
    tallies: dict[str, Tally] = {}
    rounds = Rounds(world, tallies)
    # Each command in one of the shares, so that what it takes is learnt but once.
    commands: list[Command] = COMMANDS[share::SHARES]
    try:
        for number in range(ROUNDS // SHARES):
            rounds.run(commands[number % len(commands)])
    finally:
        world.close()
    assert sum(tally.killed for tally in tallies.values()) > ROUNDS // SHARES // 2
