"""An S3 server that is honest about a folder but for one lie, told whenever a part of a pack is
asked for, or a list."""

import email.utils
import gzip
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fakes.lying_server import Liar, Reply, error_reply

BUCKET = "lies"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_TIME = "2026-01-02T03:04:05.000Z"

Lie = Callable[[Reply, bytes, int, int], Reply]
"""The reply in place of an honest one to a GET of bytes start to end (exclusive) of an object."""


def reply_with(body: bytes, status: int = 200, **headers: str) -> Reply:
    """A reply that states the length of its body, and whatever else is said."""
    return Reply(status, body, {"Content-Length": str(len(body)), **headers})


def _forged(honest: Reply, *_: object) -> Reply:
    return replace(honest, body=random.Random(1).randbytes(len(honest.body)))


def _other_bytes(honest: Reply, whole: bytes, start: int, end: int) -> Reply:
    """The last bytes of the pack, under the head of those that were asked for."""
    return replace(honest, body=whole[-(end - start) :])


def _whole(_: Reply, whole: bytes, *__: int) -> Reply:
    return reply_with(whole)


def _other_range(honest: Reply, whole: bytes, start: int, end: int) -> Reply:
    heads = {"Content-Range": f"bytes {start + 1}-{end}/{len(whole)}"}
    return reply_with(honest.body, 206, **heads)


def _cut(honest: Reply, *_: object) -> Reply:
    # Of an honest one the next answer would have to bring no more than the last byte.
    return replace(honest, body=_forged(honest).body[:-1])


def _short(honest: Reply, *_: object) -> Reply:
    body = honest.body[:-1]
    return Reply(206, body, honest.headers | {"Content-Length": str(len(body))})


def _long(honest: Reply, *_: object) -> Reply:
    body = honest.body + b"more"
    return Reply(206, body, honest.headers | {"Content-Length": str(len(body))})


def _squeezed(honest: Reply, *_: object) -> Reply:
    body = gzip.compress(honest.body)
    heads = {"Content-Length": str(len(body)), "Content-Encoding": "gzip"}
    return Reply(206, body, honest.headers | heads)


def _page(*_: object) -> Reply:
    return reply_with(b"<html>please log in \x1b[2J</html>", 206, **{"Content-Type": "text/html"})


def _nonsense(*_: object) -> Reply:
    return Reply(206, b"", {"Content-Length": "9" * 5000, "Content-Range": "\u00b2"})


def _trickle(honest: Reply, *_: object) -> Reply:
    return replace(honest, seconds_between_bytes=0.3)


def _redirect_error(*_: object) -> Reply:
    return error_reply(200, "InternalError")


LIES: dict[str, Lie] = {
    "forged": _forged,
    "other-bytes": _other_bytes,
    "whole": _whole,
    "other-range": _other_range,
    "cut": _cut,
    "short": _short,
    "long": _long,
    "squeezed": _squeezed,
    "page": _page,
    "nonsense": _nonsense,
    "trickle": _trickle,
    "error-as-success": _redirect_error,
}


@dataclass
class LyingBucket:
    """Answers for `folder`, until told otherwise by `lie`. While `endless` is set a list never
    comes to its end."""

    folder: Path
    lie: Lie | None = None
    endless: bool = False
    told: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> Reply:
        """The reply to a request."""
        parts = urlsplit(request.path)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            return self._list(parse_qs(parts.query).get("prefix", [""])[0])
        path = self.folder / key
        if not path.is_file():
            return error_reply(404, "NoSuchKey")
        whole = path.read_bytes()
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is None:
            return reply_with(whole)
        start, end = int(wanted[1]), int(wanted[2]) + 1
        heads = {"Content-Range": f"bytes {start}-{end - 1}/{len(whole)}"}
        honest = reply_with(whole[start:end], 206, **heads)
        if self.lie is None:
            return honest
        self.told.append(key)
        return self.lie(honest, whole, start, end)

    def _list(self, prefix: str) -> Reply:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        keys = [path.relative_to(self.folder).as_posix() for path in paths]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>1</Size><LastModified>{_TIME}</LastModified>"
            "</Contents>"
            for key in keys
            if key.startswith(prefix)
        )
        more = "<IsTruncated>false</IsTruncated>"
        if self.endless:
            self.told.append("list")
            more = (
                "<IsTruncated>true</IsTruncated>"
                f"<NextContinuationToken>{len(self.told)}</NextContinuationToken>"
            )
        return reply_with(f"<ListBucketResult>{more}{entries}</ListBucketResult>".encode())


def serve(liar: Liar, folder: Path) -> LyingBucket:
    """Have the server answer for a folder."""
    bucket = LyingBucket(folder)
    liar.answer = bucket.answer
    return bucket


def redirect_to(elsewhere: str) -> Lie:
    """Send whoever asks to another host, which would answer."""

    def lie(_: Reply, __: bytes, start: int, end: int) -> Reply:
        heads = {"Location": f"{elsewhere}/{BUCKET}/x", "Date": email.utils.formatdate()}
        error = error_reply(307, "TemporaryRedirect", heads)
        return replace(error, headers=error.headers | {"x-amz-bucket-region": "eu-west-1"})

    return lie
