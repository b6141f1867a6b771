"""Every hostile repository, on a real mount and under every command that reads one."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fuzz.target import is_harmless
from tests.hostile.repositories import HOSTILE, HostileRepository, as_path
from tests.mounted.repositories import REVFS, Clone, Mounted

TIMEOUT = ("--timeout", "2")
MOST_SECONDS = 30.0


def failure_of(path: Path) -> int:
    """The errno of whatever this kind of node is asked first."""
    try:
        if path.is_symlink():
            os.readlink(path)
        elif path.is_dir():
            os.listdir(path)
        else:
            # Not whole: one is said to be of 450 GiB.
            with path.open("rb", buffering=0) as file:
                file.read(100)
    except OSError as error:
        return error.errno or 0
    return 0


def assert_only_the_broken_fails(mount: Mounted, hostile: HostileRepository) -> None:
    assert sorted(os.listdir(os.fsencode(mount.path))) == list(hostile.names)
    for path, content in hostile.readable.items():
        assert as_path(mount.path, path).read_bytes() == content
    for path in hostile.broken:
        assert failure_of(as_path(mount.path, path)) == errno.EIO, path


def assert_log_is_harmless(log: str) -> None:
    assert "Traceback" not in log
    for line in log.splitlines():
        assert is_harmless(line), repr(line)
        # Nobody but the log itself began a line.
        assert line[:4].isdigit(), line


@pytest.mark.parametrize("name", HOSTILE)
def test_on_a_mount_only_what_is_broken_fails(name: str, tmp_path: Path) -> None:
    hostile = HOSTILE[name](tmp_path / "repository")
    clone = Clone(hostile.repository.top, tmp_path / "home")
    if hostile.refused:
        said = clone.run(REVFS, "mount", "HEAD", clone.fresh_mountpoint(), ok=False).stderr
        assert [line for line in said.splitlines() if hostile.refused in line], said
        assert clone.mounts() == []
        return
    with clone.mounted("HEAD", None, *TIMEOUT) as mount:
        assert_only_the_broken_fails(mount, hostile)
        assert_only_the_broken_fails(mount, hostile)
        assert sorted(os.listdir(os.fsencode(mount.path))) == list(hostile.names)
        assert_log_is_harmless(mount.log)
        assert all(is_harmless(line) for line in clone.revfs("mounts").splitlines())
        left_out = [line for line in mount.log.splitlines() if "left out" in line]
        # One for the root, one for the folder in it that has such a name too.
        assert len(left_out) == 2 * hostile.warned


def test_links_are_given_as_data_and_the_kernel_s_to_follow(tmp_path: Path) -> None:
    hostile = HOSTILE["links"](tmp_path / "repository")
    clone = Clone(hostile.repository.top, tmp_path / "home")
    with clone.mounted("HEAD", None, *TIMEOUT) as mount:
        assert os.readlink(mount.path / "absolute") == "/etc/passwd"
        assert os.readlink(mount.path / "longest") == "x" * 4095
        assert failure_of(mount.path / "itself/x") == errno.ELOOP
        assert (mount.path / "too-long").lstat().st_size == 4096


COMMANDS = (
    ("ls", "-l"),
    ("ls", "--json"),
    ("ls", "HEAD", "d"),
    ("status",),
    ("status", "--json"),
    ("du",),
    ("diff", "EMPTY", "HEAD"),
    ("cat", "HEAD", "good"),
    ("cat", "HEAD", "absolute"),
    ("export", "HEAD", "OUT"),
    ("checkout",),
    ("fetch", "HEAD"),
    ("push",),
    ("run", "--list"),
    ("config", "--list"),
)


@pytest.fixture(scope="module", params=HOSTILE)
def hostile(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostileRepository]:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
        made: HostileRepository = HOSTILE[request.param](folder / "repository")
        empty = made.repository.write_tree([])
        made.repository.git("tag", "EMPTY", made.repository.commit_tree(empty, "empty"))
        # As far as git takes it into an index: what a clone would begin with.
        command = ["git", "-C", made.repository.top, "read-tree", "HEAD"]
        subprocess.run(command, capture_output=True)
        yield made


@pytest.mark.expects_warnings
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_ends_in_one_clear_line(
    hostile: HostileRepository,
    command: tuple[str, ...],
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    words = [str(tmp_path / "out") if word == "OUT" else word for word in command]
    began = time.monotonic()
    code = hostile.repository.revfs("-q", *words)
    assert time.monotonic() - began < MOST_SECONDS
    captured = capfdbinary.readouterr()
    assert code in (ExitCode.DONE, ExitCode.FAILED), captured.err
    said = captured.err.decode("utf-8", "surrogateescape").splitlines()
    if command[0] != "cat":
        said += captured.out.decode("utf-8", "surrogateescape").splitlines()
    assert all(is_harmless(line.replace("\t", " ")) for line in said), said
    errors = [line for line in said if line.startswith("revfs: ") and ": warning: " not in line]
    assert len(errors) == (code == ExitCode.FAILED), said
    assert not [line for line in said if "Traceback" in line or "internal error" in line], said
    assert not list(tmp_path.parent.glob("**/owned"))
