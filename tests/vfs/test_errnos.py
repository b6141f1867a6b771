"""The table from error to errno."""

import errno
import inspect

import pytest

import store.errors
import vfs.errors
from store.errors import StoreError
from vfs.errnos import errno_of
from vfs.errors import RequestError

STORE_ERRORS = [
    kind
    for _, kind in inspect.getmembers(store.errors, inspect.isclass)
    if issubclass(kind, StoreError)
]
REQUEST_ERRORS = {
    "NoSuchName": errno.ENOENT,
    "NameTooLong": errno.ENAMETOOLONG,
    "NotADirectory": errno.ENOTDIR,
    "IsADirectory": errno.EISDIR,
    "NotASymlink": errno.EINVAL,
    "StaleInode": errno.ESTALE,
    "FailedJustNow": errno.EIO,
    "NotADevice": errno.ENOTTY,
}


@pytest.mark.parametrize("kind", STORE_ERRORS, ids=lambda kind: kind.__name__)
def test_whatever_is_wrong_with_the_store_is_eio(kind: type[StoreError]) -> None:
    assert errno_of(kind("why")) == errno.EIO


@pytest.mark.parametrize("name", REQUEST_ERRORS)
def test_what_is_wrong_with_a_request_has_its_own_errno(name: str) -> None:
    assert errno_of(getattr(vfs.errors, name)(1)) == REQUEST_ERRORS[name]


def test_every_kind_of_request_error_is_in_the_table() -> None:
    kinds = {
        name
        for name, kind in inspect.getmembers(vfs.errors, inspect.isclass)
        if issubclass(kind, RequestError) and kind is not RequestError
    }
    assert kinds == REQUEST_ERRORS.keys()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), RequestError("?"), OSError(2, "gone")])
def test_what_the_table_does_not_know_is_eio(error: Exception) -> None:
    assert errno_of(error) == errno.EIO


def test_a_kind_that_is_made_later_takes_after_its_parent() -> None:
    class StillNoSuchName(vfs.errors.NoSuchName):
        pass

    assert errno_of(StillNoSuchName(b"a")) == errno.ENOENT
