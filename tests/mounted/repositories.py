"""Repositories with data, clones of them with a cache of their own, and mounts that always end.

All of revfs is run as people run it: the installed command, in a process of its own.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.local_folders import MOUNT_TYPE, mounted_file_systems
from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY
from tests.fakes.tcp_proxy import POLL_SECONDS as PROXY_POLL_SECONDS
from tests.fakes.tcp_proxy import Link, TcpProxy
from vfs.mount_records import MountRecord, MountRecords, process_start

REVFS = str(Path(sys.executable).parent / "revfs")
END_SECONDS = 10.0
POLL_SECONDS = 0.02
ODD_NAMES = (
    b"with space",
    b"line\nbreak",
    b"not utf-8 \xff\xfe",
    "ünïcödé 💾".encode(),
    b"-dash",
    b"quote'\"",
    b"back\\slash",
    b"trailing ",
    b".hidden",
    b"n" * 255,
)


def environment_of(home: Path) -> dict[str, str]:
    """What a person whose home this is has in the environment, on a machine with nothing else."""
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {
        **inherited,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
    }


def wait_until(condition: Callable[[], bool], seconds: float = END_SECONDS) -> None:
    """Return as soon as it holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(POLL_SECONDS)


def fall_silent(proxy: TcpProxy) -> None:
    """Let nothing more through from the server, to connections old or new."""
    proxy.set_link(Link(stall=True))
    # A block that the proxy is waiting for may still pass.
    time.sleep(2 * PROXY_POLL_SECONDS)


def is_in_tree(mountpoint: Path) -> bool:
    """Whether a revision is mounted there, dead or alive."""
    return (str(mountpoint), MOUNT_TYPE) in mounted_file_systems()


