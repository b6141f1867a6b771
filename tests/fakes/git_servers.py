"""Git repositories served on loopback: by git's own daemon, and over HTTP with a password."""

import base64
import contextlib
import functools
import http.server
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from store.git_command import run_git
from tests.fakes.s3_servers import START_SECONDS, free_port


@contextlib.contextmanager
def serve_git(folder: Path) -> Iterator[tuple[str, int]]:
    """Every repository in `folder`, at git://host:port/name; gives host and port."""
    daemon = Path(os.fsdecode(run_git(["--exec-path"], cwd=folder)).strip()) / "git-daemon"
    address = ("127.0.0.1", free_port())
    command = [str(daemon), f"--listen={address[0]}", f"--port={address[1]}", "--reuseaddr"]
    command += ["--export-all", f"--base-path={folder}"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_up(process, address)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(process: "subprocess.Popen[bytes]", address: tuple[str, int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError("git daemon does not serve")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, for those who say the right user and password."""

    def __init__(self, credentials: str, *arguments: object, **options: object) -> None:
        self._wanted = "Basic " + base64.b64encode(credentials.encode()).decode()
        super().__init__(*arguments, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == self._wanted:
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serve_git_over_http(folder: Path, credentials: str) -> Iterator[str]:
    """Every repository in `folder` as plain files (git update-server-info makes them clonable), for
    `user:password` alone; gives `host:port`."""
    handler = functools.partial(_Handler, credentials, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
