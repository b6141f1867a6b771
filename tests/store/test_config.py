"""The configuration: its levels, what a committed file may say, remotes, trust, and writing."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from uuid import NAMESPACE_URL

import pytest

from store.config import Config, load_config, require_trust
from store.config_files import (
    COMMITTED_FILE,
    add_trusted_endpoint,
    level_file,
    unset_settings,
    write_settings,
)
from store.config_keys import Level, known_keys, parse_endpoint, parse_seconds, parse_size
from store.errors import ConfigError, UntrustedEndpoint
from store.git_command import RepositoryPaths, find_repository, run_git
from store.remote_url import RemotePlace, parse_remote_url

ID = "7f1f4d1e-9f66-4c1a-8f0a-0d6c7c5f6d10"
ENDPOINT = "https://s3.example.com"


@pytest.fixture
def paths(tmp_path: Path) -> RepositoryPaths:
    top = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", top], check=True)
    return find_repository(top)


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    return {"HOME": str(tmp_path / "someone")}


class Files:
    """The three files, written as text, and the configuration that they make."""

    def __init__(self, paths: RepositoryPaths, environment: Mapping[str, str]) -> None:
        self.paths = paths
        self.environment = environment

    def write(self, level: Level, text: str) -> Path:
        file = level_file(self.paths, self.environment, level)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def load(self, **variables: str) -> Config:
        return load_config(self.paths, {**self.environment, **variables})


@pytest.fixture
def files(paths: RepositoryPaths, environment: Mapping[str, str]) -> Files:
    return Files(paths, environment)


def remote_text(name: str = "origin", **variables: str) -> str:
    lines = "".join(f"\t{key} = {value}\n" for key, value in variables.items())
    return f'[remote "{name}"]\n{lines}'


def test_with_no_file_everything_has_its_default(files: Files) -> None:
    config = files.load()
    home = Path(files.environment["HOME"])
    assert config.entries() == []
    assert config.remote(None) is None
    assert config.cache_directory == home / ".cache" / "revfs"
    assert config.cache_size_bytes is None
    with pytest.raises(ConfigError, match="revfs init"):
        _ = config.repository_id


def test_a_higher_level_overrides_a_lower_one(files: Files) -> None:
    for level in (Level.COMMITTED, Level.USER, Level.LOCAL):
        file = files.write(level, f"[core]\n\tremote = of-{level.value}\n")
        config = files.load()
        assert config.get("core.remote") == f"of-{level.value}"
        assert config.origin("core.remote").endswith(file.name)
    config = files.load(REVFS_REMOTE="of-environment")
    assert config.get("core.remote") == "of-environment"
    assert config.origin("core.remote") == "REVFS_REMOTE"


def test_an_empty_variable_says_nothing(files: Files) -> None:
    files.write(Level.USER, "[mount]\n\ttimeout = 2\n")
    assert files.load(REVFS_TIMEOUT="").timeout_seconds == 2


def test_every_variable_sets_its_key(files: Files, tmp_path: Path) -> None:
    config = files.load(REVFS_CACHE_DIR=str(tmp_path), REVFS_CACHE_SIZE="3KiB", REVFS_TIMEOUT="1.5")
    assert config.cache_directory == tmp_path
    assert config.cache_size_bytes == 3 << 10
    assert config.timeout_seconds == 1.5


def test_base_directories_are_followed_and_relative_ones_ignored(
    files: Files, tmp_path: Path
) -> None:
    assert files.load(XDG_CACHE_HOME=str(tmp_path)).cache_directory == tmp_path / "revfs"
    assert files.load(XDG_CACHE_HOME="cache").cache_directory == files.load().cache_directory


def test_a_tilde_in_the_cache_directory_is_the_home(files: Files) -> None:
    files.write(Level.LOCAL, "[cache]\n\tdirectory = ~/chunks\n")
    assert files.load().cache_directory == Path(files.environment["HOME"]) / "chunks"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[cache]\n\tdirectory = /tmp/theirs\n", "cache.directory"),
        ("[cache]\n\tsize = 1\n", "cache.size"),
        ("[mount]\n\ttimeout = 1\n", "mount.timeout"),
        (f"[trust]\n\tendpoint = {ENDPOINT}\n", "trust.endpoint"),
        (remote_text(profile="theirs"), "remote.origin.profile"),
        (remote_text(proxy="theirs"), "remote.origin.proxy"),
        ("[include]\n\tpath = /etc/hostname\n", "include.path"),
        ('[filter "revfs"]\n\tprocess = theirs\n', "filter.revfs.process"),
    ],
)
def test_a_committed_file_may_not_say_it_and_one_warning_names_it(
    files: Files, caplog: pytest.LogCaptureFixture, section: str, key: str
) -> None:
    files.write(Level.COMMITTED, f"[repository]\n\tid = {ID}\n{section}")
    config = files.load()
    assert config.get(key) is None
    assert config.repository_id == ID
    assert config.trusted_endpoints == frozenset()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert key in record.getMessage()
    assert COMMITTED_FILE in record.getMessage()


def test_an_include_in_ones_own_file_is_not_followed_either(
    files: Files, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("[cache]\n\tsize = 1\n")
    files.write(Level.LOCAL, f"[include]\n\tpath = {other}\n")
    assert files.load().cache_size_bytes is None
    assert "include.path" in caplog.text


def test_many_ignored_keys_are_one_short_warning(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(Level.COMMITTED, "".join(f"[a]\n\tkey{number} = 1\n" for number in range(1000)))
    files.load()
    (record,) = caplog.records
    assert len(record.getMessage()) < 500


def test_a_file_that_git_cannot_parse_is_named(files: Files) -> None:
    for level in (Level.COMMITTED, Level.USER, Level.LOCAL):
        file = files.write(level, "[core\n")
        with pytest.raises(ConfigError, match=file.name):
            files.load()
        file.unlink()


@pytest.mark.parametrize(
    ("level", "text", "key"),
    [
        (Level.COMMITTED, "[repository]\n\tid = 7\n", "repository.id"),
        (Level.COMMITTED, "[repository]\n\tid\n", "repository.id"),
        (Level.COMMITTED, f"[repository]\n\tid = {NAMESPACE_URL}\n", "repository.id"),
        (Level.COMMITTED, "[core]\n\tremote = -x\n", "core.remote"),
        (Level.COMMITTED, remote_text(url="gs://bucket"), "remote.origin.url"),
        (Level.COMMITTED, remote_text(endpoint="file:///etc"), "remote.origin.endpoint"),
        (Level.COMMITTED, remote_text(region="x.example.com/"), "remote.origin.region"),
        (Level.USER, "[cache]\n\tsize = much\n", "cache.size"),
        (Level.LOCAL, "[cache]\n\tdirectory = here\n", "cache.directory"),
        (Level.LOCAL, "[mount]\n\ttimeout = 0\n", "mount.timeout"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_key_and_file(
    files: Files, level: Level, text: str, key: str
) -> None:
    file = files.write(level, text)
    with pytest.raises(ConfigError, match=f"{key} in .*{file.name}"):
        files.load()


def test_a_variable_that_cannot_be_meant_is_named(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"cache\.size in REVFS_CACHE_SIZE"):
        files.load(REVFS_CACHE_SIZE="much")


def test_a_committed_link_is_neither_read_nor_written(files: Files, tmp_path: Path) -> None:
    target = tmp_path / "of-the-user"
    target.write_text("[core]\n\tremote = secret\n")
    before = target.read_bytes()
    level_file(files.paths, files.environment, Level.COMMITTED).symlink_to(target)
    with pytest.raises(ConfigError, match="not a plain file"):
        files.load()
    with pytest.raises(ConfigError, match="not a plain file"):
        write_settings(files.paths, files.environment, Level.COMMITTED, {"repository.id": ID})
    assert target.read_bytes() == before


def test_a_committed_file_of_a_megabyte_is_not_parsed(files: Files) -> None:
    files.write(Level.COMMITTED, "#" * (1 << 20) + "\n")
    with pytest.raises(ConfigError, match="not believable"):
        files.load()


def commit_id(files: Files) -> None:
    write_settings(files.paths, files.environment, Level.COMMITTED, {"repository.id": ID})
    run_git(["commit", "--quiet", "--message", "id"], cwd=files.paths.top)


def test_without_a_file_in_the_work_tree_that_of_head_counts(files: Files) -> None:
    commit_id(files)
    level_file(files.paths, files.environment, Level.COMMITTED).unlink()
    config = files.load()
    assert config.repository_id == ID
    assert config.origin("repository.id") == f"HEAD:{COMMITTED_FILE}"
    # A new file would hide the id that is committed.
    with pytest.raises(ConfigError, match="git restore"):
        write_settings(files.paths, files.environment, Level.COMMITTED, {"core.remote": "x"})


def test_a_bare_repository_reads_head_and_keeps_its_own_file(files: Files, tmp_path: Path) -> None:
    commit_id(files)
    bare = tmp_path / "bare.git"
    run_git(["clone", "--quiet", "--bare", ".", str(bare)], cwd=files.paths.top)
    paths = find_repository(bare)
    write_settings(paths, files.environment, Level.LOCAL, {"remote.disk.url": "data"})
    config = load_config(paths, files.environment)
    assert config.repository_id == ID
    remote = config.remote("disk")
    assert remote is not None
    assert remote.folder == bare / "data"
    with pytest.raises(ConfigError, match="no work tree"):
        write_settings(paths, files.environment, Level.COMMITTED, {"core.remote": "disk"})


def test_one_remote_needs_no_default_and_several_do(files: Files) -> None:
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


def test_an_unknown_remote_is_refused_with_those_that_are_known(files: Files) -> None:
    files.write(Level.COMMITTED, remote_text("one", url="/a") + remote_text("two", url="/b"))
    with pytest.raises(ConfigError, match=r"'tow'.*one, two"):
        files.load().remote("tow")
    with pytest.raises(ConfigError, match=r"'tow' \(core.remote in REVFS_REMOTE\)"):
        files.load(REVFS_REMOTE="tow").remote(None)


def test_settings_of_one_remote_come_from_several_levels(files: Files) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", region="eu-central-1"))
    files.write(Level.USER, remote_text(profile="work"))
    remote = files.load().remote("origin")
    assert remote is not None
    assert (remote.region, remote.profile, remote.prefix) == ("eu-central-1", "work", "")


def trusted(config: Config) -> bool:
    remote = config.remote("origin")
    assert remote is not None
    return remote.endpoint_trusted


def test_a_committed_endpoint_counts_only_once_it_is_trusted(files: Files) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint=ENDPOINT))
    remote = files.load().remote("origin")
    assert remote is not None
    with pytest.raises(UntrustedEndpoint, match=f"{ENDPOINT}.*`revfs remote trust origin`"):
        require_trust(remote)
    add_trusted_endpoint(files.paths, files.environment, f"{ENDPOINT.upper()}/")
    remote = files.load().remote("origin")
    assert remote is not None
    require_trust(remote)


def test_trust_is_in_one_endpoint_and_not_in_its_remote(files: Files) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint=ENDPOINT))
    add_trusted_endpoint(files.paths, files.environment, ENDPOINT)
    assert trusted(files.load())
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint=f"{ENDPOINT}.evil.org"))
    assert not trusted(files.load())


@pytest.mark.parametrize("level", [Level.USER, Level.LOCAL])
def test_ones_own_endpoint_needs_no_trust(files: Files, level: Level) -> None:
    files.write(Level.COMMITTED, remote_text(url="s3://bucket", endpoint="https://other.org"))
    files.write(level, remote_text(endpoint=ENDPOINT))
    assert trusted(files.load())


def test_an_endpoint_is_trusted_once_however_often_it_is_said(files: Files) -> None:
    for endpoint in (ENDPOINT, f"{ENDPOINT}/", "http://localhost:9000"):
        add_trusted_endpoint(files.paths, files.environment, endpoint)
    assert files.load().trusted_endpoints == {ENDPOINT, "http://localhost:9000"}
    file = level_file(files.paths, files.environment, Level.USER)
    assert file.read_text().count(ENDPOINT) == 1


def test_the_users_file_is_for_the_user_alone(files: Files) -> None:
    write_settings(files.paths, files.environment, Level.USER, {"cache.size": "1G"})
    file = level_file(files.paths, files.environment, Level.USER)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_written_is_read_back_and_can_be_dropped(files: Files) -> None:
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


def test_what_is_committed_is_staged_even_where_dot_files_are_ignored(files: Files) -> None:
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
    files: Files, level: Level, key: str, value: str
) -> None:
    good = {"core.remote": "good"}
    with pytest.raises(ConfigError):
        write_settings(files.paths, files.environment, level, {**good, key: value})
    assert not level_file(files.paths, files.environment, level).exists()


def test_a_key_that_does_not_exist_is_answered_with_those_that_do(files: Files) -> None:
    with pytest.raises(ConfigError) as caught:
        write_settings(files.paths, files.environment, Level.LOCAL, {"cache.sise": "1G"})
    assert all(key in str(caught.value) for key in known_keys())


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 1 << 12),
        ("5K", 5 << 10),
        ("5kb", 5 << 10),
        ("5 KiB", 5 << 10),
        ("7MiB", 7 << 20),
        ("50GiB", 50 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes_are_binary_whatever_the_spelling(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "10%", "GiB", "1P", "٣", "1e3", "1" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "0", "-3", "inf", "nan", "soon"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (f"{ENDPOINT}/", ENDPOINT),
        ("HTTP://LocalHost:9000", "http://localhost:9000"),
        ("http://[::1]:9000/s3/", "http://[::1]:9000/s3"),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, endpoint: str) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    ["s3.example.com", "ftp://a", "https://", "https://a:x", "https://a?b", "https://me:key@a"],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", RemotePlace(None, "bucket", "")),
        ("s3://my.bucket-1/a/b c/", RemotePlace(None, "my.bucket-1", "a/b c")),
        ("/data/store", RemotePlace(Path("/data/store"), None, "")),
        ("file:///data/my%20store", RemotePlace(Path("/data/my store"), None, "")),
        ("../store", RemotePlace(Path("/home/me/store"), None, "")),
        ("store", RemotePlace(Path("/home/me/repository/store"), None, "")),
    ],
)
def test_a_url_names_a_bucket_or_a_folder(url: str, place: RemotePlace) -> None:
    assert parse_remote_url(url, Path("/home/me/repository")) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://bu cket/a",
        "s3://bucket/a/../b",
        "s3://bucket/a//b",
        "gs://bucket",
        "https://bucket.s3.amazonaws.com",
        "file://host/data",
        "file:data",
        "host:folder",
        "~/store",
        "a\x1b[31m",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_remote_url(url, Path("/home/me/repository"))
