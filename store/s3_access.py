"""Access: the client of an S3 remote in use, and what follows when its credentials are refused.

Knows no library: what the errors of one mean it is told.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from store.errors import RemoteDenied, RemoteError

FIRST_REFUSAL_SECONDS = 1.0
MOST_REFUSAL_SECONDS = 60.0


class Client(Protocol):
    """What calls are made with."""

    def close(self) -> None:
        """Close the idle connections."""
        ...


C = TypeVar("C", bound=Client)


@dataclass(frozen=True, slots=True)
class ForeignErrors:
    """The errors of a foreign library: their kinds, the error of this project for one (given the
    remote and key in words), and whether it means the credentials, not one object or one verb."""

    kinds: tuple[type[Exception], ...]
    translate: Callable[[Exception, str], RemoteError]
    is_about_credentials: Callable[[Exception], bool]


class Access(Generic[C]):
    """The client in use, and what follows a refusal. Safe to use from any thread.

    `_again_at` is None exactly until the client in use has been refused; from that time on the
    next call makes a fresh one. `_refusal` is set exactly while the credentials themselves are
    refused, so that every call would be.
    """

    def __init__(
        self,
        url: str,
        make_client: Callable[[], C],
        foreign: ForeignErrors,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._clock = clock
        self._make_client = make_client
        self._foreign = foreign
        self._lock = threading.Lock()
        self._client: C | None = None
        self._refusal: RemoteDenied | None = None
        self._again_at: float | None = None
        self._pause_seconds = FIRST_REFUSAL_SECONDS
        self._renew()

    @contextlib.contextmanager
    def use(self, key: str) -> Iterator[C]:
        """The client for one call about `key`; foreign errors leave as RemoteErrors."""
        client = self._get_client()
        try:
            yield client
        except self._foreign.kinds as error:
            failure = self._foreign.translate(error, f"{self._url}: {key}")
            if isinstance(failure, RemoteDenied):
                self._refuse(client, failure, self._foreign.is_about_credentials(error))
            raise failure from error
        with self._lock:
            if client is self._client and self._refusal is None:
                self._pause_seconds = FIRST_REFUSAL_SECONDS

    def close(self) -> None:
        """Close the idle connections."""
        if self._client is not None:
            self._client.close()

    def _get_client(self) -> C:
        with self._lock:
            if self._again_at is not None and self._clock() >= self._again_at:
                self._renew()
            if self._refusal is not None:
                # A new one each time: an error that is raised again and again gathers tracebacks.
                raise RemoteDenied(str(self._refusal)) from self._refusal
            assert self._client is not None
            return self._client

    def _renew(self) -> None:
        """A fresh session and client: credential files are read anew. Not for two threads at once.

        Credentials that cannot be had are a refusal, for calls to meet: a mount does without.
        """
        self.close()
        kinds: tuple[type[Exception], ...] = (*self._foreign.kinds, ValueError)
        try:
            self._client = self._make_client()
            self._refusal = self._again_at = None
        except kinds as error:
            failure = self._foreign.translate(error, self._url)
            failure.__cause__ = error
            if not isinstance(failure, RemoteDenied):
                raise failure from error
            self._close_for_a_while(failure)

    def _refuse(self, client: C, failure: RemoteDenied, about_credentials: bool) -> None:
        with self._lock:
            if client is not self._client or self._refusal is not None:
                return  # An answer to a client of before; or one of many calls at the same time.
            if about_credentials:
                self._close_for_a_while(failure)
            elif self._again_at is None:
                # One object or one verb is not allowed: other calls go on, and other credentials
                # are looked for now and then.
                self._again_at = self._clock() + MOST_REFUSAL_SECONDS

    def _close_for_a_while(self, failure: RemoteDenied) -> None:
        self._refusal = failure
        self._again_at = self._clock() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, MOST_REFUSAL_SECONDS)
