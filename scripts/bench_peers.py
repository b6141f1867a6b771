"""The others: rclone and s3fs mounts of the plain files in the bucket, dvc, a loop-through in C,
and the local disk itself. Each begins with nothing cached."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench_processes import Finished, NotMeasured, run, serving
from bench_revfs import Mounted
from bench_session import PLAIN_BUCKET, Session

DVC_BUCKET = "dvc"
_MOUNT_SECONDS = 20.0

Mounting = Callable[[Session], contextlib.AbstractContextManager[Mounted]]


@contextlib.contextmanager
def rclone_mount(session: Session) -> Iterator[Mounted]:
    """The bucket by `rclone mount`, which keeps what it read in a cache of its own."""
    session.drop_caches(PLAIN_BUCKET)
    command: list[str | Path] = [session.programs.rclone, "mount", f":s3:{PLAIN_BUCKET}"]
    command += ["--read-only", "--vfs-cache-mode", "full", "--use-server-modtime"]
    # The data does not change, and ours may rely on that too.
    command += ["--dir-cache-time", "24h", "--attr-timeout", "1h"]
    command += ["--cache-dir", session.new_folder("rclone-cache")]
    access = session.environment
    environment = {
        **session.environment,
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_S3_PROVIDER": "Rclone",
        "RCLONE_S3_ENDPOINT": f"http://127.0.0.1:{session.link.port}",
        "RCLONE_S3_ACCESS_KEY_ID": access["AWS_ACCESS_KEY_ID"],
        "RCLONE_S3_SECRET_ACCESS_KEY": access["AWS_SECRET_ACCESS_KEY"],
    }
    with _mounted_by(session, command, environment, place=3) as mounted:
        yield mounted


@contextlib.contextmanager
def s3fs_mount(session: Session) -> Iterator[Mounted]:
    """The bucket by s3fs, with its cache on the disk."""
    session.drop_caches(PLAIN_BUCKET)
    options = f"url=http://127.0.0.1:{session.link.port},use_path_request_style,ro"
    options += f",use_cache={session.new_folder('s3fs-cache')},stat_cache_expire=86400"
    environment = {
        **session.environment,
        "AWSACCESSKEYID": session.environment["AWS_ACCESS_KEY_ID"],
        "AWSSECRETACCESSKEY": session.environment["AWS_SECRET_ACCESS_KEY"],
    }
    command: list[str | Path] = [session.programs.s3fs, PLAIN_BUCKET, "-f", "-o", options]
    with _mounted_by(session, command, environment, place=2) as mounted:
        yield mounted


@contextlib.contextmanager
def loop_through(session: Session) -> Iterator[Mounted]:
    """The files on the disk through libfuse's passthrough_ll, with all caching that it has."""
    options = f"source={session.data.folder},cache=always"
    command: list[str | Path] = [session.programs.passthrough, "-f", "-o", options]
    with _mounted_by(session, command, session.environment) as mounted:
        yield mounted


@contextlib.contextmanager
def local_disk(session: Session) -> Iterator[Mounted]:
    """The files where they are."""
    yield Mounted(session.data.folder, {}, 0.0)


@contextlib.contextmanager
def _mounted_by(
    session: Session,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    place: int | None = None,
) -> Iterator[Mounted]:
    """What a command mounts while it runs; the mountpoint is put in at `place`, else at the end."""
    require(command[0])
    mountpoint = session.new_folder("mount")
    words = list(command)
    words.insert(len(words) if place is None else place, mountpoint)
    log = session.folder / f"{mountpoint.name}.log"
    started = time.perf_counter()
    with serving(words, environment=environment, log=log) as process:
        try:
            _wait_until_mounted(mountpoint, process, log)
            yield Mounted(mountpoint, {"mount": process.pid}, time.perf_counter() - started)
        finally:
            unmount(mountpoint)


def _wait_until_mounted(mountpoint: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _MOUNT_SECONDS
    while not mountpoint.is_mount():
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it did not mount"]
            raise NotMeasured(f"no mount: {lines[-1][:200]}")
        time.sleep(0.005)


def unmount(mountpoint: Path) -> None:
    """Take a mount down, also a busy one."""
    for options in ("-u", "-uz"):
        done = subprocess.run(["fusermount3", options, str(mountpoint)], capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.2)


def require(program: str | Path) -> None:
    """Raises NotMeasured unless the program is there."""
    if not os.access(program, os.X_OK):
        raise NotMeasured(f"{Path(program).name} is not installed")


class Dvc:
    """A DVC repository with a home and a cache of its own."""

    def __init__(self, session: Session, top: Path) -> None:
        require(session.programs.dvc)
        self._session = session
        self.top = top
        home = session.new_folder("dvc-home")
        self._environment = {
            **session.environment,
            "HOME": str(home),
            "PATH": f"{session.programs.dvc.parent}:{session.environment['PATH']}",
            "XDG_CACHE_HOME": str(home / "cache"),
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "DVC_NO_ANALYTICS": "1",
        }

    def discard(self) -> None:
        """Give the space of the large file back, where it is a copy."""
        shutil.rmtree(self.top / "large", ignore_errors=True)

    def run(self, *words: object) -> Finished:
        """Run dvc or git in the repository."""
        command = [str(word) for word in words]
        return run(command, environment=self._environment, cwd=self.top, timeout_seconds=600)


def make_dvc_repository(session: Session) -> Dvc:
    """An empty one with a remote of its own behind the link."""
    made = Dvc(session, session.new_folder("dvc"))
    made.run("git", "init", "--quiet", "-b", "main")
    made.run("dvc", "init", "--quiet")
    made.run("dvc", "remote", "add", "-d", "storage", f"s3://{DVC_BUCKET}/{made.top.name}")
    endpoint = f"http://127.0.0.1:{session.link.port}"
    made.run("dvc", "remote", "modify", "storage", "endpointurl", endpoint)
    return made


def clone_dvc(session: Session, source: Dvc) -> Dvc:
    """A fresh clone with nothing pulled."""
    cloned = Dvc(session, session.new_folder("dvc-clone"))
    session.drop_caches(f"{DVC_BUCKET}/{source.top.name}")
    cloned.run("git", "clone", "--quiet", source.top, cloned.top)
    return cloned
