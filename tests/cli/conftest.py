"""What the tests of the verbs start from."""

from pathlib import Path

import pytest

from tests.fakes.repositories import make_repository


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The work tree of a git repository with nothing in it, not even a revfs id."""
    return make_repository(tmp_path / "repository", initialised=False).top
