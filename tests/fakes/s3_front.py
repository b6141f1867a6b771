"""S3Front: an HTTP server before a real S3 server, which counts what is asked and what passes, and
answers in its place where a test says so.

Requests go on as they came, with their signatures, which name the front's own address. Nothing of
pytest is here, so that long runs can use it too.
"""

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.lying_server import Reply
from tests.fakes.s3_servers import S3Server

_BLOCK_BYTES = 256 * 1024
_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `verb` is GET, PUT, DELETE or LIST; `key` is the object's, or the prefix of a
    list; `first` and `last` are of the Range of a GET, or None; `headers` by their lower names."""

    verb: str
    bucket: str
    key: str
    first: int | None
    last: int | None
    headers: dict[str, str]


Answer = Callable[[Asked], Reply | None]
"""What the front says in the server's place; None where the server is to be asked."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Hundreds may come at once.
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Nothing on stderr."""


class S3Front:
    """The front of `server`. `asked` are all requests in order, `passed` those that the server
    answered well."""

    def __init__(self, server: S3Server) -> None:
        self.answer: Answer = lambda _: None
        self.asked: list[Asked] = []
        self.passed: list[Asked] = []
        self._lock = threading.Lock()
        self.behind = server.address
        handler = type("Handler", (_Handler,), {"front": self})
        self._http = _Server(("127.0.0.1", 0), handler)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self._http.server_address[1]

    @property
    def endpoint(self) -> str:
        """The front as the endpoint of an S3 server."""
        return f"http://127.0.0.1:{self.address[1]}"

    def verbs(self) -> Counter[str]:
        """How often each verb was asked for."""
        return Counter(asked.verb for asked in self.asked)

    def note(self, asked: Asked) -> Reply | None:
        """A request has come; what to say in the server's place."""
        with self._lock:
            self.asked.append(asked)
        return self.answer(asked)

    def note_passed(self, asked: Asked) -> None:
        """The server has answered one well."""
        with self._lock:
            self.passed.append(asked)

    def serve(self) -> None:
        """Serve until `stop`."""
        self._http.serve_forever(0.02)

    def stop(self) -> None:
        """Take no more connections."""
        self._http.shutdown()
        self._http.server_close()


@contextlib.contextmanager
def serve_front(server: S3Server) -> Iterator[S3Front]:
    """A front of `server`, in threads of this process."""
    front = S3Front(server)
    thread = threading.Thread(target=front.serve)
    thread.start()
    try:
        yield front
    finally:
        front.stop()
        thread.join()


def read_request(command: str, target: str, headers: dict[str, str]) -> Asked:
    """What a request to an endpoint of path style asks for."""
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query)
    if command == "GET" and "list-type" in query:
        return Asked("LIST", bucket, query.get("prefix", [""])[0], None, None, headers)
    covered = headers.get("range", "").removeprefix("bytes=").partition("-")
    first, last = (int(part) if part.isdecimal() else None for part in (covered[0], covered[2]))
    return Asked(command, bucket, key, first, last, headers)


class _Handler(BaseHTTPRequestHandler):
    """One connection to the front, and one of its own to the server behind."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front: S3Front
    behind: http.client.HTTPConnection

    def setup(self) -> None:
        super().setup()
        self.behind = http.client.HTTPConnection(*self.front.behind)

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = read_request(self.command, self.path, headers)
        reply = self.front.note(asked)
        if reply is None:
            self._ask(asked, body)
        else:
            self._begin(reply.status, reply.headers)
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = pass_on  # noqa: N815

    def handle(self) -> None:
        # A client may hang up at any time.
        with contextlib.suppress(OSError):
            super().handle()

    def finish(self) -> None:
        self.behind.close()
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at `asked`."""

    def _ask(self, asked: Asked, body: bytes) -> None:
        try:
            headers = dict(self.headers.items())
            self.behind.request(self.command, self.path, body or None, headers)
            answer = self.behind.getresponse()
        except (OSError, http.client.HTTPException):
            self.behind.close()
            self.close_connection = True
            return
        if answer.status < 300:
            self.front.note_passed(asked)
        self._pass_back(answer)

    def _pass_back(self, answer: http.client.HTTPResponse) -> None:
        kept = {n: v for n, v in answer.getheaders() if n.lower() not in _NOT_PASSED_ON}
        whole = answer.read() if answer.length is None else b""
        length = len(whole) if answer.length is None else answer.length
        self._begin(answer.status, {**kept, "Content-Length": str(length)})
        try:
            self.wfile.write(whole)
            while block := answer.read(_BLOCK_BYTES):
                self.wfile.write(block)
        except OSError:
            self.behind.close()
            self.close_connection = True

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
