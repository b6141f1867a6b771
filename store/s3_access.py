"""Access: the client of an S3 remote in use, and what follows when calls are refused.

A refusal closes a gate: for all calls where it means all of them (credentials, clock, bucket), else
for calls of that verb on that kind of object. While a gate is closed its calls fail at once; once a
minute, or when credentials have changed, one call is let through to see whether it is open again.

Knows no library: what the errors of one mean it is told.
"""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from store.errors import ObjectMissing, RemoteDenied, RemoteError
from store.remote import Refusals

REFUSED_SECONDS = 60.0
"""While a refusal lasts, the server is asked once in so many seconds."""
LEAST_SECONDS = 1.0
"""New credentials are tried no more often than this."""
DOUBTFUL_READS = 3
"""So many keys in a row for which GET is refused close their kind: to who may not list, S3 answers
for an object that is not there as for one that is not allowed."""

_MOST_GATES = 1024
_EVERYTHING = "everything"


class Client(Protocol):
    """What calls are made with."""

    def close(self) -> None:
        """Close the idle connections."""
        ...


C = TypeVar("C", bound=Client)


class Call(NamedTuple):
    """One call: its verb (GET, PUT, LIST or DELETE), and the key or prefix that it is about."""

    verb: str
    key: str

    @property
    def name(self) -> str:
        """The calls about the same thing."""
        return f"{self.verb} {self.key}"

    @property
    def group(self) -> str:
        """The calls that are allowed or refused together, most likely."""
        return f"{self.verb} {self.key.partition('/')[0]}"


class Meaning(NamedTuple):
    """What a foreign error means: the error of this project. Where it is a refusal, which lasts
    until somebody does something about it, `code` tells it from others, and `everything` says that
    all calls are refused. `is_silence` is of a connection that gave no answer."""

    failure: RemoteError
    code: str = ""
    everything: bool = False
    is_silence: bool = False


@dataclass(frozen=True, slots=True)
class ForeignErrors:
    """The errors of a foreign library: their kinds, and what one means, given the remote in words
    and the call (None where a client was to be made)."""

    kinds: tuple[type[Exception], ...]
    explain: Callable[[Exception, str, Call | None], Meaning]


@dataclass(slots=True)
class _Gate:
    """A closed gate. `again_at` is when the next call may try; `is_tried` while one does."""

    failure: RemoteError
    code: str
    again_at: float
    is_tried: bool = False


@dataclass(frozen=True, slots=True)
class _Pass(Generic[C]):
    """A call that was let through, and the closed gates that it is to try."""

    client: C
    call: Call
    tries: tuple[str, ...]


