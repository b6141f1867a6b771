"""Every hostile bucket: read through a real S3 server, and as a folder under every command."""

import errno
import os
import time
from pathlib import Path

import pytest

from cli.main import ExitCode
from store.pointer import parse_pointer
from tests.fakes.s3_servers import S3Server
from tests.fuzz.target import is_harmless
from tests.hostile.bucket_parts import honest_parts
from tests.hostile.buckets import ALL, HOSTILE, HostileBucket
from tests.hostile.make import main as make_all
from tests.hostile.repositories import HOSTILE as HOSTILE_REPOSITORIES
from tests.hostile.test_hostile_repositories import assert_log_is_harmless
from tests.mounted.repositories import REVFS, Clone, Mounted

MOST_SECONDS = 30.0
COMMANDS = (
    ("status",),
    ("du",),
    ("fetch", "HEAD"),
    ("export", "HEAD", "OUT"),
    ("checkout",),
    ("push",),
)
# A range that is not there is asked for until time is over.
ASKED_AGAIN = ("cut", "empty", "swapped-packs")
# A mount holds some 100 MB before it has read a byte; the bombs would be a gigabyte each.
MOST_PEAK_BYTES = 400 << 20


def use(made: HostileBucket, name: str, server: S3Server | None = None) -> HostileBucket:
    """Make the bucket the default remote of its repository: in S3, or as a folder."""
    place = [str(made.remote)]
    if server is not None:
        assert server.folder is not None
        bucket = f"hostile-{name}-{os.getpid()}"
        server.make_bucket(bucket)
        folder = server.folder / bucket
        for entry in made.remote.iterdir():
            entry.rename(folder / entry.name)
        place = [f"s3://{bucket}", "--endpoint", server.endpoint, "--region", "us-east-1"]
    if name in ASKED_AGAIN:
        assert made.repository.revfs("-q", "config", "mount.timeout", "5") == 0
    assert made.repository.revfs("-q", "remote", "add", "--local", "-d", "hostile", *place) == 0
    return made


@pytest.mark.expects_warnings
@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_is_what_was_committed_or_an_error_in_one_line(
    name: str, tmp_path: Path, rclone_s3: S3Server, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    made = use(HOSTILE[name][1](tmp_path), name, rclone_s3)
    # Where all are hurt by the same thing, or none is, some stand for the others.
    hurt = sorted(made.hurt)[:: 2 if made.hurt >= {*ALL} else 1]
    for path in (*sorted(made.contents)[:2], *hurt, *sorted(made.either)):
        began = time.monotonic()
        code = made.repository.revfs("-q", "cat", "HEAD", path)
        assert time.monotonic() - began < MOST_SECONDS
        captured = capfdbinary.readouterr()
        if path in made.contents:
            assert (code, captured.out) == (ExitCode.DONE, made.contents[path]), captured.err
        elif path in made.hurt:
            assert (code, captured.out) == (ExitCode.FAILED, b"")
        else:
            right = honest_parts().contents[path]
            assert (code, captured.out) in ((ExitCode.DONE, right), (ExitCode.FAILED, b""))
        assert_one_clear_error(code, captured.err)


def assert_one_clear_error(code: int, stderr: bytes) -> None:
    said = stderr.decode("utf-8", "surrogateescape").splitlines()
    assert code in (ExitCode.DONE, ExitCode.FAILED), said
    assert all(is_harmless(line) for line in said), said
    errors = [line for line in said if line.startswith("revfs: ") and ": warning: " not in line]
    assert len(errors) == (code == ExitCode.FAILED), said
    assert not [line for line in said if "Traceback" in line or "internal error" in line], said


@pytest.mark.expects_warnings
@pytest.mark.parametrize("name", HOSTILE)
def test_every_command_does_what_can_be_done_or_says_one_clear_line(
    name: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    made = use(HOSTILE[name][1](tmp_path), name)
    for command in COMMANDS:
        words = [str(tmp_path / "out") if word == "OUT" else word for word in command]
        began = time.monotonic()
        code = made.repository.revfs("-q", *words)
        assert time.monotonic() - began < MOST_SECONDS
        assert_one_clear_error(code, capfdbinary.readouterr().err)
    for folder in (tmp_path / "out", made.repository.top):
        for path in sorted({*made.contents, *made.hurt}):
            assert_right_or_no_data(folder / path, made.contents.get(path))


def assert_right_or_no_data(place: Path, content: bytes | None) -> None:
    """What was exported or checked out is what was committed; what could not be had is not there,
    or is the pointer that it was."""
    if place.exists():
        found = place.read_bytes()
        assert found == content or parse_pointer(found) is not None, place


def test_the_script_makes_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    make_all([str(tmp_path / "made")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(HOSTILE) + len(HOSTILE_REPOSITORIES)
    for line in lines:
        place, _, text = line.partition(": ")
        assert Path(place).is_dir()
        assert text


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def processes_of(mount: Mounted) -> list[int]:
    """The process of a mount and its children."""
    children = Path(f"/proc/{mount.record.pid}/task/{mount.record.pid}/children").read_text()
    return [mount.record.pid, *map(int, children.split())]


@pytest.mark.parametrize("name", ["bombs", "lists", "wrong-place"])
def test_a_mount_of_lies_gives_the_right_bytes_or_eio_in_bounded_memory(
    name: str, tmp_path: Path, rclone_s3: S3Server
) -> None:
    made = use(HOSTILE[name][1](tmp_path), f"mounted-{name}", rclone_s3)
    clone = Clone(made.repository.top, tmp_path / "home")
    (clone.home / ".config").mkdir()
    with clone.mounted("HEAD", None, "--timeout", "20") as mount:
        for path, content in made.contents.items():
            assert (mount.path / path).read_bytes() == content
        for path in made.hurt:
            assert (mount.path / path).stat().st_size > 0
            with pytest.raises(OSError) as raised:
                (mount.path / path).read_bytes()
            assert raised.value.errno == errno.EIO
        assert (mount.path / "plain").read_bytes() == b"kept by git itself\n"
        warmed = clone.run(REVFS, "-q", "warm", "--wait", mount.path, ok=False)
        assert_one_clear_error(warmed.returncode, warmed.stderr.encode())
        assert made.either or warmed.returncode == ExitCode.FAILED
        assert_log_is_harmless(mount.log)
        errors = [line for line in mount.log.splitlines() if " ERROR " in line]
        assert len(errors) >= len(made.hurt)
        assert max(map(peak_bytes, processes_of(mount))) < MOST_PEAK_BYTES
