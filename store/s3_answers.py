"""What the answers of an S3 server mean: error codes to the errors of this project, and whether an
answer to a range is the range that was asked for. Pure; knows no library.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from store.errors import (
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.remote import ObjectInfo
from store.s3_access import Call, Meaning
from store.shown_names import escape_text

_ELSEWHERE = "the bucket lies elsewhere; set the remote's region and endpoint right"
_MISCONFIGURED = {
    "NoSuchBucket": "there is no such bucket; check its name, region and endpoint",
    "InvalidBucketName": "no bucket can have this name",
    "PermanentRedirect": _ELSEWHERE,
    "TemporaryRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
}
_BAD_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
# What S3 itself bears between its clock and that of who asks, in seconds.
_MOST_SKEW_SECONDS = 15 * 60.0
_LEAST_SKEW_SECONDS = 60.0
_VERBS = {
    "GET": ("read", "s3:GetObject"),
    "PUT": ("write", "s3:PutObject"),
    "LIST": ("list", "s3:ListBucket"),
    "DELETE": ("delete", "s3:DeleteObject"),
}
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "Unauthorized",
}
_BUSY = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_BUSY_STATUSES = {408, 409, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as the server gave it: S3's code (may be empty), the HTTP status, and its words.
    `ahead_seconds` is how far our clock is ahead of the server's, where it told the time."""

    code: str
    status: int
    message: str = ""
    ahead_seconds: float | None = None

    def __str__(self) -> str:
        return escape_text(f"{self.code} ({self.status}) {self.message}".strip())

    @property
    def is_about_clock(self) -> bool:
        """Whether a signature was refused because it is of another time, whatever the words."""
        if self.code in _BAD_CLOCK:
            return True
        is_off = self.ahead_seconds is not None and abs(self.ahead_seconds) > _MOST_SKEW_SECONDS
        return is_off and (self.is_about_credentials or self.status == HTTPStatus.FORBIDDEN)

    @property
    def is_about_credentials(self) -> bool:
        """Whether the credentials themselves are refused, and not one object or one verb."""
        return self.code in _BAD_CREDENTIALS or self.status == HTTPStatus.UNAUTHORIZED

    @property
    def is_about_everything(self) -> bool:
        """Whether any other call would be refused as well."""
        is_elsewhere = 300 <= self.status < 400
        is_refused = self.is_about_clock or self.is_about_credentials
        return self.code in _MISCONFIGURED or is_elsewhere or is_refused


def translate_answer(answer: Answer, where: str, verb: str = "GET") -> RemoteError:
    """The error that stands for `answer` to GET, PUT, LIST or DELETE; `where` names the remote and,
    if it matters, the key."""
    if answer.is_about_clock:
        return RemoteMisconfigured(f"{where}: {_say_clock(answer.ahead_seconds)}: {answer}")
    if answer.code in _MISCONFIGURED:
        return RemoteMisconfigured(f"{where}: {_MISCONFIGURED[answer.code]}: {answer}")
    if 300 <= answer.status < 400:
        return RemoteMisconfigured(f"{where}: {_ELSEWHERE}: {answer}")
    if answer.is_about_credentials:
        return RemoteDenied(
            f"{where}: the credentials are refused: {answer}; check them, or log in again"
        )
    if answer.status == HTTPStatus.FORBIDDEN or answer.code == "AccessDenied":
        what, right = _VERBS[verb]
        return RemoteDenied(
            f"{where}: not allowed to {what}: {answer}; the credentials need {right}"
        )
    if answer.code in _BUSY or answer.status in _BUSY_STATUSES:
        return RemoteUnavailable(f"{where}: the server cannot answer now: {answer}")
    if answer.status == HTTPStatus.NOT_FOUND:
        return ObjectMissing(f"{where}: there is no such object")
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RemoteUnavailable(f"{where}: the object ends before the range that was asked for")
    return RemoteError(f"{where}: {answer}")


def read_answer(response: Mapping[str, Any], now_seconds: float) -> Answer:
    """The answer in boto3's form of one, which came at `now_seconds` since 1970 by our clock."""
    said, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    date, ahead = about.get("HTTPHeaders", {}).get("date"), None
    with suppress(ValueError, OverflowError):
        ahead = None if date is None else now_seconds - parsedate_to_datetime(date).timestamp()
    return Answer(
        said.get("Code", ""), about.get("HTTPStatusCode", 0), said.get("Message", ""), ahead
    )


def explain_answer(answer: Answer, url: str, call: Call | None, *, is_ours: bool) -> Meaning:
    """What `answer` means for the remote at `url`. One that `is_ours` no more was to a question
    about credentials; for `call` None, a client was to be made."""
    everything = not is_ours or answer.is_about_everything
    where = url if everything or call is None else f"{url}: {call.key}"
    failure = translate_answer(answer, where, "GET" if call is None else call.verb)
    is_refusal = isinstance(failure, RemoteDenied | RemoteMisconfigured)
    return Meaning(failure, answer.code or str(answer.status) if is_refusal else "", everything)


def _say_clock(ahead_seconds: float | None) -> str:
    if ahead_seconds is None or abs(ahead_seconds) < _LEAST_SKEW_SECONDS:
        return "the clock of this machine is off; set it right"
    side = "ahead of" if ahead_seconds > 0 else "behind"
    return (
        f"the clock of this machine is {abs(ahead_seconds) / 60:.0f} minutes {side} the server's; "
        "set it right"
    )


def get_range_fault(
    status: int, content_range: str | None, size: int | None, start: int, length: int
) -> str | None:
    """What is wrong with the head of an answer to a GET of `length` bytes from `start`; None if
    nothing is. `size` is its Content-Length."""
    # rclone and its like answer a range right, but with 200; Content-Range is what tells.
    if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return f"status {status}"
    if content_range is None:
        return f"status {status}, of no stated range"
    if not re.fullmatch(rf"bytes {start}-{start + length - 1}/(\d+|\*)", content_range):
        return f"it is of {content_range}"
    return None if size == length else f"{size} bytes in place of {length}"


def read_listed(
    entries: Iterable[Mapping[str, Any]], root: str, prefix: str, where: str
) -> Iterator[ObjectInfo]:
    """The objects of a list of what lies under `root` and `prefix`; `where` names the remote.

    Raises RemoteError for an object from elsewhere, and RemoteUnavailable for one without its key,
    size or date, which botocore does not mind.
    """
    for entry in entries:
        key, size, changed = (entry.get(name) for name in ("Key", "Size", "LastModified"))
        if key is None or size is None or changed is None:
            raise RemoteUnavailable(f"{where}: the list of {prefix} is not whole")
        if not key.startswith(root + prefix):
            raise RemoteError(f"{where}: {key!r} was listed under {prefix!r}")
        yield ObjectInfo(key[len(root) :], size, changed.timestamp())


@contextmanager
def unreadable_refused(url: str, key: str) -> Iterator[None]:
    """Make numbers and dates in an answer that are none, of which botocore and Python say that they
    are wrong values, a RemoteUnavailable."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise RemoteUnavailable(f"{url}: {key}: the answer cannot be read: {error}") from error


def stay_with_host(context: dict[str, Any], **_: object) -> None:
    """Mark a request as redirected already, so that botocore follows no answer to another host."""
    context["s3_redirect"]["redirected"] = True
