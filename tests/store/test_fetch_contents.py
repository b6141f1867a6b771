"""Fetching a revision into the cache: how few requests, what is here already, and what fits."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from store.errors import (
    ConfigError,
    PathNotFound,
    RemoteDenied,
    StoreError,
    leaves_of,
)
from store.fetch_contents import FetchSummary, fetch_contents, plan_runs
from store.fetch_plan import MOST_RUN_BYTES
from store.local_store import LocalStore
from store.opening import WrapRemote, open_reading, unwrapped
from store.packs import PackTable
from store.progress import ByteProgress
from tests.fakes.buckets import to
from tests.fakes.faulty_remote import Fault, Raises, faulty
from tests.fakes.memory_remote import Call
from tests.fakes.published import Published, publish
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    add,
    folder_remote,
    open_local,
    push,
    random_bytes,
)
from tests.fakes.small_store import build_pack

LARGE = random_bytes((4 << 20) + 100_000, 1)
CONTENTS = {
    b"data/large": LARGE,
    b"data/one/small": b"small",
    b"data/two/caf\xe9": b"odd",
    b"data/two/same": b"small",
}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path, CONTENTS)


class Counting:
    """Remembers the total that it was told, and counts what is done."""

    def __init__(self) -> None:
        self.total_bytes = -1
        self.done_bytes = 0

    def to(self, total_bytes: int) -> ByteProgress:
        self.total_bytes = total_bytes
        return self

    def advance(self, byte_count: int, items: int = 0) -> None:
        self.done_bytes += byte_count


def fetch(
    local: LocalStore,
    wrap_remote: WrapRemote,
    *paths: bytes,
    progress_to: Callable[[int], ByteProgress] = lambda total_bytes: NoProgress(),
) -> FetchSummary:
    """Fetch HEAD, and raise what went wrong out of its groups."""
    head = local.repository.resolve("HEAD")
    try:
        return trio.run(partial(fetch_contents, local, head, paths, progress_to, wrap_remote))
    except BaseExceptionGroup as group:
        raise next(leaves_of(group)) from group


def data_gets(published: Published, first: int) -> list[Call]:
    return [call for call in published.bucket.calls[first:] if call.verb == "fetch_range"]


def test_all_of_a_revision_comes_here_and_nothing_comes_twice(
    published: Published, tmp_path: Path
) -> None:
    counting = Counting()
    with published.cloned(tmp_path) as (_, local):
        summary = fetch(local, to(published.bucket), progress_to=counting.to)
        assert (summary.files, summary.here_bytes, summary.failures) == (4, 0, [])
        assert summary.total_bytes == sum(map(len, CONTENTS.values()))
        assert counting.done_bytes == counting.total_bytes > len(LARGE)
        calls = len(published.bucket.calls)
        again = fetch(local, to(published.bucket))
        assert again.fetched_bytes == 0
        assert again.here_bytes == len(LARGE) + len(b"small") + len(b"odd")
        assert data_gets(published, calls) == []
        down = faulty(lambda call, number: Raises(RemoteDenied("no network")))
        assert trio.run(read_all, local, down) == CONTENTS


async def read_all(local: LocalStore, wrap_remote: WrapRemote) -> dict[bytes, bytes]:
    """Every tracked file of HEAD."""
    head = local.repository.resolve("HEAD")
    found = {}
    async with open_reading(local, head.commit, wrap_remote) as reading:
        for path, entry in local.directories.walk_new(head.tree, set()):
            if path.startswith(b"data/"):
                found[path] = await reading.contents.read(entry.pointer, 0, entry.size)
    return found


def test_only_what_is_below_the_paths_comes(published: Published, tmp_path: Path) -> None:
    with published.cloned(tmp_path) as (_, local):
        summary = fetch(local, to(published.bucket), b"data/two", b"data/one/small")
        assert (summary.files, summary.fetched_bytes) == (3, len(b"small") + len(b"odd"))
        with pytest.raises(PathNotFound, match="data/none is not in that revision"):
            fetch(local, to(published.bucket), b"data/none")


def test_many_small_files_are_some_requests_a_pack(tmp_path: Path) -> None:
    contents = {f"data/{n:03}".encode(): random_bytes(3000, n) for n in range(300)}
    published = publish(tmp_path, contents)
    with published.cloned(tmp_path) as (_, local):
        assert fetch(local, to(published.bucket)).failures == []
    assert len(data_gets(published, 0)) == 1


def test_a_remote_in_a_folder_is_read_in_place(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    repository.write("data/large", LARGE)
    with open_local(repository, tmp_path / "origin-cache", folder_remote(folder)) as local:
        add(repository, local, "data")
        repository.commit()
        trio.run(push, local, unwrapped)
    clone = repository.clone(tmp_path / "clone")
    with open_local(clone, tmp_path / "cache", folder_remote(folder)) as local:
        summary = fetch(local, unwrapped)
        assert (summary.in_place, summary.fetched_bytes, summary.failures) == (True, 0, [])
        assert summary.here_bytes == len(LARGE)
    assert list((tmp_path / "cache/packs").glob("??/*")) == []


def test_a_file_that_the_remote_lacks_is_named_and_the_others_come(
    published: Published, tmp_path: Path
) -> None:
    bucket = published.bucket
    (lists,) = [key for key, (raw, _) in bucket.objects.items() if raw[:6] == b"RVPK\1\1"]
    del bucket.objects[lists]
    with published.cloned(tmp_path) as (_, local):
        summary = fetch(local, to(bucket))
        assert [failure.path for failure in summary.failures] == [b"data/large"]
        assert str(summary.failures[0].error).startswith("data/large: chunk ")
        assert summary.fetched_bytes == len(b"small") + len(b"odd")


def test_a_remote_in_trouble_ends_the_fetch(published: Published, tmp_path: Path) -> None:
    def plan(call: Call, number: int) -> Fault | None:
        return Raises(RemoteDenied("expired")) if call.verb == "fetch_range" else None

    denying = faulty(plan)
    with published.cloned(tmp_path) as (_, local), pytest.raises(StoreError, match="expired"):
        fetch(local, lambda remote: denying(to(published.bucket)(remote)))


def test_more_than_the_cache_may_hold_is_refused_before_it_is_fetched(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (_, local):
        local.settings = dataclasses.replace(local.settings, cache_size_bytes=4 << 20)
        with pytest.raises(ConfigError, match=r"which may hold 4,194,304 \(cache.size\)"):
            fetch(local, to(published.bucket))
        assert all((call.length or 0) < 100_000 for call in data_gets(published, 0))
        assert fetch(local, to(published.bucket), b"data/two").failures == []


def test_no_remote_is_said(published: Published, tmp_path: Path) -> None:
    said = pytest.raises(ConfigError, match="there is no remote yet")
    with open_local(published.repository, tmp_path / "cache") as local, said:
        fetch(local, unwrapped)


def table_of(lengths: list[int]) -> PackTable:
    """The table of a pack of chunks of these lengths."""
    chunks = [random_bytes(length, number) for number, length in enumerate(lengths)]
    return build_pack(chunks).table


TABLE = table_of([40_000 + number for number in range(40)])


@given(st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)))
def test_runs_bring_what_is_wanted_and_nothing_that_is_here(
    wanted: set[int], here: set[int]
) -> None:
    runs = plan_runs(TABLE, wanted, here.__contains__)
    brought = [number for run in runs for number in range(run.first, run.last + 1)]
    assert len(brought) == len(set(brought))
    assert wanted - here <= set(brought)
    assert not here & set(brought)
    for run in runs:
        assert TABLE.entry(run.last).end - TABLE.entry(run.first).offset <= MOST_RUN_BYTES


def test_a_short_gap_comes_along_and_a_long_one_does_not() -> None:
    runs = plan_runs(TABLE, [0, 5, 20], lambda number: False)
    assert [(run.first, run.last) for run in runs] == [(0, 5), (20, 20)]