class Access(Generic[C]):
    """The client in use, and what is refused. Safe to use from any thread.

    `_gates` has exactly what is closed, by what it closes: everything, a group of calls, or the
    calls about one key. `_denied` are the keys of each group that were refused since one was not.
    """

    def __init__(
        self,
        url: str,
        make_client: Callable[[], C],
        foreign: ForeignErrors,
        clock: Callable[[], float],
        look: Callable[[], Hashable],
    ) -> None:
        """`look` gives what changes when credentials do. Raises what keeps a client from being
        made, but for a refusal, which is for calls to meet: a mount does without."""
        self._url = url
        self._clock = clock
        self._look = look
        self._make_client = make_client
        self._foreign = foreign
        self._lock = threading.Lock()
        self._client: C | None = None
        self._gates: dict[str, _Gate] = {}
        self._denied: dict[str, set[str]] = {}
        self._looked_at = clock()
        self._seen: Hashable = None
        failure = self._renew()
        if failure is not None and not isinstance(failure, RemoteDenied):
            raise failure

    @contextlib.contextmanager
    def use(self, call: Call) -> Iterator[C]:
        """The client for one call; foreign errors leave as RemoteErrors."""
        passed = self._enter(call)
        try:
            yield passed.client
        except self._foreign.kinds as error:
            meaning = self._foreign.explain(error, self._url, call)
            self._learn(passed, meaning)
            raise meaning.failure from error
        except BaseException:
            self._give_back(passed)
            raise
        self._accept(passed)

    def get_refusals(self) -> Refusals:
        """See store.remote.RefusingRemote."""
        with self._lock:
            said = {f"{name} {gate.code}": str(gate.failure) for name, gate in self._gates.items()}
            return Refusals(said, any(self._is_due(gate) for gate in self._gates.values()))

    def close(self) -> None:
        """Close the idle connections; later calls make new ones."""
        if self._client is not None:
            self._client.close()

    def _enter(self, call: Call) -> _Pass[C]:
        with self._lock:
            tries = tuple(name for name in _gates_of(call) if name in self._gates)
            self._require_due(tries)
            if tries:
                failure = self._renew()
                if failure is not None:
                    raise failure
            for name in tries:
                self._gates[name].is_tried = True
            assert self._client is not None
            return _Pass(self._client, call, tries)

    def _require_due(self, names: Iterable[str]) -> None:
        for gate in [self._gates[name] for name in names]:
            if not self._is_due(gate):
                # A new one each time: an error that is raised again and again gathers tracebacks.
                raise type(gate.failure)(str(gate.failure)) from gate.failure

    def _is_due(self, gate: _Gate) -> bool:
        self._look_for_change()
        return not gate.is_tried and self._clock() >= gate.again_at

    def _look_for_change(self) -> None:
        """Let all gates be tried where credentials have changed; looks once in a second."""
        now = self._clock()
        if now < self._looked_at + LEAST_SECONDS:
            return
        self._looked_at = now
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            for gate in self._gates.values():
                gate.again_at = now

    def _renew(self) -> RemoteError | None:
        """A fresh session and client: credential files are read anew. What keeps it from being
        made closes everything. Not for two threads at once."""
        self.close()
        kinds: tuple[type[Exception], ...] = (*self._foreign.kinds, ValueError)
        # In this order: what changes from here on is not in the client.
        self._looked_at, self._seen = self._clock(), self._look()
        try:
            self._client = self._make_client()
        except kinds as error:
            meaning = self._foreign.explain(error, self._url, None)
            meaning.failure.__cause__ = error
            self._close_gate(_EVERYTHING, meaning)
            return meaning.failure
        return None

    def _learn(self, passed: _Pass[C], meaning: Meaning) -> None:
        if meaning.code:
            self._refuse(passed, meaning)
        elif isinstance(meaning.failure, ObjectMissing):
            self._accept(passed)
        else:
            self._give_back(passed)
        if meaning.is_silence:
            # What is idle may be as dead as the connection of this call.
            passed.client.close()

    def _refuse(self, passed: _Pass[C], meaning: Meaning) -> None:
        with self._lock:
            if passed.client is not self._client:
                return  # An answer to a client of before.
            self._free(passed)
            call = passed.call
            if meaning.everything:
                self._close_gate(_EVERYTHING, meaning)
                return
            self._gates.pop(_EVERYTHING, None)
            denied = self._denied.setdefault(call.group, set())
            denied.add(call.key)
            is_certain = call.verb != "GET" or len(denied) >= DOUBTFUL_READS
            if is_certain or call.group in self._gates:
                denied.clear()
                self._forget_keys(call.group, lambda gate: True)
                self._close_gate(call.group, meaning)
            else:
                self._close_gate(call.name, meaning)

    def _close_gate(self, name: str, meaning: Meaning) -> None:
        again_at = self._clock() + REFUSED_SECONDS
        gate = self._gates.get(name)
        if gate is not None and gate.code == meaning.code:
            # What was said of it holds, and need not be said in other words.
            gate.again_at = again_at
            return
        self._gates[name] = _Gate(meaning.failure, meaning.code, again_at)
        while len(self._gates) > _MOST_GATES:
            del self._gates[next(iter(self._gates))]

    def _accept(self, passed: _Pass[C]) -> None:
        """The server has answered as it should."""
        if not self._gates and not self._denied:
            return
        with self._lock:
            if passed.client is self._client:
                self._denied.pop(passed.call.group, None)
                for name in passed.tries:
                    self._gates.pop(name, None)
                self._forget_keys(passed.call.group, self._is_due)

    def _forget_keys(self, group: str, which: Callable[[_Gate], bool]) -> None:
        """Open the gates of single keys of a group."""
        for name in [name for name in self._gates if name.startswith(f"{group}/")]:
            if which(self._gates[name]):
                del self._gates[name]

    def _give_back(self, passed: _Pass[C]) -> None:
        """It is not known what the server would have said: another call may try soon."""
        with self._lock:
            for gate in self._free(passed):
                gate.again_at = self._clock() + LEAST_SECONDS

    def _free(self, passed: _Pass[C]) -> list[_Gate]:
        gates = [self._gates[name] for name in passed.tries if name in self._gates]
        for gate in gates:
            gate.is_tried = False
        return gates


def _gates_of(call: Call) -> tuple[str, ...]:
    """The gates that a call goes through."""
    return _EVERYTHING, call.group, call.name
