"""The benchmark's link: bytes arrive as they were sent, are counted, and ends are passed on. How
long it all takes is not tested here: the benchmark's own table shows it."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench_link import UNLIMITED, Link, LinkSpeed, measure_ceiling, open_link

# Quick to pass, and yet every byte is delayed and has its turn.
LIMITED = LinkSpeed("limited", 0.004, 500_000_000)
CLIENTS = 20
SIZE = 300_000


def content_of(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def receive_all(connection: socket.socket) -> bytes:
    """Everything up to the end of the stream, which must come some time."""
    content = bytearray()
    while part := connection.recv(65536):
        content += part
        assert len(content) <= 8 << 20, "the link makes bytes up"
    return bytes(content)


@contextlib.contextmanager
def linked(
    program: Path, folder: Path, speed: LinkSpeed, serve: Callable[[socket.socket], None]
) -> Iterator[Link]:
    """A link to a server that does `serve` with each connection, in a thread of its own."""
    threads = []

    def serve_one(connection: socket.socket) -> None:
        with connection:
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.settimeout(10)
                threads.append(threading.Thread(target=serve_one, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        with open_link(program, server.getsockname()[1], folder / "counters", speed) as link:
            yield link
        for thread in threads:
            thread.join(10)
        server.shutdown(socket.SHUT_RDWR)
        acceptor.join(10)


def visit(link: Link) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", link.port), timeout=10)
    connection.settimeout(10)
    return connection


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run them all; the first error of any is raised here."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if errors:
        raise errors[0]


@pytest.mark.parametrize("speed", [UNLIMITED, LIMITED], ids=["unlimited", "limited"])
def test_every_client_gets_its_own_bytes_back_and_all_are_counted(
    link_proxy: Path, tmp_path: Path, speed: LinkSpeed
) -> None:
    def echo(connection: socket.socket) -> None:
        connection.sendall(receive_all(connection))

    with linked(link_proxy, tmp_path, speed, echo) as link:

        def talk(number: int) -> None:
            with visit(link) as connection:
                connection.sendall(content_of(number))
                connection.shutdown(socket.SHUT_WR)
                assert receive_all(connection) == content_of(number)

        in_threads(CLIENTS, talk)
        traffic = link.get_traffic()
    assert traffic.up_bytes == traffic.down_bytes == CLIENTS * SIZE
    assert traffic.connections == CLIENTS


def test_a_client_that_has_ended_its_side_still_gets_the_answer(
    link_proxy: Path, tmp_path: Path
) -> None:
    def answer(connection: socket.socket) -> None:
        assert receive_all(connection) == b"question"
        connection.sendall(content_of(1))

    with linked(link_proxy, tmp_path, LIMITED, answer) as link, visit(link) as connection:
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == content_of(1)


def test_a_server_that_speaks_first_is_heard(link_proxy: Path, tmp_path: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello")

    with linked(link_proxy, tmp_path, LIMITED, greet) as link, visit(link) as connection:
        assert receive_all(connection) == b"hello"


def test_a_client_that_does_not_read_holds_nobody_else_up(link_proxy: Path, tmp_path: Path) -> None:
    poured = 64 << 20

    def pour(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(bytes(poured) if connection.recv(1) == b"x" else b"y")

    with linked(link_proxy, tmp_path, UNLIMITED, pour) as link, visit(link) as idle:
        idle.sendall(b"x")
        # What was taken from the server stops growing, long before it is all.
        crossed, before = link.get_traffic().down_bytes, -1
        while crossed != before and crossed < poured:
            time.sleep(0.1)
            before, crossed = crossed, link.get_traffic().down_bytes
        assert 0 < crossed < poured
        with visit(link) as connection:
            connection.sendall(b"-")
            assert receive_all(connection) == b"y"


def test_a_client_that_reads_in_small_bits_gets_all_bytes(link_proxy: Path, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(4 << 20)

    def pour(connection: socket.socket) -> None:
        connection.sendall(content)

    with linked(link_proxy, tmp_path, UNLIMITED, pour) as link, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", link.port))
        time.sleep(0.05)
        assert receive_all(connection) == content


def test_a_connection_to_a_server_that_is_not_there_is_reset(
    link_proxy: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def ask(link: Link) -> None:
        # The reset may come before the client knows that it is connected.
        with visit(link) as connection:
            connection.recv(1)

    counters = tmp_path / "counters"
    with open_link(link_proxy, port, counters, UNLIMITED) as link, pytest.raises(ConnectionError):
        ask(link)


def test_requests_are_told_from_bodies(link_proxy: Path, tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        while connection.recv(1000):
            connection.sendall(b"ok")

    with linked(link_proxy, tmp_path, UNLIMITED, answer) as link, visit(link) as connection:
        for words in (b"GET /a", b"PUT /b", b"body of it", b"HEAD /", b"GETTING"):
            connection.sendall(words)
            assert connection.recv(2) == b"ok"
        assert link.get_traffic().requests == 3


def test_another_speed_keeps_the_port_and_the_counters(link_proxy: Path, tmp_path: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello")

    with linked(link_proxy, tmp_path, UNLIMITED, greet) as link:
        for speed in (LIMITED, UNLIMITED):
            port = link.port
            link.set_speed(speed)
            assert link.port == port
            with visit(link) as connection:
                assert receive_all(connection) == b"hello"
        assert link.get_traffic().down_bytes == 10
        assert link.get_traffic().connections == 2


@pytest.mark.parametrize("up", [True, False])
def test_the_ceiling_is_measured_by_bytes_that_crossed(
    link_proxy: Path, tmp_path: Path, up: bool
) -> None:
    carried = measure_ceiling(link_proxy, tmp_path, LIMITED, 8 << 20, up=up)
    crossed = (carried.traffic.up_bytes, carried.traffic.down_bytes)
    assert crossed == ((8 << 20, 0) if up else (0, 8 << 20))
    assert carried.byte_count == 8 << 20
