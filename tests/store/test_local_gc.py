"""What goes of the cache: what is over its budget, or all that can be had again; and leftovers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from store.errors import Busy
from store.ids import PackName, new_pack_name
from store.local_folders import make_private_folder
from store.local_gc import LocalGcPlan, plan_local_gc
from store.local_store import LocalStore
from store.packs import PackKind
from store.staged_writer import TEMPORARY_SUFFIX
from store.staging_hold import hold_staging
from tests.fakes.buckets import Bucket, to, version
from tests.fakes.repositories import (
    Repository,
    bucket_remote,
    open_local,
    push,
    random_bytes,
    read_file,
)
from tests.fakes.staged_files import StagedFiles

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def plan(local: LocalStore, *, everything: bool, grace_seconds: float = 0.0) -> LocalGcPlan:
    async def no_lists(*_: object) -> list[object]:
        return []

    call = partial(
        plan_local_gc,
        local,
        no_lists,  # type: ignore[arg-type]
        everything=everything,
        now_seconds=10**10,
        grace_seconds=grace_seconds,
    )
    return trio.run(call)


def cached(local: LocalStore) -> set[PackName]:
    """The packs that have a file in the cache."""
    folder = local.settings.cache_directory / "packs"
    return {PackName(path.name) for path in folder.glob("??/*")}


@pytest.fixture
def pushed(repository: Repository, tmp_path: Path) -> Bucket:
    """A bucket with a version, all of which is in the cache at `tmp_path / "cache"` too."""
    bucket = Bucket()
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        version(repository, local, one=random_bytes(50_000, 1), two=random_bytes(50_000, 2))
        trio.run(push, local, to(bucket))
    return bucket


@pytest.fixture
def collecting(repository: Repository, tmp_path: Path, pushed: Bucket) -> Callable[..., LocalStore]:
    """Opens the repository's local store as whoever drops staged packs does."""

    def open_it(budget_bytes: int | None = None) -> LocalStore:
        with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
            settings = local.settings
        settings = replace(settings, cache_size_bytes=budget_bytes)
        return LocalStore(settings, to_write=True, holds=False)

    return open_it


def test_all_that_can_be_fetched_again_goes_and_is_fetched_again(
    collecting: Callable[..., LocalStore], pushed: Bucket
) -> None:
    with collecting() as local:
        before = cached(local)
        found = plan(local, everything=True)
        assert cached(local) == before != set()
        assert {use.pack for use in found.cache.evicted} == before
        assert found.execute().freed_bytes == sum(u.cached_bytes for u in found.cache.evicted)
        assert cached(local) == set()
        assert local.index.load_uses() == []
        calls = len(pushed.calls)
        for path, seed in ((b"one", 1), (b"two", 2)):
            content = trio.run(partial(read_file, local, to(pushed), path))
            assert content == random_bytes(50_000, seed)
        assert any(call.verb == "fetch_range" for call in pushed.calls[calls:])


def test_what_no_remote_is_known_to_have_stays_and_leftovers_of_a_crash_go(
    collecting: Callable[..., LocalStore],
) -> None:
    with collecting() as local:
        before = cached(local)
        lost = next(iter(sorted(before)))
        store = local.load_store_id()
        assert store is not None
        local.index.forget_pack(store, lost)
        crashed = local.cache.path_of(new_pack_name())
        make_private_folder(crashed.parent)
        crashed.write_bytes(b"of a pack that no row tells of")
        found = plan(local, everything=True)
        assert {use.pack for use in found.cache.only_here} == {lost}
        found.execute()
        assert cached(local) == {lost}


@pytest.mark.parametrize(("budget_bytes", "left"), [(1 << 30, True), (1, False)])
def test_without_all_what_is_over_the_budget_goes(
    collecting: Callable[..., LocalStore], budget_bytes: int, left: bool
) -> None:
    with collecting(budget_bytes) as local:
        before = cached(local)
        found = plan(local, everything=False)
        assert {use.pack for use in (*found.cache.evicted, *found.cache.kept)} == before
        found.execute()
        assert bool(cached(local)) == left


def test_a_staged_pack_is_never_evicted(
    collecting: Callable[..., LocalStore], repository: Repository
) -> None:
    with collecting(1) as local:
        staged = StagedFiles(local)
        text = staged.stage(b"the only copy")
        repository.write("file", text)
        repository.git("add", "file")
        plan(local, everything=True).execute()
        plan(local, everything=False).execute()
        assert staged.read(text) == b"the only copy"


def test_that_staged_packs_have_to_stay_keeps_nothing_else_from_going(
    collecting: Callable[..., LocalStore], repository: Repository
) -> None:
    with collecting() as local:
        staged = StagedFiles(local)
        staged.stage(b"idle")
        found = plan(local, everything=True)
        assert len(found.staged.dropped) == 1
        with hold_staging(local.settings.paths.state_dir):
            summary = found.execute()
        assert isinstance(summary.refusal, Busy)
        assert summary.dropped == ()
        assert len(staged.names()) == 1
        assert cached(local) == set()
        assert plan(local, everything=True).execute().refusal is None
        assert staged.names() == set()


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(
    collecting: Callable[..., LocalStore], repository: Repository
) -> None:
    folder = repository.top / ".git/revfs/staged"
    with collecting() as local:
        assert local.staging is not None
        dead = folder / f"{new_pack_name()}{TEMPORARY_SUFFIX}"
        dead.write_bytes(b"half a pack")
        with local.staging.new_pack(PackKind.DATA):
            found = plan(local, everything=False)
            assert found.leftovers == ((dead, len(b"half a pack")),)
            assert found.execute().freed_bytes == len(b"half a pack")
            assert not dead.exists()
            assert len(list(folder.glob(f"*{TEMPORARY_SUFFIX}"))) == 1
