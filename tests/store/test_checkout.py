"""Data over pointers in the work tree of a clone: what is written, what is left alone, and what git
says of it. No filter is set up in these clones, so that git's index alone makes files clean."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from store import add as add_module
from store import work_tree as work_tree_module
from store.checkout import CheckoutSummary, plan_checkout
from store.contents import ContentReader
from store.errors import Busy, PathNotFound, RemoteDenied
from store.local_store import LocalStore
from store.opening import WrapRemote
from store.pointer import Pointer
from store.walk import resolve_arguments
from store.work_tree import WorkTreeWriter
from tests.fakes.buckets import to
from tests.fakes.faulty_remote import Fault, Raises, faulty
from tests.fakes.memory_remote import Call
from tests.fakes.processes import environment_with, python_command
from tests.fakes.published import Published, publish
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    add,
    bucket_remote,
    open_local,
    random_bytes,
)

ODD = b"data/caf\xe9\n"
CONTENTS = {
    b"data/large": random_bytes((4 << 20) + 100_000, 1),
    b"data/deep/er/file": b"deep down",
    b"data/tool": b"#!/bin/sh\n",
    ODD: b"odd",
}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path, CONTENTS, executable=b"data/tool")


def checkout(
    clone: Repository,
    local: LocalStore,
    wrap_remote: WrapRemote,
    *paths: str,
    fetch: bool,
) -> CheckoutSummary:
    """Write data over pointers below the paths."""
    arguments = resolve_arguments(clone.top, clone.top, [Path(path) for path in paths])
    plan = plan_checkout(local, clone.top, arguments)
    return plan.execute(NoProgress(), fetch=fetch, wrap_remote=wrap_remote)


def content(clone: Repository, path: bytes) -> bytes:
    return (clone.top / os.fsdecode(path)).read_bytes()


def assert_clean(clone: Repository, written: Iterable[bytes] = CONTENTS) -> None:
    """Git takes every file for clean, and those `written` by their stat alone: `diff-files` reads
    no content."""
    assert clone.git("diff-files", "--name-only", "--", *written) == b""
    assert clone.status() == []


def test_pull_fetches_and_writes_all_and_git_takes_it_for_clean(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        assert content(clone, ODD).startswith(b"revfs 1\n")
        summary = checkout(clone, local, to(published.bucket), fetch=True)
        assert (summary.files, summary.absent, summary.failures) == (4, 0, [])
        assert summary.written_bytes == sum(map(len, CONTENTS.values()))
        assert summary.fetched_bytes >= len(CONTENTS[b"data/large"])
        assert {path: content(clone, path) for path in CONTENTS} == CONTENTS
        assert os.access(clone.top / "data/tool", os.X_OK)
        assert_clean(clone)
        clone.write("data/tool", b"#!/bin/ls\n")
        assert clone.status() == [b" M data/tool"]


def test_a_file_keeps_the_permissions_that_its_pointer_had(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        (clone.top / "data/large").chmod(0o750)
        checkout(clone, local, to(published.bucket), fetch=True)
        assert (clone.top / "data/large").stat().st_mode & 0o777 == 0o750
        # Not staged by us: git sees that the file was made executable.
        assert clone.status() == [b" M data/large"]
        assert b"old mode 100644" in clone.git("diff", "data/large")


def test_checkout_fetches_nothing_and_counts_what_is_not_here(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        summary = checkout(clone, local, to(published.bucket), "data/deep", fetch=True)
        assert summary.files == 1
        (clone.top / "data/deep/er/file").unlink()
        clone.git("checkout", "--", "data/deep/er/file")
        calls = len(published.bucket.calls)
        summary = checkout(clone, local, to(published.bucket), fetch=False)
        assert len(published.bucket.calls) == calls
        assert (summary.files, summary.absent, summary.failures) == (1, 3, [])
        assert content(clone, b"data/deep/er/file") == b"deep down"
        assert_clean(clone, [b"data/deep/er/file"])


def test_what_is_no_pointer_of_the_index_is_left_alone(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        changed = content(clone, b"data/tool").replace(b"blake3 ", b"blake3 0", 1)
        clone.write("data/tool", changed)
        (clone.top / os.fsdecode(ODD)).unlink()
        (clone.top / "data/deep/er/file").unlink()
        (clone.top / "data/deep/er/file").symlink_to("../../large")
        clone.git("update-index", "--skip-worktree", "data/large")
        summary = checkout(clone, local, to(published.bucket), fetch=True)
        assert summary.files == 0
        assert content(clone, b"data/tool") == changed
        assert content(clone, b"data/large").startswith(b"revfs 1\n")
        assert (clone.top / "data/deep/er/file").is_symlink()
        assert not (clone.top / os.fsdecode(ODD)).exists()


def test_nothing_is_written_through_a_link_in_place_of_a_folder(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        outside = tmp_path / "outside"
        (clone.top / "data/deep").rename(outside)
        (clone.top / "data/deep").symlink_to(outside)
        checkout(clone, local, to(published.bucket), fetch=True)
        assert (outside / "er/file").read_bytes().startswith(b"revfs 1\n")


def test_a_path_that_git_does_not_know_is_refused(published: Published, tmp_path: Path) -> None:
    with published.cloned(tmp_path) as (clone, local):
        clone.write("data/new")
        with pytest.raises(PathNotFound, match="data/new is not in git's index"):
            checkout(clone, local, to(published.bucket), "data/new", fetch=False)


def test_a_pointer_changed_while_its_data_is_read_is_left_as_it_is(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ContentReader.read

    async def edit_then_read(
        self: ContentReader, pointer: Pointer, offset: int, size: int
    ) -> bytes:
        if pointer.size == len(CONTENTS[ODD]):
            clone.write(ODD, b"typed in just now")
        return await read(self, pointer, offset, size)

    monkeypatch.setattr(ContentReader, "read", edit_then_read)
    with published.cloned(tmp_path) as (clone, local):
        summary = checkout(clone, local, to(published.bucket), fetch=True)
        assert summary.files == 3
        (failure,) = summary.failures
        assert "was changed meanwhile" in str(failure.error)
        assert content(clone, ODD) == b"typed in just now"
        assert clone.status() == [b" M " + ODD]


def test_what_was_staged_anew_meanwhile_stays_staged(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = add_module.wait_for_git

    def stage_then_wait(*arguments: object) -> object:
        line = f"100755,{clone.write_blob(b'another')},data/tool"
        clone.git("update-index", "--cacheinfo", line)
        return wait(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(add_module, "wait_for_git", stage_then_wait)
    with published.cloned(tmp_path) as (clone, local):
        checkout(clone, local, to(published.bucket), fetch=True)
        assert clone.git("cat-file", "blob", ":data/tool") == b"another"
        assert clone.git("diff-files", "--name-only", "data") == b"data/tool\n"


@pytest.mark.expects_warnings
def test_a_file_that_cannot_be_fetched_does_not_keep_the_others(
    published: Published, tmp_path: Path
) -> None:
    bucket = published.bucket
    (pack,) = [key for key, (raw, _) in bucket.objects.items() if len(raw) > 4 << 20]
    raw, seconds = bucket.objects[pack]
    middle = raw.index(CONTENTS[b"data/large"][2 << 20 : (2 << 20) + 64])
    bucket.objects[pack] = raw[:middle] + bytes(64) + raw[middle + 64 :], seconds
    with published.cloned(tmp_path) as (clone, local):
        logged = checkout(clone, local, to(bucket), fetch=True)
        assert [failure.path for failure in logged.failures] == [b"data/large"]
        assert str(logged.failures[0].error).startswith("data/large: chunk ")
        assert logged.files == 3
        assert content(clone, b"data/large").startswith(b"revfs 1\n")
        assert_clean(clone, CONTENTS.keys() - {b"data/large"})


def test_a_remote_that_does_not_answer_is_not_asked_for_each_file(tmp_path: Path) -> None:
    contents = {f"data/{n:03}".encode(): random_bytes(50_000, n) for n in range(200)}
    published = publish(tmp_path, contents)
    fetches = []

    def plan(call: Call, number: int) -> Fault | None:
        if call.verb != "fetch_range":
            return None
        fetches.append(call)
        return Raises(RemoteDenied("gone")) if len(fetches) > 1 else None

    with published.cloned(tmp_path) as (clone, local):
        down = faulty(plan)
        summary = checkout(
            clone, local, lambda remote: down(to(published.bucket)(remote)), fetch=True
        )
        assert len(summary.failures) + summary.files == 200
        assert len(summary.failures) > 100
        assert len(fetches) < 80
        assert clone.status() == []


def test_an_end_in_the_middle_leaves_an_index_that_knows_what_was_done(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = work_tree_module.WorkTreeTarget.finish
    done = []

    def interrupt(self: work_tree_module.WorkTreeTarget) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(self)
        finish(self)

    monkeypatch.setattr(work_tree_module.WorkTreeTarget, "finish", interrupt)
    with published.cloned(tmp_path) as (clone, local):
        with pytest.raises(KeyboardInterrupt):
            checkout(clone, local, to(published.bucket), fetch=True)
        written = [path for path in CONTENTS if content(clone, path) == CONTENTS[path]]
        assert len(written) == 2
        assert_clean(clone, written)


KILLED = """
import os, signal, sys
from store import work_tree
note, count = work_tree.WorkTreeWriter.note_placed, 0
def kill_at_fifth(self, placed):
    global count
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, placed)
work_tree.WorkTreeWriter.note_placed = kill_at_fifth
from cli.main import run
run(sys.argv[1:])
"""


def test_after_a_kill_the_next_run_goes_on_and_git_is_clean(
    repository: Repository, tmp_path: Path
) -> None:
    contents = {f"data/{n}".encode(): random_bytes(20_000, n) for n in range(20)}
    for path, raw in contents.items():
        repository.write(path, raw)
    assert repository.revfs("-q", "add", "data") == 0
    repository.commit()
    pointers = {path: repository.git("cat-file", "blob", b"HEAD:" + path) for path in contents}
    for path in pointers:
        (repository.top / os.fsdecode(path)).unlink()
    repository.git("checkout", "--", "data")
    command = python_command(KILLED, "-C", repository.top, "checkout")
    assert subprocess.run(command, env=environment_with()).returncode < 0
    for path, raw in contents.items():
        assert content(repository, path) in (raw, pointers[path])
    assert 5 <= len(repository.git("diff-files", "--name-only", "data").splitlines()) < 20
    assert repository.revfs("-q", "checkout", "data/1") == 0
    left = [path for path, raw in contents.items() if content(repository, path) != raw]
    assert left
    assert_clean(repository, contents.keys() - set(left))
    assert repository.revfs("-q", "checkout") == 0
    assert {path: content(repository, path) for path in contents} == contents
    assert_clean(repository, contents)
    scratch = repository.top / ".git/revfs-checkout"
    assert [path.name for path in scratch.iterdir()] == ["journal"]


def test_a_file_edited_after_a_kill_is_not_taken_for_clean(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        checkout(clone, local, to(published.bucket), fetch=True)
        with WorkTreeWriter(local.repository, clone.top) as writer:
            writer.note_in_journal(b"p", b"data/large")
        edited = bytes(100) + CONTENTS[b"data/large"][100:]
        clone.write("data/large", edited)
        checkout(clone, local, to(published.bucket), fetch=True)
        assert content(clone, b"data/large") == edited
        assert clone.status() == [b" M data/large"]


@pytest.fixture
def far_folder() -> Iterator[Path]:
    """A folder on another file system than all the others."""
    if not os.path.isdir("/dev/shm"):
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("devices_look_alike", [False, True])
def test_a_work_tree_on_another_file_system_than_its_git_directory(
    published: Published,
    tmp_path: Path,
    far_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    devices_look_alike: bool,
) -> None:
    clone = published.repository.clone(tmp_path / "clone")
    worktree = Repository(far_folder / "tree")
    clone.git("worktree", "add", "--quiet", "--detach", str(worktree.top))
    if devices_look_alike:
        monkeypatch.setattr(work_tree_module, "lie_apart", lambda one, other: False)
    with open_local(worktree, tmp_path / "cache", bucket_remote()) as local:
        summary = checkout(worktree, local, to(published.bucket), fetch=True)
        assert (summary.files, summary.failures) == (4, [])
    assert {path: content(worktree, path) for path in CONTENTS} == CONTENTS
    assert os.access(worktree.top / "data/tool", os.X_OK)
    assert_clean(worktree)


def test_what_a_killed_run_left_beside_a_file_is_removed(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (clone, local):
        with WorkTreeWriter(local.repository, clone.top) as writer:
            writer.note_in_journal(b"b", b"data/.revfs-checkout-" + b"0a" * 16)
            writer.note_in_journal(b"b", b"data/large")
        clone.write(b"data/.revfs-checkout-" + b"0a" * 16)
        checkout(clone, local, to(published.bucket), fetch=False)
        assert clone.status() == []
        assert content(clone, b"data/large").startswith(b"revfs 1")


def test_two_runs_in_one_work_tree_do_not_meet(published: Published, tmp_path: Path) -> None:
    with published.cloned(tmp_path) as (clone, local):
        writer = WorkTreeWriter(local.repository, clone.top)
        descriptors = os.listdir("/proc/self/fd")
        with pytest.raises(Busy, match="another revfs checkout"):
            checkout(clone, local, to(published.bucket), fetch=False)
        assert len(os.listdir("/proc/self/fd")) == len(descriptors)
        writer.close()


def test_add_need_not_read_again_what_checkout_wrote(published: Published, tmp_path: Path) -> None:
    with published.cloned(tmp_path) as (clone, local):
        checkout(clone, local, to(published.bucket), fetch=True)
        summary = add(clone, local, "data")
        assert (summary.added, summary.unchanged, summary.read_bytes) == (0, 4, 0)
        assert clone.status() == []