def end_process(pid: int, started: int | None) -> None:
    """End a process that we started, gently and then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if started is None or process_start(pid) != started:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: process_start(pid) != started)


def detach_quietly(mountpoint: Path) -> None:
    """Take what is mounted there out of the tree, as a last resort."""
    while is_in_tree(mountpoint):
        subprocess.run(["umount", "--lazy", mountpoint], check=True, capture_output=True)


@dataclass(frozen=True)
class Mounted:
    """A mount that answers. `path` is its mountpoint."""

    path: Path
    record: MountRecord
    _records: MountRecords

    @property
    def log(self) -> str:
        """What its process has logged so far."""
        return Path(self.record.log).read_text()

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return not self.record.is_alive()

    def is_gone(self) -> bool:
        """Whether process, mount and record are gone."""
        return self.has_ended() and not is_in_tree(self.path) and self.load_record() is None

    def load_record(self) -> MountRecord | None:
        """The record as it is now."""
        return self._records.load(self.path)

    def wait_until_fetched(self, byte_count: int) -> None:
        """Return as soon as the process says that it fetched so many bytes; fail where it does not
        in time."""

        def has_fetched() -> bool:
            record = self.load_record()
            return record is not None and record.fetched_bytes >= byte_count

        wait_until(has_fetched)

    def fetched_bytes(self) -> int:
        """What the process says it fetched until now, which it says each second. Where it is to be
        so many or more, `wait_until_fetched` is faster."""
        time.sleep(1.2)
        record = self.load_record()
        assert record is not None
        return record.fetched_bytes


class Clone:
    """A repository in `top`, used by a person whose home is `home`: cache, records, trust.
    `command` is the revfs that is run."""

    def __init__(self, top: Path, home: Path) -> None:
        self.top = top
        self.home = home
        self.command: tuple[str, ...] = (REVFS,)
        home.mkdir(exist_ok=True)
        (home / ".gitconfig").write_text(
            "[user]\n\tname = Test\n\temail = test@example.org\n"
            "[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n"
        )
        self.environment = environment_of(home)

    def at(self, top: Path) -> "Clone":
        """The same person, in another work tree of the repository."""
        made = Clone(top, self.home)
        made.environment = self.environment
        return made

    @property
    def cache(self) -> Path:
        """Where its cached packs are."""
        return self.home / ".cache" / "revfs"

    @property
    def records(self) -> MountRecords:
        """The records of its mounts."""
        return MountRecords(self.cache)

    def run(self, *command: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """A finished command, run in `top`; with `ok` it must have exited with 0."""
        completed = subprocess.run(
            command,
            cwd=self.top,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert completed.returncode == 0 or not ok, f"{command}: {completed.stderr}"
        return completed

    def revfs(self, *arguments: str | Path) -> str:
        """What `revfs` prints; it must succeed."""
        return self.run(*self.command, *arguments).stdout

    def fails(self, *arguments: str | Path) -> str:
        """What `revfs` says on stderr when it fails as it should: exit code 1, one line."""
        completed = self.run(*self.command, *arguments, ok=False)
        assert completed.returncode == 1, completed
        assert completed.stderr.count("\n") == 1, completed.stderr
        return completed.stderr

    def git(self, *arguments: str | Path) -> str:
        """What `git` prints; it must succeed."""
        return self.run("git", *arguments).stdout

    def mounts(self) -> list[dict[str, Any]]:
        """What `revfs mounts` lists."""
        found: list[dict[str, Any]] = json.loads(self.revfs("mounts", "--json"))
        return found

    @contextlib.contextmanager
    def mounted(
        self, revision: str, mountpoint: Path | None = None, *options: str
    ) -> Iterator[Mounted]:
        """A revision, mounted on a fresh folder beside `top` unless another is named."""
        place = mountpoint or self.fresh_mountpoint()
        try:
            self.revfs("mount", revision, place, *options)
            record = self.records.load(place)
            assert record is not None
            yield Mounted(place, record, self.records)
        finally:
            self.end_mount(place)

    def fresh_mountpoint(self) -> Path:
        """A new empty folder beside `top`."""
        for number in range(1000):
            place = self.home / f"mount-{number}"
            with contextlib.suppress(FileExistsError):
                place.mkdir()
                return place
        raise AssertionError("too many mounts")

    def end_mount(self, place: Path) -> None:
        """Make sure that nothing is left of a mount, whatever happened to it."""
        record = self.records.load(place)
        if record is not None:
            end_process(record.pid, record.pid_started)
        detach_quietly(place)

    @contextlib.contextmanager
    def serving(
        self, revision: str, mountpoint: Path, *options: str
    ) -> Iterator["subprocess.Popen[str]"]:
        """The process of `revfs mount --foreground`, once it says that it is mounted."""
        process = subprocess.Popen(
            [*self.command, "mount", "--foreground", revision, mountpoint, *options],
            cwd=self.top,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started = process_start(process.pid)
        try:
            wait_until(
                lambda: process.poll() is not None or self.records.load(mountpoint) is not None
            )
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
            if process.poll() is None:
                end_process(process.pid, started)
            _, said = process.communicate()
            # Where a test fails, it is shown.
            print(said)
            detach_quietly(mountpoint)

    def clone(self, top: Path, home: Path) -> "Clone":
        """A fresh clone with an empty cache, whose user trusts what this one does."""
        made = Clone(top, home)
        subprocess.run(
            ["git", "clone", "--quiet", self.top, top],
            env=made.environment,
            check=True,
            capture_output=True,
        )
        trusted = self.home / ".config"
        if trusted.exists():
            shutil.copytree(trusted, home / ".config")
        return made


def make_repository(folder: Path, url: str | None, *remote_options: str) -> Clone:
    """A repository set up for revfs in `folder`, with a default remote if there is a url."""
    top = folder / "repository"
    top.mkdir(parents=True)
    made = Clone(top, folder / "home")
    made.git("init", "--quiet")
    made.revfs("init")
    if url is not None:
        made.revfs("remote", "add", "-d", "origin", url, *remote_options)
    return made


def commit_version(repository: Clone, tag: str) -> None:
    """Add `data` to revfs and the rest to git, commit, and tag."""
    repository.revfs("add", "data")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "-m", tag)
    repository.git("tag", tag)


def write_first_version(top: Path, seed: random.Random) -> None:
    """Files of every kind: small, large, compressible, empty, executable, links, odd names."""
    data = top / "data"
    deep = data / "deep/a/b/c"
    many = data / "many"
    odd = os.fsencode(data / "odd")
    for folder in (deep, many, data / "odd"):
        folder.mkdir(parents=True)
    for number in range(120):
        (many / f"{number:03}.bin").write_bytes(seed.randbytes(seed.randrange(1, 20_000)))
    for name in ODD_NAMES:
        Path(os.fsdecode(odd + b"/" + name)).write_bytes(b"in " + name)
    (data / "large.bin").write_bytes(seed.randbytes(9_000_001))
    rows = (f"{number},{seed.random():.3f},label" for number in range(100_000))
    (data / "table.csv").write_text("\n".join(rows))
    (data / "empty").touch()
    (data / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (data / "run.sh").chmod(0o755)
    (data / "link").symlink_to("run.sh")
    (data / "dangling").symlink_to("nowhere/at all")
    (data / "link-to-folder").symlink_to("deep/a")
    (deep / "file").write_text("deep down")
    (top / "README.md").write_text("kept by git itself\n")
    (top / "plain-large.txt").write_bytes(b"a line of plain text\n" * 450_000)
    (top / "tool").write_text("#!/bin/sh\nexit 7\n")
    (top / "tool").chmod(0o755)


def write_second_version(top: Path, seed: random.Random) -> None:
    """The first version edited: bytes inserted, files changed, removed, added, swapped in kind."""
    data = top / "data"
    large = (data / "large.bin").read_bytes()
    (data / "large.bin").write_bytes(large[:4_000_000] + b"inserted" + large[4_000_000:])
    for number in range(0, 120, 10):
        (data / f"many/{number:03}.bin").write_bytes(seed.randbytes(1 + number))
    (data / "many/001.bin").unlink()
    (data / "many/new.bin").write_text("new")
    (data / "run.sh").chmod(0o644)
    (data / "link").unlink()
    (data / "link").write_text("a file now")
    (data / "empty").write_text("no longer")


def make_twin(repository: Clone, twin: Clone, tag: str) -> None:
    """Commit the work tree's files themselves to a plain git repository."""
    if not twin.top.exists():
        twin.top.mkdir()
        twin.git("init", "--quiet")
    for path in twin.top.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(
        repository.top,
        twin.top,
        symlinks=True,
        ignore=shutil.ignore_patterns(".git"),
        dirs_exist_ok=True,
    )
    twin.git("add", "--all")
    twin.git("commit", "--quiet", "-m", tag)
    twin.git("tag", tag)
