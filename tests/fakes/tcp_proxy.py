"""TcpProxy: a loopback TCP proxy whose link can be made slow, silent or broken at run time.

Plain threads, and nothing of pytest, so that benchmarks can use it as their link too.
"""

import contextlib
import queue
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

BLOCK_BYTES = 64 * 1024
POLL_SECONDS = 0.05
QUEUE_BLOCKS = 256


@dataclass(frozen=True, slots=True)
class Link:
    """What the link does to the bytes that pass.

    `delay_seconds` is added to each direction. `down_bytes_per_second` bounds what all connections
    together get from the server; `up_bytes_per_second` what they send to it. `stall` holds back all
    that the server sends. `trickle_seconds` lets one byte from the server pass, and waits that long
    before the next. `cut_after_bytes` ends a connection that has got so many bytes from the server
    (counted from when the link was set, or the connection made). `refuse` takes no new connection.
    """

    delay_seconds: float = 0.0
    down_bytes_per_second: float | None = None
    up_bytes_per_second: float | None = None
    stall: bool = False
    trickle_seconds: float | None = None
    cut_after_bytes: int | None = None
    refuse: bool = False


@dataclass
class _Pace:
    """Hands out the times at which bytes may have passed a link of a given rate."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    free_at: float = 0.0

    def wait(self, size: int, bytes_per_second: float | None) -> None:
        if bytes_per_second is None:
            return
        with self.lock:
            self.free_at = max(self.free_at, time.monotonic()) + size / bytes_per_second
            free_at = self.free_at
        time.sleep(max(0.0, free_at - time.monotonic()))


class _DelayLine:
    """Sends blocks on, each some seconds after it was given. As on a real link, the next block need
    not wait for the one before to arrive."""

    def __init__(self, target: socket.socket) -> None:
        self._target = target
        self._blocks: queue.Queue[tuple[float, bytes] | None] = queue.Queue(QUEUE_BLOCKS)
        self._broken = False
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def give(self, block: bytes, delay_seconds: float) -> None:
        if self._broken:
            raise BrokenPipeError
        self._blocks.put((time.monotonic() + delay_seconds, block))

    def end(self) -> None:
        """Returns when all has been sent; nothing more is sent this way."""
        self._blocks.put(None)
        self._thread.join()
        with contextlib.suppress(OSError):
            self._target.shutdown(socket.SHUT_WR)

    def _send(self) -> None:
        while (item := self._blocks.get()) is not None:
            due, block = item
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not self._broken:
                    self._target.sendall(block)
            except OSError:
                self._broken = True  # Go on emptying the queue, so that nobody waits for room.


class TcpProxy:
    """A proxy to `target` on a loopback port of its own. Use as a context manager.

    `up_bytes` went from clients to the server, `down_bytes` back, `connections` were made.
    """

    def __init__(self, target: tuple[str, int], link: Link | None = None) -> None:
        self._target = target
        self._link = link or Link()
        self._era = 0
        self._frozen_before = 0.0
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._down_pace, self._up_pace = _Pace(), _Pace()
        self.up_bytes = self.down_bytes = self.connections = 0
        self.port = self._listen(0)

    @property
    def endpoint(self) -> str:
        """The proxy as the endpoint of an S3 server."""
        return f"http://127.0.0.1:{self.port}"

    def set_link(self, link: Link) -> None:
        """Change the link, also for the connections that are open."""
        refused = self._link.refuse
        self._link = link
        self._era += 1
        if link.refuse:
            self._stop_listening()
        elif refused:
            self._listen(self.port)

    def cut_connections(self) -> None:
        """End every open connection."""
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def freeze_connections(self) -> None:
        """Let nothing more pass over the connections that are open, which stay so; those made from
        now on are as the link says. So it is after a change of network."""
        self._frozen_before = time.monotonic()

    def close(self) -> None:
        """Stop listening, end every connection."""
        self._closed.set()
        self._stop_listening()
        self.cut_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, port: int) -> int:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        bound: int = listener.getsockname()[1]
        return bound

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # Closing alone would leave a thread in accept, and the port open with it.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            server = socket.create_connection(self._target)
            with server, self._open(client, server):
                up, down = _DelayLine(server), _DelayLine(client)
                pump = threading.Thread(target=self._pump_up, args=(client, up), daemon=True)
                pump.start()
                with contextlib.suppress(OSError):
                    self._pump_down(server, client, down)
                down.end()
                for end in (client, server):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                pump.join()

    @contextlib.contextmanager
    def _open(self, *ends: socket.socket) -> Iterator[None]:
        for end in ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.difference_update(ends)

    def _pump_up(self, client: socket.socket, line: _DelayLine) -> None:
        with contextlib.suppress(OSError):
            while block := client.recv(_block_bytes(self._link.up_bytes_per_second)):
                self._up_pace.wait(len(block), self._link.up_bytes_per_second)
                line.give(block, self._link.delay_seconds)
                self.up_bytes += len(block)
        line.end()

    def _pump_down(self, server: socket.socket, client: socket.socket, line: _DelayLine) -> None:
        passed, era, made = 0, self._era, time.monotonic()
        while not self._closed.is_set():
            link = self._link if made > self._frozen_before else Link(stall=True)
            if era != self._era:
                passed, era = 0, self._era
            if link.stall:
                if _is_gone(client):
                    return
                self._closed.wait(POLL_SECONDS)
            # Poll, so that a link that is set while nothing passes is heeded.
            elif select.select([server], [], [], POLL_SECONDS)[0]:
                block = server.recv(_allowance(link, passed))
                if not block:
                    return
                self._down_pace.wait(len(block), link.down_bytes_per_second)
                line.give(block, link.delay_seconds)
                passed += len(block)
                self.down_bytes += len(block)
                self._closed.wait(link.trickle_seconds or 0)


def _block_bytes(bytes_per_second: float | None) -> int:
    """How many bytes to pass at once, so that a slow link is slow and not silent for long."""
    if bytes_per_second is None:
        return BLOCK_BYTES
    return max(1, min(BLOCK_BYTES, int(bytes_per_second * POLL_SECONDS)))


def _allowance(link: Link, passed: int) -> int:
    """How many bytes a connection may get next, after it got `passed`."""
    most = _block_bytes(link.down_bytes_per_second) if link.trickle_seconds is None else 1
    return most if link.cut_after_bytes is None else min(most, link.cut_after_bytes - passed)


def _is_gone(end: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    try:
        return end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
