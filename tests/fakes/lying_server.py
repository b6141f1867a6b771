"""Liar: an HTTP server on loopback that says what a test makes it say, whatever is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Reply:
    """What the liar says: headers as given, Content-Length only if among them; with
    `seconds_between_bytes` the body byte by byte."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds_between_bytes: float = 0.0


def error_reply(status: int, code: str, headers: dict[str, str] | None = None) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so</Message></Error>".encode()
    return Reply(status, body, {"Content-Length": str(len(body)), **(headers or {})})


class Liar:
    """An HTTP server that says what `answer` says, whatever is asked. `requests` are what was
    asked: (verb, path)."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], Reply] = lambda _: Reply(500)
        self.requests: list[tuple[str, str]] = []
        self.is_closing = Event()
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                liar.requests.append((self.command, self.path))
                reply = liar.answer(self)
                if "Date" in reply.headers:
                    self.send_response_only(reply.status)
                else:
                    self.send_response(reply.status)
                self.send_header("Connection", "close")
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.seconds_between_bytes:
                    self.trickle(reply)
                else:
                    self.wfile.write(reply.body)

            def trickle(self, reply: Reply) -> None:
                with suppress(OSError):
                    for byte in reply.body:
                        self.wfile.write(bytes([byte]))
                        if liar.is_closing.wait(reply.seconds_between_bytes):
                            return

            do_GET = do_PUT = do_DELETE = do_HEAD = reply  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing: tests look at `requests`."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def always(self, reply: Reply) -> None:
        self.answer = lambda _: reply


@contextmanager
def serve_liar() -> Iterator[Liar]:
    liar = Liar()
    # A short poll: shutdown waits for it.
    thread = Thread(target=liar.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield liar
    finally:
        liar.is_closing.set()
        liar.server.shutdown()
        thread.join()
        liar.server.server_close()
