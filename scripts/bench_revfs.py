"""revfs as a contender: repositories, clones with empty caches, and mounts."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_processes import Finished, run, wait_until_gone
from bench_session import Session

BUCKET = "revfs"


@dataclass(frozen=True, slots=True)
class Mounted:
    """A folder that shows the data, and the process that serves it, if one does."""

    root: Path
    pids: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Revfs:
    """A repository or clone, with a cache of its own."""

    session: Session
    top: Path
    cache: Path

    def run(self, *words: object, timeout_seconds: float = 900) -> Finished:
        """Run revfs or git in the repository; the first word says which."""
        command = [str(word) for word in words]
        if command[0] == "revfs":
            command[0] = str(self.session.programs.revfs)
        environment = {**self.session.environment, "XDG_CACHE_HOME": str(self.cache)}
        return run(command, environment=environment, cwd=self.top, timeout_seconds=timeout_seconds)

    def discard(self) -> None:
        """Give the space of the large files back: those of the cache, the work tree's own, and the
        packs in the remote, which are few. Small files stay: to delete many slows the disk down."""
        shutil.rmtree(self.cache / "revfs" / "packs", ignore_errors=True)
        shutil.rmtree(self.session.server.folder / BUCKET / self.top.name, ignore_errors=True)
        for path in self.top.glob("*.bin"):
            path.unlink()

    def commit(self, message: str) -> None:
        """Commit what is staged."""
        self.run("git", "commit", "--quiet", "-m", message)

    @contextlib.contextmanager
    def mounted(self, options: Sequence[str] = ()) -> Iterator[Mounted]:
        """HEAD, mounted meanwhile with these options and those of the command line."""
        mountpoint = self.session.new_folder("mount")
        words = [*self.session.choice.mount_options, *options]
        started = time.perf_counter()
        said = self.run("revfs", "mount", "HEAD", mountpoint, "--json", *words).output
        seconds = time.perf_counter() - started
        pid = int(json.loads(said)["pid"])
        try:
            yield Mounted(mountpoint, {"mount": pid}, seconds)
        finally:
            self.run("revfs", "unmount", mountpoint)
            wait_until_gone(pid)

    def has_mount_option(self, option: str) -> bool:
        """Whether this revfs knows the option of `mount`."""
        return f"{option} " in self.run("revfs", "mount", "--help").output


def make_repository(session: Session, name: str) -> Revfs:
    """An empty repository with a remote of its own behind the link."""
    top = session.new_folder(name)
    made = Revfs(session, top, session.new_folder(f"{name}-cache"))
    made.run("git", "init", "--quiet", "-b", "main")
    made.run("revfs", "init")
    url = f"s3://{BUCKET}/{top.name}"
    endpoint = f"http://127.0.0.1:{session.link.port}"
    made.run("revfs", "remote", "add", "-d", "storage", url, "--endpoint", endpoint)
    return made


def clone(session: Session, source: Revfs, *options: str) -> Revfs:
    """A fresh clone with an empty cache; the pointers alone are there."""
    top = session.new_folder("clone")
    session.drop_caches(f"{BUCKET}/{source.top.name}")
    cloned = Revfs(session, top, session.new_folder("clone-cache"))
    cloned.run("git", "clone", "--quiet", *options, source.top, top)
    return cloned


@contextlib.contextmanager
def mounted_clone(session: Session, source: Revfs) -> Iterator[Mounted]:
    """A fresh clone, mounted meanwhile; what it has cached is dropped at the end."""
    cloned = clone(session, source)
    with cloned.mounted() as mounted:
        yield mounted
    cloned.discard()
