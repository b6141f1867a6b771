"""Some mounts and all commands on one cache, for some seconds; `python -m tests.mounted.crowd` has
more of them, for ten minutes."""

from pathlib import Path

from tests.fakes.s3_servers import S3Server
from tests.mounted.crowd import COMMANDS, MOST_TIMES_FETCHED, run_crowd

SECONDS = 5.0
# What two may get at the same moment, which counts for much of so little.
SLACK_BYTES = 1 << 20


def test_mounts_and_commands_on_one_cache_fetch_each_byte_once_and_find_no_error(
    rclone_s3: S3Server, tmp_path: Path
) -> None:
    outcome = run_crowd(
        tmp_path, rclone_s3, seconds=SECONDS, mounts=3, commands=len(COMMANDS) - 1, pause=2.5
    )
    assert outcome.troubles == []
    assert outcome.done.keys() >= {"mount", "unmount", "cat"}
    assert outcome.fetched.distinct > 5 << 20
    assert outcome.fetched.total <= MOST_TIMES_FETCHED * outcome.fetched.distinct + SLACK_BYTES
