"""The object server behind the link: `rclone serve s3` over a folder, as cheap as it can be had,
since it shares the processor with what is measured."""

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from bench_data import DataSet
from bench_peers import DVC_BUCKET
from bench_processes import serving
from bench_revfs import BUCKET
from bench_session import PLAIN_BUCKET, Server

from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, free_port, rclone_binary

_START_SECONDS = 20.0


@contextlib.contextmanager
def serve(folder: Path, data: DataSet) -> Iterator[Server]:
    """The server, with the plain files in a bucket: the same files by another name, not copies."""
    store = folder / "server"
    for part in ("small", "large", "text"):
        shutil.copytree(data.folder / part, store / PLAIN_BUCKET / part, copy_function=os.link)
    port = free_port()
    # Without --etag-hash "" it hashes the whole object at every range, without --ignore-checksum
    # all that it has written once more: 7 ms of processor for a megabyte instead of 4.
    command = [rclone_binary(), "serve", "s3", "--etag-hash", "", "--ignore-checksum"]
    command += ["--vfs-cache-mode", "off", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    command += ["--addr", f"127.0.0.1:{port}", str(store)]
    environment = {"PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull}
    log = folder / "server.log"
    with serving(command, environment=environment, log=log) as process:
        _wait_until_up(port)
        server = S3Server(f"http://127.0.0.1:{port}")
        for bucket in (BUCKET, DVC_BUCKET):
            server.make_bucket(bucket)
        yield Server(process.pid, store, port, server.access_key, server.secret_key)


def _wait_until_up(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("rclone did not serve the buckets")
