"""What the answers of an S3 server mean: error codes to the errors of this project, and whether an
answer to a range is the range that was asked for. Pure; knows no library.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from store.errors import (
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.shown_names import escape_text

_ELSEWHERE = "the bucket lies elsewhere; set the remote's region and endpoint right"
_MISCONFIGURED = {
    "NoSuchBucket": "there is no such bucket; check its name, region and endpoint",
    "InvalidBucketName": "no bucket can have this name",
    "PermanentRedirect": _ELSEWHERE,
    "TemporaryRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "RequestTimeTooSkewed": "the clock of this machine is off; set it right",
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
    """An error as the server gave it: S3's code (may be empty), the HTTP status, and its words."""

    code: str
    status: int
    message: str = ""

    def __str__(self) -> str:
        return escape_text(f"{self.code} ({self.status}) {self.message}".strip())

    def is_about_credentials(self) -> bool:
        """Whether the credentials themselves are refused, and not one object or one verb."""
        return self.code in _BAD_CREDENTIALS or self.status == HTTPStatus.UNAUTHORIZED


def translate_answer(answer: Answer, where: str) -> RemoteError:
    """The error that stands for `answer`; `where` names the remote and the key."""
    if answer.code in _MISCONFIGURED:
        return RemoteMisconfigured(f"{where}: {_MISCONFIGURED[answer.code]}: {answer}")
    if 300 <= answer.status < 400:
        return RemoteMisconfigured(f"{where}: {_ELSEWHERE}: {answer}")
    if answer.is_about_credentials():
        return RemoteDenied(
            f"{where}: the credentials are refused: {answer}; check them, or log in again"
        )
    if answer.status == HTTPStatus.FORBIDDEN or answer.code == "AccessDenied":
        return RemoteDenied(f"{where}: not allowed: {answer}; check what the credentials may do")
    if answer.code in _BUSY or answer.status in _BUSY_STATUSES:
        return RemoteUnavailable(f"{where}: the server cannot answer now: {answer}")
    if answer.status == HTTPStatus.NOT_FOUND:
        return ObjectMissing(f"{where}: there is no such object")
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RemoteUnavailable(f"{where}: the object ends before the range that was asked for")
    return RemoteError(f"{where}: {answer}")


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


def stay_with_host(context: dict[str, Any], **_: object) -> None:
    """Mark a request as redirected already, so that botocore follows no answer to another host."""
    context["s3_redirect"]["redirected"] = True
