"""Which staged packs go: those that nothing needs, and none of which that cannot be told."""

import io
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

from store.chunking import read_chunks
from store.config import RemoteSettings
from store.errors import Busy, ChunkMissing, GitError, RemoteUnavailable, StoreError
from store.git_command import find_repository
from store.ids import GitId, PackName, chunk_id
from store.known_chunks import KnownChunks
from store.local_gc_lists import fetch_lists
from store.local_gc_staged import DEFAULT_GRACE_SECONDS, StagedPlan, plan_staged
from store.local_store import LocalStore
from store.many_lists import TakeList
from store.pointer import Pointer
from store.staging import StagedPack
from store.staging_hold import alone_with_staging, hold_staging
from store.store_settings import StoreSettings
from tests.fakes.buckets import FINE, Bucket
from tests.fakes.processes import environment_with, python_command
from tests.fakes.published import publish
from tests.fakes.repositories import (
    REPOSITORY_ID,
    TIMEOUT_SECONDS,
    Repository,
    add,
    bucket_remote,
    open_local,
    random_bytes,
)
from tests.fakes.small_store import build_remote, random_files
from tests.fakes.staged_files import StagedFiles

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

DAY_SECONDS = 86400.0


@pytest.fixture
def local(repository: Repository, tmp_path: Path) -> Iterator[LocalStore]:
    """The repository's local store, as whoever drops staged packs opens it."""
    with open_collecting(repository, tmp_path / "cache") as local:
        yield local


def open_collecting(
    repository: Repository, cache: Path, remote: RemoteSettings | None = None
) -> LocalStore:
    paths = find_repository(repository.top)
    settings = StoreSettings(paths, REPOSITORY_ID, remote, cache, None, TIMEOUT_SECONDS)
    return LocalStore(settings, to_write=True, holds=False)


@pytest.fixture
def staged(local: LocalStore) -> StagedFiles:
    return StagedFiles(local)


async def no_lists(pointers: Sequence[Pointer], _: TakeList) -> list[Pointer]:
    """No remote has any."""
    return list(pointers)


async def plan(
    local: LocalStore,
    fetch: Callable[..., object] = no_lists,
    *,
    grace_seconds: float = DAY_SECONDS,
    mounted: Sequence[str] = (),
) -> StagedPlan:
    return await plan_staged(
        local,
        fetch,  # type: ignore[arg-type]
        now_seconds=time.time(),
        grace_seconds=grace_seconds,
        mounted=[GitId(commit) for commit in mounted],
    )


def names(packs: Sequence[StagedPack]) -> set[PackName]:
    return {pack.name for pack in packs}


def commit_staged(repository: Repository, staged: StagedFiles, content: bytes) -> bytes:
    """Stage data and commit its pointer."""
    text = staged.stage(content)
    repository.write("file", text)
    repository.git("add", "file")
    repository.commit()
    return text


