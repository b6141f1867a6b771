"""S3Remote: a remote in a bucket. Every call of boto3 in the project is here, in worker threads.

Also here: what boto3's errors mean (`_translate`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import boto3
import botocore.exceptions as boto_errors
import botocore.session
import trio
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from store.errors import (
    MalformedObject,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.range_sink import RangeSink
from store.remote import ObjectInfo
from store.s3_access import Access, ForeignErrors
from store.s3_answers import Answer, get_range_fault, translate_answer
from store.s3_bodies import check_deadline, open_upload, read_blocks, read_body

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef

Result = TypeVar("Result")

CONNECT_SECONDS = 5
SILENCE_SECONDS = 15
"""A server that says nothing for this long has failed the call."""

PLAIN_BODY_BYTES = 64 * 1024
"""Bodies up to here are sent at once; larger ones block by block, under the caller's deadline."""

_BOTO_ERRORS = (boto_errors.BotoCoreError, boto_errors.ClientError, ResponseParserError)
_NO_CREDENTIALS = (
    boto_errors.NoCredentialsError,
    boto_errors.PartialCredentialsError,
    boto_errors.CredentialRetrievalError,
    boto_errors.MetadataRetrievalError,
    boto_errors.RefreshWithMFAUnsupportedError,
    boto_errors.NoAuthTokenError,
    boto_errors.TokenRetrievalError,
    boto_errors.SSOError,
    # Of `aws login`, which the older botocores that we allow do not know.
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

    After a refusal (RemoteDenied) the credentials are read anew for a later call, after a pause
    that doubles from 1 s to 60 s. Where the credentials themselves were refused, calls in the
    pause fail at once, without asking the server. `clock` tells the seconds of those pauses.
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
        make = partial(_make_client, location, connections)
        self._access = Access(self.url, make, _FOREIGN, clock)

    @property
    def url(self) -> str:
        """s3://bucket/prefix"""
        return f"s3://{self._location.bucket}/{self._location.prefix}".rstrip("/")

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """See Remote.fetch."""

        def get(client: "S3Client", deadline: float) -> bytes:
            answer = client.get_object(Bucket=self._location.bucket, Key=self._root + key)
            with answer["Body"] as stream:
                # Where the head of an answer is cut, its length is gone, and so is the body's end.
                size = answer.get("ContentLength")
                if size is None:
                    raise RemoteUnavailable(f"{self.url}: the answer for {key} states no length")
                if size > max_bytes:
                    raise MalformedObject(f"{self.url}: {key} is larger than {max_bytes} bytes")
                content = read_body(stream, size + 1, deadline)
            if len(content) != size:
                raise RemoteUnavailable(f"{self.url}: the answer for {key} was cut short")
            return content

        return await self._run(get, key, timeout_seconds, abandon=True)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        """See Remote.fetch_range."""

        def get(client: "S3Client", deadline: float) -> bytes:
            return b"".join(self._read_range(client, key, start, length, deadline))

        return await self._run(get, key, timeout_seconds, abandon=True)

    async def stream_range(
        self, key: str, start: int, length: int, sink: RangeSink, *, timeout_seconds: float
    ) -> None:
        """See StreamingRemote.stream_range."""

        def get(client: "S3Client", deadline: float) -> None:
            done, take = sink.taken_bytes, sink.begin()
            for block in self._read_range(client, key, start + done, length - done, deadline):
                take(block)

        await self._run(get, key, timeout_seconds, abandon=True)

    def _read_range(
        self, client: "S3Client", key: str, start: int, length: int, deadline: float
    ) -> Iterator[bytes]:
        """The blocks of a range while they arrive; raises where they are not exactly the range."""
        wanted = f"bytes={start}-{start + length - 1}"
        answer = client.get_object(Bucket=self._location.bucket, Key=self._root + key, Range=wanted)
        left = length
        with answer["Body"] as stream:
            fault = get_range_fault(
                answer["ResponseMetadata"]["HTTPStatusCode"],
                answer.get("ContentRange"),
                answer.get("ContentLength"),
                start,
                length,
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

        def put(client: "S3Client", deadline: float) -> None:
            with open_upload(body, deadline) as stream:
                client.put_object(
                    Bucket=self._location.bucket,
                    Key=self._root + key,
                    Body=cast(IO[bytes], stream)
                    if stream.size > PLAIN_BODY_BYTES
                    else stream.read(),
                    ContentLength=stream.size,
                )

        await self._run(put, key, timeout_seconds, abandon=False)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        """See Remote.list_objects."""

        def scan(client: "S3Client", deadline: float) -> list[ObjectInfo]:
            found: list[ObjectInfo] = []
            page: ListObjectsV2RequestTypeDef = {
                "Bucket": self._location.bucket,
                "Prefix": self._root + prefix,
            }
            while True:
                check_deadline(deadline)
                answer = client.list_objects_v2(**page)
                for entry in answer.get("Contents", []):
                    key, changed = entry["Key"], entry["LastModified"].timestamp()
                    if not key.startswith(self._root + prefix):
                        raise RemoteError(f"{self.url}: {key!r} was listed under {prefix!r}")
                    found.append(ObjectInfo(key[len(self._root) :], entry["Size"], changed))
                # botocore reads an empty body as an empty list; only a whole one says if it ends.
                more, token = answer.get("IsTruncated"), answer.get("NextContinuationToken")
                if more is False:
                    return sorted(found, key=lambda info: info.key)
                if more is None or not token or token == page.get("ContinuationToken"):
                    raise RemoteUnavailable(f"{self.url}: the list of {prefix} breaks off")
                page["ContinuationToken"] = token

        return await self._run(scan, prefix, timeout_seconds, abandon=True)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """See Remote.delete."""

        def delete(client: "S3Client", deadline: float) -> None:
            try:
                client.delete_object(Bucket=self._location.bucket, Key=self._root + key)
            except boto_errors.ClientError as error:
                # S3 answers 204 for what is not there; some of its like say so.
                if _read_answer(error).code != "NoSuchKey":
                    raise

        await self._run(delete, key, timeout_seconds, abandon=False)

    def local_path(self, key: str) -> None:
        """None: nothing here is a local file."""

    async def close(self) -> None:
        """Close the idle connections."""
        self._access.close()

    async def _run(
        self,
        work: Callable[["S3Client", float], Result],
        key: str,
        timeout_seconds: float,
        *,
        abandon: bool,
    ) -> Result:
        """What `work` returns in a thread, given the client and its deadline (monotonic)."""
        deadline = time.monotonic() + timeout_seconds

        def call() -> Result:
            with self._access.use(key) as client:
                return work(client, deadline)

        with trio.move_on_after(timeout_seconds):
            return await trio.to_thread.run_sync(
                call, abandon_on_cancel=abandon, limiter=self._limiter
            )
        raise RemoteUnavailable(f"{self.url}: {key}: no answer within {timeout_seconds:g} s")


def _make_client(location: S3Location, connections: int) -> "S3Client":
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
    client.meta.events.register("before-call.s3", _stay_with_host)
    return client


def _refuse_prompt(_prompt: str) -> str:
    raise boto_errors.RefreshWithMFAUnsupportedError


def _stay_with_host(context: dict[str, Any], **_: object) -> None:
    """Mark a request as redirected already, so that botocore follows no answer to another host."""
    context["s3_redirect"]["redirected"] = True


def _translate(error: Exception, where: str) -> RemoteError:
    """The error of this project for one of boto3's; `where` names remote and key."""
    if isinstance(error, boto_errors.ClientError):
        return translate_answer(_read_answer(error), where)
    if isinstance(error, _NO_CREDENTIALS):
        return RemoteDenied(
            f"{where}: no usable credentials: {error}; set them up, or log in again"
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RemoteMisconfigured(f"{where}: the server's certificate is not trusted: {error}")
    if isinstance(error, _NO_ANSWER):
        return RemoteUnavailable(f"{where}: no usable answer: {str(error) or 'out of time'}")
    return RemoteMisconfigured(f"{where}: {error}")


def _is_about_credentials(error: Exception) -> bool:
    """Whether a refusal means the credentials, not one object or one verb."""
    if not isinstance(error, boto_errors.ClientError):
        return True
    # Any other operation than ours is botocore's, on its way to credentials.
    return error.operation_name not in _OWN_OPERATIONS or _read_answer(error).is_about_credentials()


def _read_answer(error: boto_errors.ClientError) -> Answer:
    said = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Answer(said.get("Code", ""), status, said.get("Message", ""))


_FOREIGN = ForeignErrors(
    (*_BOTO_ERRORS, HTTPError, TimeoutError), _translate, _is_about_credentials
)
