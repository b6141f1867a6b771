"""KeeperClient: a command that asks the keeper of a mount something, over the mount's socket."""

import socket
from itertools import count
from pathlib import Path

from store.errors import MalformedObject, StoreError, UnsupportedVersion
from store.messages import Facts, Kind, Message, MessageBuffer, parse_error, parse_told
from vfs.control import connect_now

_RECEIVED_AT_ONCE = 64 << 10
_TIMEOUT_SECONDS = 60.0


class KeeperAway(StoreError):
    """Nobody answers at the socket of the mount, for now or for good."""


class KeeperClient:
    """One connection, made at the first question and again when it was lost."""

    def __init__(self, control: Path, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._control = control
        self._timeout_seconds = timeout_seconds
        self._numbers = count(1)
        self._socket: socket.socket | None = None
        self._received = MessageBuffer()

    def __enter__(self) -> "KeeperClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def ask(self, kind: Kind, body: bytes = b"") -> Facts:
        """What the keeper tells in answer to a call of that kind.

        Raises KeeperAway, the StoreError that it answers with, and UnsupportedVersion where the
        mount is of a program that does not know such calls.
        """
        number = next(self._numbers)
        try:
            if self._socket is None:
                self._received = MessageBuffer()
                self._socket = connect_now(self._control, self._timeout_seconds)
            self._socket.sendall(Message(kind, number, body).to_bytes())
            answer = self._wait_for(self._socket, number)
        except OSError as error:
            self._close()
            raise KeeperAway(f"the process behind the mount does not answer: {error}") from error
        if answer.kind != Kind.TOLD:
            raise _refusal(answer)
        return parse_told(answer.body)

    def _wait_for(self, connected: socket.socket, number: int) -> Message:
        while received := connected.recv(_RECEIVED_AT_ONCE):
            for message in self._received.feed(received):
                # What is told to those who serve has the number 0.
                if message.call == number:
                    return message
        raise ConnectionResetError("it hung up")

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _refusal(answer: Message) -> StoreError:
    error = parse_error(answer.body) if answer.kind == Kind.FAILED else MalformedObject("")
    if isinstance(error, MalformedObject):
        return UnsupportedVersion(
            "the mount is served by another version of revfs: unmount it and mount it again"
        )
    return error
