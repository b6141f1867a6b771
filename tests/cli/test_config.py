"""`revfs config` on a real repository."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.console import App, Console
from cli.main import ExitCode, run
from cli.settings import load_settings
from store.config_files import COMMITTED_FILE
from store.errors import ConfigError
from store.git_command import find_repository

ENDPOINTS = ("https://one.example.com", "https://two.example.com")
# As SEMANTICS.md promises.
PROMISED_TIMEOUT_SECONDS = 30
Revfs = Callable[..., int]


@pytest.fixture
def config(top: Path) -> Revfs:
    """Runs `revfs config` in the repository."""
    return lambda *arguments: run(["-C", str(top), "config", *arguments])


@pytest.fixture
def app(top: Path, isolated_home: Path) -> App:
    return App(Console(), top, False, {"HOME": str(isolated_home)})


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_setting_that_is_written_can_be_read(
    config: Revfs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("cache.size", "50GiB") == ExitCode.DONE
    printed(capsys)
    assert config("Cache.Size") == ExitCode.DONE
    assert printed(capsys) == ["50GiB"]


def test_a_setting_that_is_not_there_prints_nothing_and_fails(
    config: Revfs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("cache.size") == ExitCode.FAILED
    assert capsys.readouterr() == ("", "")


def test_the_allow_list_decides_where_a_setting_goes(
    top: Path, config: Revfs, isolated_home: Path
) -> None:
    assert config("remote.origin.url", "/data") == ExitCode.DONE
    assert config("remote.origin.profile", "me") == ExitCode.DONE
    assert config("trust.endpoint", ENDPOINTS[0]) == ExitCode.DONE
    own_file = find_repository(top).state_dir / "config"
    assert "url = /data" in (top / COMMITTED_FILE).read_text()
    assert "profile = me" in own_file.read_text()
    assert ENDPOINTS[0] in (isolated_home / ".config/revfs/config").read_text()


def test_one_level_can_be_written_read_and_cleared(
    config: Revfs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("--user", "cache.size", "1G") == ExitCode.DONE
    assert config("--local", "cache.size", "2G") == ExitCode.DONE
    printed(capsys)
    for arguments, expected in [(("--user",), "1G"), (("--local",), "2G"), ((), "2G")]:
        assert config(*arguments, "cache.size") == ExitCode.DONE
        assert printed(capsys) == [expected]
    assert config("--local", "--unset", "cache.size") == ExitCode.DONE
    printed(capsys)
    assert config("cache.size") == ExitCode.DONE
    assert printed(capsys) == ["1G"]
    assert config("--local", "--unset", "cache.size") == ExitCode.FAILED


def test_trusted_endpoints_are_several(config: Revfs, capsys: pytest.CaptureFixture[str]) -> None:
    for endpoint in ENDPOINTS:
        assert config("trust.endpoint", endpoint) == ExitCode.DONE
    printed(capsys)
    assert config("trust.endpoint") == ExitCode.DONE
    assert tuple(printed(capsys)) == ENDPOINTS
    assert config("--unset", "trust.endpoint") == ExitCode.DONE
    assert config("trust.endpoint") == ExitCode.FAILED


@pytest.mark.parametrize("arguments", [(), ("--list",)])
def test_the_list_tells_where_each_setting_comes_from(
    config: Revfs,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    assert config("remote.origin.url", "/data") == ExitCode.DONE
    monkeypatch.setenv("REVFS_TIMEOUT", "7")
    printed(capsys)
    assert config(*arguments) == ExitCode.DONE
    assert [line.split() for line in printed(capsys)[1:]] == [
        ["mount.timeout", "7", "REVFS_TIMEOUT"],
        ["remote.origin.url", "/data", COMMITTED_FILE],
    ]


def test_the_names_that_dvc_has_for_flags_are_known(
    config: Revfs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("--global", "cache.size", "1G") == ExitCode.DONE
    assert config("--project", "remote.origin.url", "/data") == ExitCode.DONE
    printed(capsys)
    assert config("--user", "cache.size") == ExitCode.DONE
    assert config("--committed", "remote.origin.url") == ExitCode.DONE
    assert printed(capsys) == ["1G", "/data"]
    assert config("-u", "--global", "cache.size") == ExitCode.DONE
    printed(capsys)
    assert config("-l") == ExitCode.DONE
    assert [line.split()[0] for line in printed(capsys)] == ["key", "remote.origin.url"]


def test_the_origin_and_level_of_a_setting_come_before_its_value(
    top: Path,
    config: Revfs,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert config("remote.origin.url", "/data") == ExitCode.DONE
    assert config("--local", "cache.size", "2G") == ExitCode.DONE
    monkeypatch.setenv("REVFS_TIMEOUT", "7")
    printed(capsys)
    own_file = str(find_repository(top).state_dir / "config")
    for key, fields in {
        "remote.origin.url": [COMMITTED_FILE, "committed", "/data"],
        "cache.size": [own_file, "local", "2G"],
        "mount.timeout": ["REVFS_TIMEOUT", "environment", "7"],
    }.items():
        assert config("--show-origin", key) == ExitCode.DONE
        assert printed(capsys) == ["\t".join(fields)]
    assert config("--list", "--show-origin") == ExitCode.DONE
    rows = [line.split() for line in printed(capsys)]
    assert rows[0] == ["from", "level", "key", "value"]
    assert rows[1] == [own_file, "local", "cache.size", "2G"]
    assert config("--show-origin", "core.remote") == ExitCode.FAILED
    assert printed(capsys) == []


def test_settings_can_be_had_as_json(config: Revfs, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("remote.origin.url", "/data") == ExitCode.DONE
    printed(capsys)
    wanted = {
        "key": "remote.origin.url",
        "value": "/data",
        "level": "committed",
        "origin": COMMITTED_FILE,
    }
    for arguments in (("--list",), ("remote.origin.url",), ("--committed",)):
        assert config("--json", *arguments) == ExitCode.DONE
        assert json.loads(capsys.readouterr().out) == [wanted]
    assert config("--json", "core.remote") == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("cache.sise", "1G"), ExitCode.FAILED, "cache.size"),
        (("--unset", "cache.sise"), ExitCode.FAILED, "cache.size"),
        (("cache.size", "lots"), ExitCode.FAILED, "50GiB"),
        (("--user", "repository.id", "x"), ExitCode.FAILED, "cannot stand in"),
        (("--user", "--local", "cache.size"), ExitCode.USAGE, "exclude"),
        (("--unset",), ExitCode.USAGE, "KEY"),
        (("--unset", "cache.size", "1G"), ExitCode.USAGE, "VALUE"),
        (("--list", "cache.size"), ExitCode.USAGE, "--list"),
        (("--committed", "--global", "cache.size"), ExitCode.USAGE, "exclude"),
        (("--committed", "cache.size", "1G"), ExitCode.FAILED, "cannot stand in .revfsconfig"),
        (("--json", "cache.size", "1G"), ExitCode.USAGE, "for reading"),
        (("--show-origin", "--unset", "cache.size"), ExitCode.USAGE, "for reading"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_way_out(
    config: Revfs,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: ExitCode,
    said: str,
) -> None:
    assert config(*arguments) == code
    assert said in capsys.readouterr().err


def test_a_broken_setting_can_be_overwritten(top: Path, config: Revfs) -> None:
    own_file = find_repository(top).state_dir / "config"
    own_file.parent.mkdir()
    own_file.write_text("[cache]\n\tsize = lots\n")
    assert config("cache.size") == ExitCode.FAILED
    assert config("cache.size", "1G") == ExitCode.DONE
    assert config("cache.size") == ExitCode.DONE


def test_without_settings_a_reader_waits_thirty_seconds_at_most(config: Revfs, app: App) -> None:
    assert load_settings(app).timeout_seconds == PROMISED_TIMEOUT_SECONDS
    assert load_settings(app, timeout=0.5).timeout_seconds == 0.5
    assert config("mount.timeout", "4") == ExitCode.DONE
    assert load_settings(app).timeout_seconds == 4


def test_flags_win_over_every_file(config: Revfs, app: App, isolated_home: Path) -> None:
    for key, value in {
        "remote.one.url": "/one",
        "remote.two.url": "/two",
        "core.remote": "one",
        "cache.size": "1K",
        "mount.timeout": "4",
    }.items():
        assert config(key, value) == ExitCode.DONE
    configured = load_settings(app)
    assert configured.remote == configured.config.remote("one")
    assert (configured.cache_size_bytes, configured.timeout_seconds) == (1 << 10, 4.0)
    assert configured.cache_directory == isolated_home / ".cache/revfs"
    flagged = load_settings(app, remote_name="two", cache_size=5, timeout=0.5)
    assert flagged.remote == configured.config.remote("two")
    assert (flagged.cache_size_bytes, flagged.timeout_seconds) == (5, 0.5)
    with pytest.raises(ConfigError, match="three"):
        load_settings(app, remote_name="three")
