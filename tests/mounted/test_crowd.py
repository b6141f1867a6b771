"""Some mounts and all commands on one cache, for some seconds; `python -m tests.mounted.crowd` has
more of them, for ten minutes."""

from pathlib import Path

from tests.fakes.s3_servers import S3Server
from tests.mounted.crowd import COMMANDS, MOST_TIMES_FETCHED, run_crowd

SECONDS = 8.0


def test_mounts_and_commands_on_one_cache_fetch_each_byte_once_and_find_no_error(
    rclone_s3: S3Server, tmp_path: Path
) -> None:
    outcome = run_crowd(
        tmp_path, rclone_s3, seconds=SECONDS, mounts=3, commands=len(COMMANDS) - 1, pause=3.0
    )
    assert outcome.troubles == []
    assert outcome.done.keys() >= {"mount", "unmount", "warm", "cat", "pull", "export", "add"}
    assert outcome.fetched.distinct > 5 << 20
    assert outcome.fetched.times <= MOST_TIMES_FETCHED
