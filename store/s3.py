"""S3Remote: a remote in a bucket. All calls of boto3 are here, in worker threads, and what its
errors mean (`_explain`).
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import boto3
import botocore.exceptions as boto_errors
import botocore.session
import trio
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from store.credential_files import look_at_credentials
from store.errors import (
    MalformedObject,
    RemoteDenied,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.range_sink import RangeSink
from store.remote import ObjectInfo, Refusals
from store.s3_access import Access, Call, ForeignErrors, Meaning
from store.s3_answers import (
    explain_answer,
    get_range_fault,
    read_answer,
    read_listed,
    stay_with_host,
    unreadable_refused,
)
from store.s3_bodies import RangeAnswer, check_deadline, open_upload, read_blocks, read_body

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef

Result = TypeVar("Result")

CONNECT_SECONDS = 5
SILENCE_SECONDS = 15
"""A server that says nothing for this long has failed the call."""

PLAIN_BODY_BYTES = 64 * 1024
"""Bodies up to here are sent at once; larger ones block by block, under the caller's deadline."""

_BOTO_ERRORS = (boto_errors.BotoCoreError, boto_errors.ClientError)
_NO_CREDENTIALS = (
    boto_errors.NoCredentialsError,
    boto_errors.PartialCredentialsError,
    boto_errors.CredentialRetrievalError,
    boto_errors.MetadataRetrievalError,
    boto_errors.RefreshWithMFAUnsupportedError,
    boto_errors.NoAuthTokenError,
    boto_errors.TokenRetrievalError,
    boto_errors.SSOError,
    # Of `aws login`, which older botocores do not know.
    getattr(boto_errors, "LoginError", boto_errors.SSOError),
)
_NO_ANSWER = (
    boto_errors.HTTPClientError,
    boto_errors.ConnectionError,
    boto_errors.IncompleteReadError,
    ResponseParserError,
    HTTPError,
    TimeoutError,
)
# Of a signature of the kind that _Connection can make: the region that it is for.
_SIGNED = re.compile(
    r"(?:b')?AWS4-HMAC-SHA256 Credential=[^,]*/\d{8}/([a-z0-9-]+)/s3/aws4_request,"
)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9/_.-]+")  # that stands in a url as it is
_NOT_SHOWN = ("", "")
_OWN_OPERATIONS = {"GetObject", "PutObject", "ListObjectsV2", "DeleteObject"}


@dataclass(frozen=True, slots=True)
class S3Location:
    """Where a remote lies. `prefix` is without slashes at its ends, and may be empty; what is None
    is left to boto3's own chain of configuration."""

    bucket: str
    prefix: str
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None


