"""Every parser, a few seconds under the fuzzer. For hours: python -m tests.fuzz --seconds 3600."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz import target
from tests.fuzz.runs import fuzz
from tests.fuzz.target import Limits, Refused
from tests.fuzz.targets import TARGETS

SECONDS = 2
PLANTED_SECONDS = 60
ENGINES = ["plain"] if find_spec("atheris") is None else ["atheris", "plain"]


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_taken_whole_or_refused(name: str, tmp_path: Path) -> None:
    result = fuzz(name, SECONDS, tmp_path)
    assert result.is_good, result.said
    # Most are some thousands a second; S3's libraries take milliseconds for each.
    assert result.executions > 20


@pytest.mark.parametrize("engine", ENGINES)
def test_a_planted_mistake_is_found(engine: str, tmp_path: Path) -> None:
    result = fuzz("planted", PLANTED_SECONDS, tmp_path, plain=engine == "plain")
    assert not result.is_good
    (crash,) = tmp_path.glob("crash-*")
    assert crash.read_bytes()[3:4] == b"k"
    assert "planted" in result.said


def test_seeds_none_of_which_is_taken_are_a_mistake_of_the_target() -> None:
    def refuse(_: bytes) -> None:
        raise Refused

    with pytest.raises(AssertionError, match="no seed"):
        Limits(refuse).warm_up([b"seed"])


def test_an_input_that_takes_too_much_memory_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    limits = Limits(lambda raw: held.append(b"x" * (len(raw) << 20)))
    monkeypatch.setattr(target, "_peak_bytes", lambda: sum(map(len, held)))
    limits.run(b"little")
    with pytest.raises(AssertionError, match="MiB of memory"):
        limits.run(b"x" * 60)


def test_an_input_that_takes_too_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "MOST_SECONDS", 0.01)
    with pytest.raises(AssertionError, match="bytes took"):
        Limits(lambda _: sum(range(3_000_000))).run(b"slow")
