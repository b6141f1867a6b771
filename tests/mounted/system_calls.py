"""System calls as they are, also those for which Python has no function, and the errno of each."""

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
MAP_FAILED = 2**64 - 1


def errno_of_call(call: Callable[[], object]) -> int:
    """The errno that a call ends with; 0 where it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def named(number: int) -> str:
    """The name of an errno."""
    return errno.errorcode.get(number, str(number))


def checked(result: int) -> int:
    """What a call of the C library gave. Raises OSError where it failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def system_call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """A call by its number, which is the same on all machines for those that are newer than 423.
    Raises OSError."""
    words = [
        ctypes.c_long(argument)
        if isinstance(argument, int)
        else ctypes.c_char_p(argument)
        if isinstance(argument, bytes)
        else argument
        for argument in arguments
    ]
    return checked(LIBC.syscall(ctypes.c_long(number), *words))


def require(allowed: bool) -> None:
    """Raises EROFS unless it is allowed, for calls that say so by what they give."""
    if not allowed:
        raise OSError(errno.EROFS, "not allowed")


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """The descriptor of an open file."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Standing in a folder, where the path of a socket is short."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)
