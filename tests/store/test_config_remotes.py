"""Remotes in the configuration: which one is meant, and whose endpoint is trusted."""

import pytest

from store.config import Config, require_trust
from store.config_files import add_trusted_endpoint
from store.config_keys import Level
from store.errors import ConfigError, UntrustedEndpoint
from tests.fakes.config_files import ENDPOINT, ConfigFiles, remote_text


def test_one_remote_needs_no_default_and_several_do(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, remote_text("one", url="s3://bucket/a/b/"))
    remote = files.load().remote(None)
    assert remote is not None
    assert (remote.name, remote.bucket, remote.prefix) == ("one", "bucket", "a/b")
    files.write(Level.LOCAL, remote_text("two", url="/data"))
    config = files.load()
    assert config.remote_names() == ["one", "two"]
    with pytest.raises(ConfigError, match=r"one, two.*revfs remote default"):
        config.remote(None)
    assert files.load(REVFS_REMOTE="two").remote(None) == config.remote("two")


def test_an_unknown_remote_is_refused_with_those_that_are_known(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, remote_text("one", url="/a") + remote_text("two", url="/b"))
    with pytest.raises(ConfigError, match=r"'tow'.*one, two"):
        files.load().remote("tow")
    with pytest.raises(ConfigError, match=r"'tow' \(core.remote in REVFS_REMOTE\).*remote add`"):
        files.load(REVFS_REMOTE="tow").remote(None)


def test_a_default_that_was_removed_is_told_with_how_to_choose_another(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, "[core]\n\tremote = gone\n")
    with pytest.raises(ConfigError, match=r"'gone'.*no remotes yet; `revfs remote add` makes one"):
        files.load().remote(None)
    files.write(Level.LOCAL, remote_text("one", url="/a"))
    with pytest.raises(ConfigError, match=r"the remotes are one; `revfs remote default NAME`"):
        files.load().remote(None)


def test_settings_of_one_remote_come_from_several_levels(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", region="eu-central-1"))
    files.write(Level.USER, remote_text(profile="work"))
    remote = files.load().remote("origin")
    assert remote is not None
    assert (remote.region, remote.profile, remote.prefix) == ("eu-central-1", "work", "")


def trusted(config: Config) -> bool:
    remote = config.remote("origin")
    assert remote is not None
    return remote.endpoint_trusted


def test_a_committed_endpoint_counts_only_once_it_is_trusted(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint=ENDPOINT))
    remote = files.load().remote("origin")
    assert remote is not None
    with pytest.raises(UntrustedEndpoint, match=f"{ENDPOINT}.*`revfs remote trust origin`"):
        require_trust(remote)
    add_trusted_endpoint(files.paths, files.environment, f"{ENDPOINT.upper()}/")
    remote = files.load().remote("origin")
    assert remote is not None
    require_trust(remote)


def test_trust_is_in_one_endpoint_and_not_in_its_remote(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint=ENDPOINT))
    add_trusted_endpoint(files.paths, files.environment, ENDPOINT)
    assert trusted(files.load())
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint=f"{ENDPOINT}.evil.org"))
    assert not trusted(files.load())


@pytest.mark.parametrize("level", [Level.USER, Level.LOCAL])
def test_ones_own_endpoint_needs_no_trust(files: ConfigFiles, level: Level) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint="https://other.org"))
    files.write(level, remote_text(endpoint=ENDPOINT))
    assert trusted(files.load())