async def test_a_pack_goes_where_git_can_come_back_to_none_of_its_chunks(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    wanted = commit_staged(repository, staged, random_bytes(500, 1))
    long = commit_staged(repository, staged, random_bytes(2500, 2))
    idle = staged.stage(random_bytes(1500, 3))
    repository.write_blob(idle)
    staged.make_old()
    found = await plan(local)
    assert names(found.dropped) == staged.packs[idle]
    assert names(found.needed) == staged.packs[wanted] | staged.packs[long]
    assert found.refusal is None
    assert names(found.execute(local)) == staged.packs[idle]
    assert staged.names() == staged.packs[wanted] | staged.packs[long]
    assert staged.read(wanted) == staged.contents[wanted]
    assert staged.read(long) == staged.contents[long]
    assert not any(staged.staging.path_of(name).exists() for name in staged.packs[idle])
    # Nothing is left to do, and nothing of what went is thought to be here.
    assert (await plan(local)).execute(local) == []
    pieces = [random_bytes(1500, 3)[:1000], random_bytes(1500, 3)[1000:]]
    assert KnownChunks(local).load([chunk_id(piece) for piece in pieces]) == [False, False]


async def test_a_plan_changes_nothing(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    staged.stage(b"idle")
    staged.make_old()
    before = staged.names()
    assert names((await plan(local)).dropped) == before
    assert staged.names() == before


async def test_a_pack_of_which_one_chunk_is_needed_stays_whole(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    text = commit_staged(repository, staged, b"wanted")
    both = staged.write_pack([b"wanted", b"idle"])
    staged.make_old()
    found = await plan(local)
    # Of two packs with one chunk none is known to be the sound one.
    assert names(found.needed) == staged.packs[text] | {both}
    assert not found.dropped


async def test_what_was_used_within_the_grace_stays(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    (old,) = staged.packs[staged.stage(b"old")]
    (new,) = staged.packs[staged.stage(b"new")]
    now = time.time()
    for name, days in ((old, 2), (new, 0.5)):
        os.utime(staged.staging.path_of(name), (now, now - days * DAY_SECONDS))
    found = await plan(local)
    assert (names(found.dropped), names(found.young)) == ({old}, {new})
    found = await plan(local, grace_seconds=DEFAULT_GRACE_SECONDS)
    assert names(found.young) == {old, new}
    time.sleep(0.05)
    assert names((await plan(local, grace_seconds=0)).dropped) == {old, new}


async def test_what_somebody_relies_on_after_the_plan_stays(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    staged.stage(b"again")
    idle = staged.stage(b"idle")
    staged.make_old()
    found = await plan(local)
    assert names(found.dropped) == staged.names()
    # The same data comes once more, and is not staged anew; git does not know of it yet.
    assert KnownChunks(local).load([chunk_id(b"again"), chunk_id(b"other")]) == [True, False]
    assert names(found.execute(local)) == staged.packs[idle]


async def test_data_that_is_added_again_counts_as_used(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    staged.stage(b"data")
    staged.make_old()
    repository.write("data", b"data")
    assert add(repository, local, "data").staged_bytes == 0
    repository.git("reset", "--quiet")
    assert names((await plan(local)).young) == staged.names()


async def test_whoever_works_with_staged_packs_is_not_disturbed(
    local: LocalStore, staged: StagedFiles
) -> None:
    staged.stage(b"idle")
    staged.make_old()
    found = await plan(local)
    with hold_staging(local.settings.paths.state_dir), pytest.raises(Busy, match="at work"):
        found.execute(local)
    assert len(found.execute(local)) == 1


def test_an_open_store_to_write_holds_the_staged_packs_until_it_is_closed(
    repository: Repository, tmp_path: Path
) -> None:
    state = repository.top / ".git/revfs"
    with open_local(repository, tmp_path / "cache"), pytest.raises(Busy), alone_with_staging(state):
        pass
    with open_local(repository, tmp_path / "cache", to_write=False), alone_with_staging(state):
        pass


def test_who_wants_to_stage_waits_until_packs_were_taken_away(
    repository: Repository, tmp_path: Path
) -> None:
    state = repository.top / ".git/revfs"
    with open_local(repository, tmp_path / "cache"):
        pass
    code = (
        "import sys; from pathlib import Path; from store.staging_hold import hold_staging\n"
        "print('waiting', flush=True); hold_staging(Path(sys.argv[1])); print('held')"
    )
    with alone_with_staging(state):
        process = subprocess.Popen(
            python_command(code, state), env=environment_with(), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    with process:
        assert process.stdout.read() == "held\n"


@pytest.mark.parametrize("change", ["commit", "index", "lock"])
async def test_where_git_was_at_work_meanwhile_nothing_goes(
    repository: Repository, local: LocalStore, staged: StagedFiles, change: str
) -> None:
    text = staged.stage(b"idle until just now")
    staged.make_old()
    found = await plan(local)
    repository.write("file", text)
    if change == "lock":
        (repository.top / ".git/index.lock").touch()
    else:
        repository.git("add", "file")
    if change == "commit":
        repository.commit()
    with pytest.raises(StoreError, match=r"git (was|is) at work"):
        found.execute(local)
    assert staged.read(text) == b"idle until just now"


async def test_what_a_running_mount_shows_is_needed(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    text = commit_staged(repository, staged, b"shown")
    commit = repository.head()
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    (repository.top / ".git/ORIG_HEAD").unlink()
    repository.git("reflog", "expire", "--expire-unreachable=now", "--all")
    staged.make_old()
    assert names((await plan(local, mounted=[commit])).needed) == staged.packs[text]
    assert names((await plan(local)).dropped) == staged.packs[text]


@pytest.mark.expects_warnings
async def test_a_damaged_pack_stays(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    (name,) = staged.packs[staged.stage(b"idle")]
    path = staged.staging.path_of(name)
    path.write_bytes(path.read_bytes()[:-1])
    staged.make_old()
    found = await plan(local)
    assert names(found.damaged) == {name}
    assert found.execute(local) == []


def lose_an_object(repository: Repository) -> None:
    blob = repository.git("rev-parse", "HEAD:.revfsconfig").decode().strip()
    (repository.top / ".git/objects" / blob[:2] / blob[2:]).unlink()


def damage_a_reflog(repository: Repository) -> None:
    (repository.top / ".git/logs/HEAD").write_bytes(b"?")


def be_written_by_a_later_revfs(repository: Repository) -> None:
    repository.write("later", b"revfs 2\nsomething new\n")
    repository.git("add", "later")


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lose_an_object, "missing blob"),
        (damage_a_reflog, "reflog .* is damaged"),
        (be_written_by_a_later_revfs, "a later revfs"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_where_git_cannot_tell_all_stay(
    repository: Repository,
    local: LocalStore,
    staged: StagedFiles,
    do: Callable[[Repository], None],
    words: str,
) -> None:
    staged.stage(b"idle")
    staged.make_old()
    before = staged.names()
    do(repository)
    found = await plan(local)
    assert isinstance(found.refusal, GitError)
    assert re.search(words, str(found.refusal))
    assert names(found.undecided) == before
    assert found.execute(local) == []
    assert staged.names() == before


async def test_where_every_pack_is_needed_nothing_more_is_looked_for(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    repository.write("long", staged.stage(random_bytes(2500), with_list=False))
    repository.git("add", "long")
    for name in staged.names():
        staged.staging.remove(name)
    wanted = commit_staged(repository, staged, b"wanted")
    staged.make_old()
    found = await plan(local)
    assert (names(found.needed), found.refusal) == (staged.packs[wanted], None)


async def test_a_file_whose_list_is_nowhere_keeps_all(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    text = staged.stage(random_bytes(2500), with_list=False)
    wanted = commit_staged(repository, staged, b"wanted")
    repository.write("long", text)
    repository.git("add", "long")
    staged.make_old()
    found = await plan(local)
    assert isinstance(found.refusal, ChunkMissing)
    assert (names(found.undecided), names(found.needed)) == (
        staged.packs[text],
        staged.packs[wanted],
    )
    assert found.execute(local) == []


async def test_a_remote_that_does_not_answer_keeps_all(
    repository: Repository, local: LocalStore, staged: StagedFiles
) -> None:
    repository.write("long", staged.stage(random_bytes(2500), with_list=False))
    repository.git("add", "long")
    staged.make_old()

    async def fail(_: Sequence[Pointer], __: TakeList) -> list[Pointer]:
        raise ExceptionGroup("out of a nursery", [RemoteUnavailable("no answer")])

    found = await plan(local, fail)
    assert str(found.refusal) == "no answer"
    assert found.undecided
    assert not found.dropped


@pytest.mark.parametrize("has_others", [False, True])
def test_a_list_that_only_a_remote_has_tells_what_its_file_needs(
    tmp_path: Path, has_others: bool
) -> None:
    content = random_bytes(300_000)
    published = publish(tmp_path, {b"long": content})
    clone = published.repository.clone(tmp_path / "clone")
    with open_collecting(clone, tmp_path / "cache", bucket_remote()) as local:
        staged = StagedFiles(local)
        first = next(iter(read_chunks(io.BytesIO(content), FINE)))
        needed, idle = staged.write_pack([first]), staged.write_pack([b"idle"])
        staged.make_old()
        buckets = [published.bucket]
        if has_others:
            # The one in use has been pushed to, but not this.
            other = Bucket()
            other.objects.update(build_remote(random_files(2, 100)).remote.objects)
            buckets.insert(0, other)
        remotes = [bucket_remote(str(number)) for number in range(len(buckets))]
        opened = iter(buckets)
        fetch = partial(fetch_lists, local, remotes, lambda _: next(opened))
        found = trio.run(partial(plan, local, fetch))
        assert found.refusal is None
        assert (names(found.needed), names(found.dropped)) == ({needed}, {idle})
        assert names(found.execute(local)) == {idle}
