"""`revfs remote` on a real repository."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import ExitCode, run
from store.config import Config, RemoteSettings, load_config
from store.config_files import COMMITTED_FILE
from store.git_command import find_repository, run_git

ENDPOINT = "https://s3.example.com"
Revfs = Callable[..., int]


@pytest.fixture
def remote(top: Path) -> Revfs:
    """Runs `revfs remote` in the repository."""
    return lambda *arguments: run(["-C", str(top), "remote", *arguments])


def load(top: Path, home: Path) -> Config:
    return load_config(find_repository(top), {"HOME": str(home)})


def origin_of(config: Config) -> RemoteSettings:
    settings = config.remote("origin")
    assert settings is not None
    return settings


def test_a_remote_is_added_to_the_committed_file_and_staged(
    top: Path, remote: Revfs, isolated_home: Path
) -> None:
    assert remote("add", "origin", "s3://bucket/a", "--region", "eu-central-1") == ExitCode.DONE
    config = load(top, isolated_home)
    assert config.origin("remote.origin.url") == COMMITTED_FILE
    assert origin_of(config).region == "eu-central-1"
    assert config.get("core.remote") is None
    assert run_git(["ls-files"], cwd=top).decode() == f"{COMMITTED_FILE}\n"


def test_a_local_remote_leaves_the_work_tree_alone(
    top: Path, remote: Revfs, isolated_home: Path
) -> None:
    assert remote("add", "--local", "-d", "origin", "/data", "--profile", "me") == ExitCode.DONE
    config = load(top, isolated_home)
    assert config.default_remote_name() == "origin"
    assert origin_of(config).profile == "me"
    assert run_git(["status", "--porcelain"], cwd=top) == b""


def test_a_relative_folder_is_kept_as_typed_and_taken_from_the_top(
    top: Path, remote: Revfs, isolated_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (top / "below").mkdir()
    arguments = ["remote", "add", "origin", "../store"]
    assert run(["-C", str(top / "below"), *arguments]) == ExitCode.DONE
    assert str(top.parent / "store") in capsys.readouterr().out
    settings = origin_of(load(top, isolated_home))
    assert settings.url == "../store"
    assert settings.folder == top.parent / "store"


def test_a_name_that_is_taken_is_refused(remote: Revfs, capsys: pytest.CaptureFixture[str]) -> None:
    assert remote("add", "--local", "origin", "/data") == ExitCode.DONE
    assert remote("add", "origin", "/other") == ExitCode.FAILED
    assert "revfs remote modify" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-d", "o", "gs://bucket"), "use s3://bucket/prefix"),
        (("-d", "a/b", "/data"), "'a/b' cannot name a remote"),
        (("o", "/data", "--endpoint", "ftp://a"), "write it like https://"),
    ],
)
def test_a_remote_that_cannot_be_is_explained_and_not_half_written(
    top: Path,
    remote: Revfs,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert remote("add", *arguments) == ExitCode.FAILED
    assert said in capsys.readouterr().err
    assert not (top / COMMITTED_FILE).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "other", "s3://bucket", "--profile", "me"),
        ("modify", "origin", "--profile", "me"),
        ("modify", "origin", "profile", "me"),
    ],
)
def test_a_profile_for_everybody_is_a_usage_error_that_says_why(
    top: Path, remote: Revfs, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert remote("add", "origin", "/data") == ExitCode.DONE
    before = (top / COMMITTED_FILE).read_bytes()
    assert remote(*arguments) == ExitCode.USAGE
    assert "set it with --local" in " ".join(capsys.readouterr().err.split())
    assert (top / COMMITTED_FILE).read_bytes() == before


def test_whoever_sets_an_endpoint_trusts_it_and_a_clone_elsewhere_does_not(
    top: Path, remote: Revfs, isolated_home: Path, tmp_path: Path
) -> None:
    assert remote("add", "origin", "s3://bucket", "--endpoint", ENDPOINT) == ExitCode.DONE
    assert origin_of(load(top, isolated_home)).endpoint_trusted
    assert not origin_of(load(top, tmp_path / "another-home")).endpoint_trusted
    other = "http://localhost:9000"
    assert remote("modify", "origin", "--endpoint", other) == ExitCode.DONE
    assert load(top, isolated_home).trusted_endpoints == {ENDPOINT, other}


def test_trust_is_given_once(
    top: Path, remote: Revfs, isolated_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (top / COMMITTED_FILE).write_text(
        f'[remote "origin"]\n\turl = s3://bucket\n\tendpoint = {ENDPOINT}\n'
    )
    assert remote("list") == ExitCode.DONE
    assert f"{ENDPOINT} (not trusted)" in capsys.readouterr().out
    assert remote("trust", "origin") == ExitCode.DONE
    assert ENDPOINT in capsys.readouterr().out
    assert origin_of(load(top, isolated_home)).endpoint_trusted
    assert remote("trust", "origin") == ExitCode.DONE
    assert "nothing to do" in capsys.readouterr().out


def test_settings_are_changed_by_options_or_by_key_and_value(
    top: Path, remote: Revfs, isolated_home: Path
) -> None:
    assert remote("add", "origin", "s3://bucket") == ExitCode.DONE
    assert remote("modify", "origin", "--url", "s3://b2", "--region", "a-1") == ExitCode.DONE
    assert remote("modify", "--local", "origin", "profile", "me") == ExitCode.DONE
    settings = origin_of(load(top, isolated_home))
    assert (settings.bucket, settings.region, settings.profile) == ("b2", "a-1", "me")
    assert remote("modify", "origin", "--unset", "region") == ExitCode.DONE
    assert remote("modify", "origin", "--local", "--unset", "profile") == ExitCode.DONE
    settings = origin_of(load(top, isolated_home))
    assert (settings.bucket, settings.region, settings.profile) == ("b2", None, None)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("modify", "origin"), ExitCode.USAGE),
        (("modify", "origin", "region"), ExitCode.USAGE),
        (("modify", "origin", "url", "--region", "a-1"), ExitCode.USAGE),
        (("modify", "origin", "proxy", "x"), ExitCode.USAGE),
        (("modify", "origin", "--unset", "region"), ExitCode.FAILED),
        (("modify", "other", "--region", "a-1"), ExitCode.FAILED),
        (("remove", "other"), ExitCode.FAILED),
        (("remove", "--local", "origin"), ExitCode.FAILED),
        (("default", "other"), ExitCode.FAILED),
        (("trust", "other"), ExitCode.FAILED),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    top: Path, remote: Revfs, arguments: tuple[str, ...], code: ExitCode
) -> None:
    assert remote("add", "origin", "s3://bucket") == ExitCode.DONE
    before = (top / COMMITTED_FILE).read_bytes()
    assert remote(*arguments) == code
    assert (top / COMMITTED_FILE).read_bytes() == before


def test_removing_the_default_remote_drops_the_default_too(
    top: Path, remote: Revfs, isolated_home: Path
) -> None:
    assert remote("add", "-d", "origin", "s3://bucket", "--region", "a-1") == ExitCode.DONE
    assert remote("add", "other", "/data") == ExitCode.DONE
    assert remote("remove", "origin") == ExitCode.DONE
    config = load(top, isolated_home)
    assert [entry.key for entry in config.entries()] == ["remote.other.url"]


def test_removing_another_remote_keeps_the_default(
    top: Path, remote: Revfs, isolated_home: Path
) -> None:
    assert remote("add", "-d", "origin", "s3://bucket") == ExitCode.DONE
    assert remote("add", "other", "/data") == ExitCode.DONE
    assert remote("remove", "other") == ExitCode.DONE
    assert load(top, isolated_home).get("core.remote") == "origin"


def test_the_default_can_be_changed_for_one_clone(
    top: Path, remote: Revfs, isolated_home: Path
) -> None:
    assert remote("add", "-d", "origin", "s3://bucket") == ExitCode.DONE
    assert remote("add", "other", "/data") == ExitCode.DONE
    assert remote("default", "--local", "other") == ExitCode.DONE
    assert load(top, isolated_home).default_remote_name() == "other"
    committed = (top / COMMITTED_FILE).read_text()
    assert "remote = origin" in committed


def test_the_list_shows_every_remote_for_people_and_for_programs(
    remote: Revfs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remote("list") == ExitCode.DONE
    assert "no remotes yet" in capsys.readouterr().out
    assert remote("add", "-d", "origin", "s3://bucket", "--region", "a-1") == ExitCode.DONE
    assert remote("add", "--local", "disk", "/data") == ExitCode.DONE
    capsys.readouterr()
    assert remote("list") == ExitCode.DONE
    _, disk, origin = capsys.readouterr().out.splitlines()
    assert disk.split()[:2] == ["disk", "/data"]
    assert "default, region a-1" in origin
    assert remote("list", "--json") == ExitCode.DONE
    listed = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["default"]) for entry in listed] == [
        ("disk", False),
        ("origin", True),
    ]
