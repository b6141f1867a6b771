"""The quick part of the rounds that `python -m tests.kills.damage` does by the hundred."""

from collections import Counter
from pathlib import Path

from tests.fakes.s3_servers import S3Server
from tests.kills.damage import begin, run_round

ROUNDS = 5


def test_whatever_is_damaged_between_two_runs_no_byte_is_wrong(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    world = begin(tmp_path / "world", 5, rclone_s3)
    crashes: Counter[str] = Counter()
    for _ in range(ROUNDS):
        run_round(world, crashes)