class S3Remote:
    """The objects under a prefix of a bucket.

    Make it after any fork, and not in two threads at once: the client is made here. Reads that are
    cancelled or late are left to their thread, which ends at its next block. Writes are waited for,
    so that their outcome is known: a body that is late or cancelled is cut at its next block, and
    what then remains is one silence of the server at most.

    What is refused (RemoteDenied, RemoteMisconfigured) is asked for once a minute at most, by a
    client that has read the credentials anew, and at once when their files have changed; until then
    such calls fail without asking the server. `clock` tells those seconds.
    """

    def __init__(
        self,
        location: S3Location,
        *,
        connections: int = 40,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._location = location
        self._root = f"{location.prefix}/" if location.prefix else ""
        self._limiter = trio.CapacityLimiter(connections)
        make = partial(_connect, location, connections)
        look = partial(look_at_credentials, os.environ, Path.home())
        self._access = Access(self.url, make, _FOREIGN, clock, look)

    @property
    def url(self) -> str:
        """s3://bucket/prefix"""
        return f"s3://{self._location.bucket}/{self._location.prefix}".rstrip("/")

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """See Remote.fetch."""

        def get(connection: "_Connection", deadline: float) -> bytes:
            answer = connection.client.get_object(
                Bucket=self._location.bucket, Key=self._root + key
            )
            with answer["Body"] as stream:
                # Where the head of an answer is cut, its length is gone, and so is the body's end.
                size = answer.get("ContentLength")
                if size is None or size < 0:
                    raise RemoteUnavailable(f"{self.url}: the answer for {key} states no length")
                if size > max_bytes:
                    raise MalformedObject(f"{self.url}: {key} is larger than {max_bytes} bytes")
                content = read_body(stream, size + 1, deadline)
            if len(content) != size:
                raise RemoteUnavailable(f"{self.url}: the answer for {key} was cut short")
            return content

        return await self._run(get, Call("GET", key), timeout_seconds, abandon=True)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        """See Remote.fetch_range."""

        def get(connection: "_Connection", deadline: float) -> bytes:
            return b"".join(self._read_range(connection, key, start, length, deadline))

        return await self._run(get, Call("GET", key), timeout_seconds, abandon=True)

    async def stream_range(
        self, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
    ) -> None:
        """See StreamingRemote.stream_range."""

        def get(connection: "_Connection", deadline: float) -> None:
            # In this order: from there on no earlier attempt gives any more.
            take, done = sink.begin(), sink.taken_bytes
            for block in self._read_range(connection, key, start + done, length - done, deadline):
                take(block)

        await self._run(get, Call("GET", key), timeout_seconds, abandon=True)

    def _read_range(
        self, connection: "_Connection", key: str, start: int, length: int, deadline: float
    ) -> Iterator[bytes]:
        """The blocks of a range while they arrive; raises where they are not exactly the range."""
        wanted = f"bytes={start}-{start + length - 1}"
        answer = connection.get_range(self._location.bucket, self._root + key, wanted)
        left = length
        with answer.body as stream:
            fault = get_range_fault(
                answer.status, answer.content_range, answer.content_length, start, length
            )
            for block in () if fault else read_blocks(stream, length + 1, deadline):
                left -= len(block)
                if left < 0:
                    break
                yield block
        if fault or left:
            fault = fault or f"{length - left} bytes in place of {length}"
            raise RemoteUnavailable(f"{self.url}: wrong answer for a range of {key}: {fault}")

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        """See Remote.put. One request, whatever the size."""

        def put(connection: "_Connection", deadline: float) -> None:
            with open_upload(body, deadline) as stream:
                connection.client.put_object(
                    Bucket=self._location.bucket,
                    Key=self._root + key,
                    Body=cast(IO[bytes], stream)
                    if stream.size > PLAIN_BODY_BYTES
                    else stream.read(),
                    ContentLength=stream.size,
                )

        await self._run(put, Call("PUT", key), timeout_seconds, abandon=False)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        """See Remote.list_objects."""

        def scan(connection: "_Connection", deadline: float) -> list[ObjectInfo]:
            found: list[ObjectInfo] = []
            page: ListObjectsV2RequestTypeDef = {
                "Bucket": self._location.bucket,
                "Prefix": self._root + prefix,
            }
            while True:
                check_deadline(deadline)
                answer = connection.client.list_objects_v2(**page)
                found += read_listed(answer.get("Contents", []), self._root, prefix, self.url)
                # botocore reads an empty body as an empty list; only a whole one says if it ends.
                more, token = answer.get("IsTruncated"), answer.get("NextContinuationToken")
                if more is False:
                    return sorted(found, key=lambda info: info.key)
                if more is None or not token or token == page.get("ContinuationToken"):
                    raise RemoteUnavailable(f"{self.url}: the list of {prefix} breaks off")
                page["ContinuationToken"] = token

        return await self._run(scan, Call("LIST", prefix), timeout_seconds, abandon=True)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """See Remote.delete."""

        def delete(connection: "_Connection", deadline: float) -> None:
            try:
                connection.client.delete_object(Bucket=self._location.bucket, Key=self._root + key)
            except boto_errors.ClientError as error:
                # S3 answers 204 for what is not there; some of its like say so.
                if read_answer(error.response, time.time()).code != "NoSuchKey":
                    raise

        await self._run(delete, Call("DELETE", key), timeout_seconds, abandon=False)

    def local_path(self, key: str) -> None:
        """None: nothing here is a local file."""

    def get_refusals(self) -> Refusals:
        """See RefusingRemote."""
        return self._access.get_refusals()

    async def close(self) -> None:
        """Close the idle connections."""
        self._access.close()

    async def _run(
        self,
        work: Callable[["_Connection", float], Result],
        call: Call,
        timeout_seconds: float,
        *,
        abandon: bool,
    ) -> Result:
        """What `work` returns in a thread, given the connection and its deadline (monotonic)."""
        deadline = time.monotonic() + timeout_seconds

        def use() -> Result:
            with self._access.use(call) as connection, unreadable_refused(self.url, call.key):
                return work(connection, deadline)

        try:
            with trio.move_on_after(timeout_seconds):
                return await trio.to_thread.run_sync(
                    use, abandon_on_cancel=abandon, limiter=self._limiter
                )
        except trio.Cancelled:
            self._leave_behind()
            raise
        self._leave_behind()
        raise RemoteUnavailable(f"{self.url}: {call.key}: no answer within {timeout_seconds:g} s")

    def _leave_behind(self) -> None:
        """A call was late: what is idle may be as dead as its connection, and threads that wait on
        dead ones, 15 s or more, must not keep others from asking."""
        self._access.close()
        if not self._limiter.available_tokens:
            self._limiter = trio.CapacityLimiter(self._limiter.total_tokens)


class _Connection:
    """A client, and a way round it for ranges: of what a GET costs the processor, more than half
    is what botocore does before it is signed and after it is sent.

    The first range goes the ordinary way, and shows where and how; those that follow are signed
    and sent by the same parts of botocore without the rest. Whatever is answered but a range is
    asked for once more in the ordinary way, which knows what it means.
    """

    def __init__(self, client: "S3Client") -> None:
        self.client = client
        # The url of the last request that went the ordinary way, and the region it was signed for;
        # and, once that is known, the url before any key, and that region.
        self._seen = self._shown = _NOT_SHOWN
        client.meta.events.register("before-send.s3.GetObject", self._look_at)

    def close(self) -> None:
        """Close the idle connections."""
        self.client.close()

    def get_range(self, bucket: str, key: str, wanted: str) -> RangeAnswer:
        """The answer to a GET of a key with that Range. Raises boto3's errors."""
        is_plain = _PLAIN_KEY.fullmatch(key) is not None
        if is_plain and self._shown is not _NOT_SHOWN:
            answer = self._send(*self._shown, key, wanted)
            if answer is not None and answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                return answer
            if answer is not None:
                answer.body.close()
        got = self.client.get_object(Bucket=bucket, Key=key, Range=wanted)
        url, region = self._seen
        if is_plain and url.endswith(f"/{key}"):
            self._shown = url.removesuffix(key), region
        status = got["ResponseMetadata"]["HTTPStatusCode"]
        return RangeAnswer(status, got.get("ContentRange"), got.get("ContentLength"), got["Body"])

    def _send(self, base: str, region: str, key: str, wanted: str) -> RangeAnswer | None:
        parts: Any = self.client
        request = AWSRequest("GET", base + key, {"Range": wanted})
        try:
            credentials = parts._request_signer._credentials.get_frozen_credentials()
            session = parts._endpoint.http_session
        except AttributeError:
            # Another botocore, with other parts.
            self._seen = self._shown = _NOT_SHOWN
            self.client.meta.events.unregister("before-send.s3.GetObject", self._look_at)
            return None
        S3SigV4Auth(credentials, "s3", region).add_auth(request)
        prepared = request.prepare()
        prepared.stream_output = True
        answer = session.send(prepared)
        covered, size = (answer.headers.get(f"Content-{name}") for name in ("Range", "Length"))
        length = int(size) if size and size.isdecimal() and len(size) < 20 else None
        return RangeAnswer(answer.status_code, covered, length, answer.raw)

    def _look_at(self, request: Any, **_: object) -> None:
        signed = _SIGNED.match(str(request.headers.get("Authorization", "")))
        self._seen = _NOT_SHOWN if signed is None else (request.url, signed[1])


def _connect(location: S3Location, connections: int) -> _Connection:
    session = botocore.session.Session(profile=location.profile)
    # A role that wants a one-time password would have botocore ask on the terminal, in a daemon.
    roles = session.get_component("credential_provider").get_provider("assume-role")
    roles._prompter = _refuse_prompt
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SILENCE_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # The newer defaults break many servers that speak S3.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if location.endpoint else None,
    )
    client: S3Client = boto3.session.Session(
        botocore_session=session, region_name=location.region
    ).client("s3", endpoint_url=location.endpoint, config=config)
    client.meta.events.register("before-call.s3", stay_with_host)
    return _Connection(client)


