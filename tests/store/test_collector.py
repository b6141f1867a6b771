"""The cycle collector rests while values are made, and only then."""

import contextlib
import gc

from store.collector import without_collector


def test_the_collector_is_as_it_was_afterwards_whatever_happened() -> None:
    assert gc.isenabled()
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    with contextlib.suppress(KeyError), without_collector():
        raise KeyError
    assert gc.isenabled()


def test_one_that_was_off_already_stays_off() -> None:
    with without_collector():
        with without_collector():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
