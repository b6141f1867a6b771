"""After random work with git what nothing needs goes, and all else is still there."""

from pathlib import Path

import pytest

from tests.store.git_walks import run_walk


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_what_git_can_come_back_to_is_never_lost(tmp_path: Path, seed: int) -> None:
    dropped, left = run_walk(tmp_path, seed, steps=30)
    assert min(dropped, left) > 0
