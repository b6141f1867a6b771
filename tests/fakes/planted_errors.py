"""A revfs whose mounts fail on purpose: what a file tells, at that very moment, goes wrong in the
handlers of the kernel's requests, and in those of the process that fetches.

    python -m tests.fakes.planted_errors mount v1 /mnt/v1

The file is that of the environment variable PLANTED: a line with the name of a handler, the name of
what it raises, and `now`, or `later` for the part of it that waits for something. Without a file
nothing goes wrong.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from cli.main import main
from store.errors import StoreError
from store.fetch_service import FetchService
from store.messages import Kind, Message
from vfs.kernel_messages import Opcode
from vfs.operations import Answer, Operation, Operations

KILL = "kill"
"""In place of what is raised: the process ends at once."""


def error_named(name: str) -> BaseException:
    """What is raised by that name."""
    if name == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    made: dict[str, Callable[[], BaseException]] = {
        "ValueError": lambda: ValueError("planted"),
        "KeyError": lambda: KeyError("planted"),
        "MemoryError": MemoryError,
        "OSError": lambda: OSError(24, "planted"),
        "RecursionError": lambda: RecursionError("planted"),
        "StoreError": lambda: StoreError("planted"),
        "ExceptionGroup": lambda: ExceptionGroup("planted", [ValueError(), StoreError("planted")]),
        "BaseExceptionGroup": lambda: BaseExceptionGroup("planted", [SystemExit(3), ValueError()]),
        "SystemExit": lambda: SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt,
        "TooSlowError": trio.TooSlowError,
        "StopIteration": StopIteration,
    }
    return made[name]()


def planted(handler: str) -> tuple[str, bool] | None:
    """What the handler is to raise now, and whether it is in the part that waits."""
    try:
        name, error, when = Path(os.environ["PLANTED"]).read_text().split()
    except FileNotFoundError:
        return None
    return (error, when == "later") if name == handler else None


def failing(handler: str, operation: Operation) -> Operation:
    """The operation, with what is planted in it."""

    def operate(request: Any, buffer: bytearray) -> Answer:
        plant = planted(handler)
        if plant is None:
            return operation(request, buffer)
        error, later = plant
        if not later:
            raise error_named(error)

        async def fail() -> bytes:
            await trio.lowlevel.checkpoint()
            raise error_named(error)

        return fail

    return operate


def plant() -> None:
    """Put it into all that this process and its children will answer with."""
    make, act = Operations.__init__, FetchService._act

    def make_failing(self: Operations, *arguments: Any) -> None:
        make(self, *arguments)
        for opcode, operation in self.by_opcode.items():
            self.by_opcode[opcode] = failing(Opcode(opcode).name.lower(), operation)

    async def act_failing(self: FetchService, message: Message) -> tuple[Kind, bytes]:
        found = planted(f"keeper-{Kind(message.kind).name.lower()}")
        if found is not None:
            raise error_named(found[0])
        answer: Awaitable[tuple[Kind, bytes]] = act(self, message)
        return await answer

    Operations.__init__ = make_failing  # type: ignore[method-assign]
    FetchService._act = act_failing  # type: ignore[method-assign]


if __name__ == "__main__":
    plant()
    main()
