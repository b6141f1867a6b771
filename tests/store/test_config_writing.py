"""Writing settings: where they go, what is refused, and that it is read back."""

import pytest

from store.config_files import (
    COMMITTED_FILE,
    add_trusted_endpoint,
    level_file,
    unset_settings,
    write_settings,
)
from store.config_keys import Level, known_keys
from store.errors import ConfigError
from store.git_command import run_git
from tests.fakes.config_files import ENDPOINT, ID, ConfigFiles


def test_an_endpoint_is_trusted_once_however_often_it_is_said(files: ConfigFiles) -> None:
    for endpoint in (ENDPOINT, f"{ENDPOINT}/", "http://localhost:9000"):
        add_trusted_endpoint(files.paths, files.environment, endpoint)
    assert files.load().trusted_endpoints == {ENDPOINT, "http://localhost:9000"}
    file = level_file(files.paths, files.environment, Level.USER)
    assert file.read_text().count(ENDPOINT) == 1


def test_the_users_file_is_for_the_user_alone(files: ConfigFiles) -> None:
    write_settings(files.paths, files.environment, Level.USER, {"cache.size": "1G"})
    file = level_file(files.paths, files.environment, Level.USER)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_written_is_read_back_and_can_be_dropped(files: ConfigFiles) -> None:
    values = {"Remote.a.b.URL": "-odd/folder", "core.remote": "a.b"}
    write_settings(files.paths, files.environment, Level.LOCAL, values)
    config = files.load()
    remote = config.remote(None)
    assert remote is not None
    assert remote.folder == files.paths.top / "-odd/folder"
    keys = [setting.key for setting in config.entries()]
    assert (
        unset_settings(files.paths, files.environment, Level.LOCAL, [*keys, "cache.size"]) == keys
    )
    assert files.load().entries() == []


def test_what_is_committed_is_staged_even_where_dot_files_are_ignored(files: ConfigFiles) -> None:
    (files.paths.top / ".gitignore").write_text(".*\n")
    write_settings(files.paths, files.environment, Level.COMMITTED, {"repository.id": ID})
    assert run_git(["ls-files"], cwd=files.paths.top).decode().split() == [COMMITTED_FILE]


@pytest.mark.parametrize(
    ("level", "key", "value"),
    [
        (Level.COMMITTED, "cache.size", "1G"),
        (Level.COMMITTED, "remote.a.profile", "work"),
        (Level.LOCAL, "trust.endpoint", ENDPOINT),
        (Level.USER, "repository.id", ID),
        (Level.LOCAL, "remote.a.proxy", "x"),
        (Level.LOCAL, "remote.-a.url", "/data"),
        (Level.LOCAL, "remote.a/b.url", "/data"),
        (Level.LOCAL, "core.editor", "vi"),
        (Level.LOCAL, "nodot", "x"),
        (Level.LOCAL, "remote.a.profile", ""),
        (Level.LOCAL, "remote.a.url", "/data\n[core]"),
    ],
)
def test_nothing_is_written_of_a_set_with_one_bad_setting(
    files: ConfigFiles, level: Level, key: str, value: str
) -> None:
    good = {"core.remote": "good"}
    with pytest.raises(ConfigError):
        write_settings(files.paths, files.environment, level, {**good, key: value})
    assert not level_file(files.paths, files.environment, level).exists()


def test_a_key_that_does_not_exist_is_answered_with_those_that_do(files: ConfigFiles) -> None:
    with pytest.raises(ConfigError) as caught:
        write_settings(files.paths, files.environment, Level.LOCAL, {"cache.sise": "1G"})
    assert all(key in str(caught.value) for key in known_keys())
