"""The configuration: its levels and their order, and what a committed file may say."""

from pathlib import Path
from uuid import NAMESPACE_URL

import pytest

from store.config import load_config
from store.config_files import COMMITTED_FILE, level_file, write_settings
from store.config_keys import Level
from store.errors import ConfigError
from store.git_command import find_repository, run_git
from tests.fakes.config_files import ENDPOINT, ID, ConfigFiles, remote_text


def test_with_no_file_everything_has_its_default(files: ConfigFiles) -> None:
    config = files.load()
    home = Path(files.environment["HOME"])
    assert config.entries() == []
    assert config.remote(None) is None
    assert config.cache_directory == home / ".cache" / "revfs"
    assert config.cache_size_bytes is None
    with pytest.raises(ConfigError, match="revfs init"):
        _ = config.repository_id


def test_a_higher_level_overrides_a_lower_one(files: ConfigFiles) -> None:
    for level in (Level.COMMITTED, Level.USER, Level.LOCAL):
        file = files.write(level, f"[core]\n\tremote = of-{level.value}\n")
        config = files.load()
        assert config.get("core.remote") == f"of-{level.value}"
        assert config.origin("core.remote").endswith(file.name)
    config = files.load(REVFS_REMOTE="of-environment")
    assert config.get("core.remote") == "of-environment"
    assert config.origin("core.remote") == "REVFS_REMOTE"


def test_an_empty_variable_says_nothing(files: ConfigFiles) -> None:
    files.write(Level.USER, "[mount]\n\ttimeout = 2\n")
    assert files.load(REVFS_TIMEOUT="").timeout_seconds == 2


def test_every_variable_sets_its_key(files: ConfigFiles, tmp_path: Path) -> None:
    config = files.load(REVFS_CACHE_DIR=str(tmp_path), REVFS_CACHE_SIZE="3KiB", REVFS_TIMEOUT="1.5")
    assert config.cache_directory == tmp_path
    assert config.cache_size_bytes == 3 << 10
    assert config.timeout_seconds == 1.5


def test_base_directories_are_followed_and_relative_ones_ignored(
    files: ConfigFiles, tmp_path: Path
) -> None:
    assert files.load(XDG_CACHE_HOME=str(tmp_path)).cache_directory == tmp_path / "revfs"
    assert files.load(XDG_CACHE_HOME="cache").cache_directory == files.load().cache_directory


def test_a_tilde_in_the_cache_directory_is_the_home(files: ConfigFiles) -> None:
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
    files: ConfigFiles, caplog: pytest.LogCaptureFixture, section: str, key: str
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
    files: ConfigFiles, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("[cache]\n\tsize = 1\n")
    files.write(Level.LOCAL, f"[include]\n\tpath = {other}\n")
    assert files.load().cache_size_bytes is None
    assert "include.path" in caplog.text


def test_many_ignored_keys_are_one_short_warning(
    files: ConfigFiles, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(Level.COMMITTED, "".join(f"[a]\n\tkey{number} = 1\n" for number in range(1000)))
    files.load()
    (record,) = caplog.records
    assert len(record.getMessage()) < 500


def test_a_file_that_git_cannot_parse_is_named(files: ConfigFiles) -> None:
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
    files: ConfigFiles, level: Level, text: str, key: str
) -> None:
    file = files.write(level, text)
    with pytest.raises(ConfigError, match=f"{key} in .*{file.name}"):
        files.load()


def test_a_variable_that_cannot_be_meant_is_named(files: ConfigFiles) -> None:
    with pytest.raises(ConfigError, match=r"cache\.size in REVFS_CACHE_SIZE"):
        files.load(REVFS_CACHE_SIZE="much")


def test_a_committed_link_is_neither_read_nor_written(files: ConfigFiles, tmp_path: Path) -> None:
    target = tmp_path / "of-the-user"
    target.write_text("[core]\n\tremote = secret\n")
    before = target.read_bytes()
    level_file(files.paths, files.environment, Level.COMMITTED).symlink_to(target)
    with pytest.raises(ConfigError, match="not a plain file"):
        files.load()
    with pytest.raises(ConfigError, match="not a plain file"):
        write_settings(files.paths, files.environment, Level.COMMITTED, {"repository.id": ID})
    assert target.read_bytes() == before


def test_a_committed_file_of_a_megabyte_is_not_parsed(files: ConfigFiles) -> None:
    files.write(Level.COMMITTED, "#" * (1 << 20) + "\n")
    with pytest.raises(ConfigError, match="not believable"):
        files.load()


def commit_id(files: ConfigFiles) -> None:
    write_settings(files.paths, files.environment, Level.COMMITTED, {"repository.id": ID})
    run_git(["commit", "--quiet", "--message", "id"], cwd=files.paths.top)


def test_without_a_file_in_the_work_tree_that_of_head_counts(files: ConfigFiles) -> None:
    commit_id(files)
    level_file(files.paths, files.environment, Level.COMMITTED).unlink()
    config = files.load()
    assert config.repository_id == ID
    assert config.origin("repository.id") == f"HEAD:{COMMITTED_FILE}"
    # A new file would hide the id that is committed.
    with pytest.raises(ConfigError, match="git restore"):
        write_settings(files.paths, files.environment, Level.COMMITTED, {"core.remote": "x"})


def test_a_bare_repository_reads_head_and_keeps_its_own_file(
    files: ConfigFiles, tmp_path: Path
) -> None:
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