def _refuse_prompt(_prompt: str) -> str:
    raise boto_errors.RefreshWithMFAUnsupportedError


def _explain(error: Exception, url: str, call: Call | None) -> Meaning:
    """What one of boto3's errors means; see ForeignErrors."""
    where = url if call is None else f"{url}: {call.key}"
    code = type(error).__name__
    if isinstance(error, boto_errors.ClientError):
        # Any other operation than ours is botocore's, on its way to credentials.
        is_ours = error.operation_name in _OWN_OPERATIONS
        return explain_answer(read_answer(error.response, time.time()), url, call, is_ours=is_ours)
    if isinstance(error, _NO_CREDENTIALS):
        words = f"{url}: no usable credentials: {error}; set them up, or log in again"
        return Meaning(RemoteDenied(words), code, everything=True)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        words = f"{url}: the server's certificate is not trusted: {error}"
        return Meaning(RemoteMisconfigured(words), code, everything=True)
    if isinstance(error, _NO_ANSWER):
        words = f"{where}: no usable answer: {str(error) or 'out of time'}"
        return Meaning(RemoteUnavailable(words), is_silence=True)
    return Meaning(RemoteMisconfigured(f"{where}: {error}"), code, everything=True)


_FOREIGN = ForeignErrors((*_BOTO_ERRORS, *_NO_ANSWER), _explain)
