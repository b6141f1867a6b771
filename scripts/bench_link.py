"""The link: the proxy in C with its limits and counters, and how much it carries by itself."""

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench_processes import end, get_processor_seconds

_BLOCK_BYTES = 1 << 20
_COUNTERS = struct.Struct("=5Q")


@dataclass(frozen=True, slots=True)
class LinkSpeed:
    """Limits of a link, each way; a rate of 0 is none."""

    name: str
    round_trip_seconds: float
    bytes_per_second: int

    @property
    def title(self) -> str:
        if not self.bytes_per_second:
            return "no limit"
        gigabits = self.bytes_per_second * 8 / 1e9
        return f"{self.round_trip_seconds * 1000:.0f} ms, {gigabits:g} Gbit/s"


UNLIMITED = LinkSpeed("unlimited", 0.0, 0)
FIRST = LinkSpeed("first", 0.010, 250_000_000)
SECOND = LinkSpeed("second", 0.040, 125_000_000)


class Traffic(NamedTuple):
    """What has crossed the link since it was made."""

    up_bytes: int
    down_bytes: int
    connections: int
    requests: int

    def since(self, before: "Traffic") -> "Traffic":
        return Traffic(*(now - then for now, then in zip(self, before, strict=True)))


class Link:
    """A proxy before one port of this machine. Its own port stays the same whatever its speed, so
    that what was configured for it goes on working."""

    # While `_process` is not None it listens on `port`, with the limits of `speed`.

    def __init__(self, program: Path, server_port: int, counters: Path) -> None:
        self._program = program
        self._server_port = server_port
        self._counters = counters
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.speed = UNLIMITED

    @property
    def pid(self) -> int:
        assert self._process is not None, "the link is not up"
        return self._process.pid

    def set_speed(self, speed: LinkSpeed) -> None:
        """Begin anew with these limits; connections that are open end."""
        self.close()
        delay_microseconds = round(speed.round_trip_seconds * 1e6 / 2)
        words = [self.port, self._server_port, delay_microseconds, speed.bytes_per_second]
        command = [str(self._program), *map(str, words), str(self._counters)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        with self._process.stdout as output:
            line = output.readline().decode()
        if not line.startswith("listening on "):
            raise RuntimeError("the link's proxy did not start")
        self.port = int(line.split()[-1])
        self.speed = speed

    def close(self) -> None:
        """End the proxy; the counters stay."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def get_traffic(self) -> Traffic:
        """All that has crossed so far."""
        up, down, connections, requests, _ = _COUNTERS.unpack(self._counters.read_bytes())
        return Traffic(up, down, connections, requests)


@contextlib.contextmanager
def open_link(program: Path, server_port: int, counters: Path, speed: LinkSpeed) -> Iterator[Link]:
    """A link that is up meanwhile."""
    link = Link(program, server_port, counters)
    try:
        link.set_speed(speed)
        yield link
    finally:
        link.close()


class Carried(NamedTuple):
    """A transfer through the proxy with nothing else on it."""

    byte_count: int
    seconds: float
    traffic: Traffic
    processor_seconds: float


def measure_ceiling(
    program: Path,
    folder: Path,
    speed: LinkSpeed,
    byte_count: int,
    *,
    up: bool,
    connections: int = 8,
) -> Carried:
    """Send so many bytes over some connections to or from a socket that does nothing else."""
    share = byte_count // connections
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        counters = folder / f"ceiling-{time.monotonic_ns()}"
        with open_link(program, port, counters, speed) as link:
            server_side, client_side = (_receive, _send) if up else (_send, _receive)
            serving = _in_threads(connections, lambda: _serve(server, server_side, share))
            started = time.perf_counter()
            clients = _in_threads(connections, lambda: _visit(link.port, client_side, share))
            for thread in [*clients, *serving]:
                thread.join()
            seconds = time.perf_counter() - started
            used = get_processor_seconds(link.pid)
            return Carried(share * connections, seconds, link.get_traffic(), used)


def _in_threads(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _serve(server: socket.socket, side: Callable[[socket.socket, int], None], size: int) -> None:
    connection, _ = server.accept()
    with connection:
        side(connection, size)
        # The client closes first, when it has everything.
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def _visit(port: int, side: Callable[[socket.socket, int], None], size: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        side(connection, size)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def _send(connection: socket.socket, size: int) -> None:
    block = memoryview(bytes(_BLOCK_BYTES))
    while size > 0:
        size -= connection.send(block[: min(size, _BLOCK_BYTES)])


def _receive(connection: socket.socket, size: int) -> None:
    buffer = bytearray(_BLOCK_BYTES)
    while size > 0:
        received = connection.recv_into(buffer, min(size, _BLOCK_BYTES))
        if not received:
            raise ConnectionError("the link ended early")
        size -= received
