"""Exporting a revision: what is written, what is in the way, and going on where a run ended."""

import os
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from store.errors import Busy, PathNotFound, PathRefused, RemoteDenied, StoreError, leaves_of
from store.export import TEMPORARY_PREFIX, ExportSummary, plan_export
from store.local_store import LocalStore
from store.opening import WrapRemote, unwrapped
from store.target_folder import FolderCursor, TargetFolder, temporary_name
from tests.fakes.buckets import to
from tests.fakes.faulty_remote import Fault, Raises, faulty
from tests.fakes.memory_remote import Call
from tests.fakes.processes import environment_with, python_command
from tests.fakes.published import Published, publish
from tests.fakes.repositories import (
    NoProgress,
    Repository,
    make_repository,
    open_local,
    random_bytes,
)

LARGE_BYTES = (4 << 20) + 300_000
ODD = b"data/caf\xe9\n"
CONTENTS = {
    b"data/large": random_bytes(LARGE_BYTES, 1),
    b"data/deep/er/file": b"deep down",
    b"data/tool": b"#!/bin/sh\n",
    ODD: b"odd",
}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path, CONTENTS, executable=b"data/tool")


def export(
    local: LocalStore,
    wrap_remote: WrapRemote,
    folder: Path,
    path: bytes = b"",
    *,
    revision: str = "HEAD",
    force: bool = False,
) -> ExportSummary:
    """Export, and raise what went wrong out of its groups."""
    plan = plan_export(local, local.repository.resolve(revision), path, folder, force=force)
    try:
        return trio.run(partial(plan.execute, NoProgress(), wrap_remote=wrap_remote))
    except BaseExceptionGroup as group:
        raise next(leaves_of(group)) from group


def files_below(folder: Path) -> dict[bytes, bytes]:
    """path → content of every file below a folder, links by their target."""
    top = os.fsencode(folder)
    found = {}
    for place, _, names in os.walk(top):
        for name in names:
            path = os.path.join(place, name)
            relative = os.path.relpath(path, top)
            found[relative] = os.readlink(path) if os.path.islink(path) else read(path)
    return found


def read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_a_revision_is_written_as_git_would_check_its_files_out(
    published: Published, tmp_path: Path
) -> None:
    origin = published.repository
    origin.write("README", b"git's own")
    (origin.top / "data/link").symlink_to("../README")
    (origin.top / "dangling").symlink_to("nowhere")
    origin.git("add", "README", "data/link", "dangling")
    origin.commit()
    out = tmp_path / "made/on/the/way"
    with published.cloned(tmp_path) as (clone, local):
        summary = export(local, to(published.bucket), out)
        seconds = local.repository.resolve("HEAD").time_seconds
        expected = files_below(clone.top)
    tracked = {**expected, **CONTENTS}
    assert files_below(out) == {p: c for p, c in tracked.items() if not p.startswith(b".git/")}
    assert (summary.files, summary.done_files) == (len(files_below(out)), 0)
    assert stat.S_IMODE((out / "data/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((out / "data/large").stat().st_mode) == 0o644
    assert int((out / "data/large").stat().st_mtime) == seconds


def test_a_folder_goes_to_the_target_without_its_name_and_a_file_with_it(
    published: Published, tmp_path: Path
) -> None:
    with published.cloned(tmp_path) as (_, local):
        export(local, to(published.bucket), tmp_path / "deep", b"data/deep")
        export(local, to(published.bucket), tmp_path / "one", ODD)
        with pytest.raises(PathNotFound, match="data/none is not in that revision"):
            export(local, to(published.bucket), tmp_path / "none", b"data/none")
    assert files_below(tmp_path / "deep") == {b"er/file": b"deep down"}
    assert files_below(tmp_path / "one") == {b"caf\xe9\n": b"odd"}


def test_two_folders_of_the_same_content_are_both_written(tmp_path: Path) -> None:
    contents = {b"one/file": b"same", b"two/file": b"same"}
    with publish(tmp_path, contents).cloned(tmp_path) as (_, local):
        bucket = publish(tmp_path / "again", contents).bucket
        export(local, to(bucket), tmp_path / "out")
    assert contents.items() <= files_below(tmp_path / "out").items()


def test_a_second_run_writes_only_what_is_missing_or_of_another_time(
    published: Published, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with published.cloned(tmp_path) as (_, local):
        written = export(local, to(published.bucket), out)
        (out / "data/tool").unlink()
        calls = len(published.bucket.calls)
        again = export(local, to(published.bucket), out)
        assert (again.files, again.done_files) == (1, written.files - 1)
        assert all(call.verb != "fetch_range" for call in published.bucket.calls[calls:])
        os.utime(out / "data/deep/er/file", (1, 1))
        with pytest.raises(PathRefused, match=r"data/deep/er/file in .* would be replaced"):
            export(local, to(published.bucket), out)
        assert export(local, to(published.bucket), out, force=True).files == 1


@pytest.mark.parametrize("change", ["content", "execute bit"])
def test_a_file_of_another_commit_of_the_same_second_and_size_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    repository, out = make_repository(tmp_path / "repository"), tmp_path / "out"
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1700000000 +0000")
    for text in ("one", "two"):
        file = repository.write("file", b"the same" if change == "execute bit" else text.encode())
        file.chmod(0o755 if text == "two" else 0o644)
        repository.git("add", "file")
        repository.commit()
        repository.git("tag", text)
    with open_local(repository, tmp_path / "cache") as local:
        export(local, unwrapped, out, revision="one")
        with pytest.raises(PathRefused, match=r"file in .* would be replaced"):
            export(local, unwrapped, out, revision="two")
        assert export(local, unwrapped, out, revision="two", force=True).files == 1
        assert export(local, unwrapped, out, revision="two").files == 0
    assert files_below(out)[b"file"] == file.read_bytes()
    assert (out / "file").stat().st_mode == file.stat().st_mode


def test_a_run_goes_on_where_the_file_system_keeps_whole_seconds(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_whole_seconds(cursor: FolderCursor, path: bytes) -> os.stat_result | None:
        status = load_stat(cursor, path)
        if status is None:
            return None
        times = {"st_mtime_ns": status.st_mtime_ns, "st_ctime_ns": status.st_ctime_ns}
        return os.stat_result(status[:10], {k: ns // 10**9 * 10**9 for k, ns in times.items()})

    load_stat = FolderCursor.load_stat
    monkeypatch.setattr(FolderCursor, "load_stat", in_whole_seconds)
    with published.cloned(tmp_path) as (_, local):
        export(local, to(published.bucket), tmp_path / "out")
        assert export(local, to(published.bucket), tmp_path / "out").files == 0


def test_what_is_in_the_way_is_refused_before_anything_is_written(
    published: Published, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "data/large").write_bytes(b"mine")
    (out / "data/tool").symlink_to("/etc/hostname")
    with published.cloned(tmp_path) as (_, local):
        with pytest.raises(PathRefused, match=r"data/large and 1 more in .*--force"):
            export(local, to(published.bucket), out)
        assert files_below(out) == {b"data/large": b"mine", b"data/tool": b"/etc/hostname"}
        export(local, to(published.bucket), out, force=True)
    assert CONTENTS.items() <= files_below(out).items()
    assert not (out / "data/tool").is_symlink()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_nothing_is_written_through_what_stands_for_a_folder(
    published: Published, tmp_path: Path, kind: str, force: bool
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / "data").mkdir(parents=True)
    outside.mkdir()
    if kind == "link":
        (out / "data/deep").symlink_to(outside)
    else:
        (out / "data/deep").write_bytes(b"mine")
    refused = pytest.raises(PathRefused, match="data/deep is a link or a file where a folder")
    with published.cloned(tmp_path) as (_, local), refused:
        export(local, to(published.bucket), out, force=force)
    assert os.listdir(out / "data") == ["deep"]
    assert list(outside.iterdir()) == []


def test_a_folder_where_a_file_goes_is_never_replaced(published: Published, tmp_path: Path) -> None:
    (tmp_path / "out/data/tool").mkdir(parents=True)
    refused = pytest.raises(PathRefused, match="data/tool is a folder")
    with published.cloned(tmp_path) as (_, local), refused:
        export(local, to(published.bucket), tmp_path / "out", force=True)


def test_a_link_put_in_place_of_a_folder_meanwhile_leads_nothing_outside(
    published: Published, tmp_path: Path
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()

    def swap(call: Call, number: int) -> Fault | None:
        if call.verb == "fetch_range" and not out.joinpath("data").exists():
            (out / "data").symlink_to(outside)
        return None

    with published.cloned(tmp_path) as (_, local):
        wrap = faulty(swap)
        with pytest.raises(StoreError, match="data is a link or a file"):
            export(local, lambda remote: wrap(to(published.bucket)(remote)), out)
    assert list(outside.iterdir()) == []


def test_a_file_that_somebody_made_meanwhile_is_not_replaced(
    published: Published, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def make(call: Call, number: int) -> Fault | None:
        (out / "data").mkdir(exist_ok=True)
        (out / "data/large").write_bytes(b"mine")
        return None

    made = faulty(make)
    refused = pytest.raises(PathRefused, match="data/large was made by somebody else meanwhile")
    with published.cloned(tmp_path) as (_, local), refused:
        export(local, lambda remote: made(to(published.bucket)(remote)), out)
    assert (out / "data/large").read_bytes() == b"mine"


def test_a_submodule_is_left_out_and_counted(repository: Repository, tmp_path: Path) -> None:
    line = f"160000,{repository.head()},module"
    repository.git("update-index", "--add", "--cacheinfo", line)
    repository.commit()
    with open_local(repository, tmp_path / "cache", to_write=False) as local:
        summary = export(local, lambda remote: remote, tmp_path / "out")
    assert (summary.files, summary.submodules) == (1, 1)
    assert list(files_below(tmp_path / "out")) == [b".revfsconfig"]


@pytest.mark.expects_warnings
def test_names_that_no_checkout_could_have_are_not_written(
    repository: Repository, tmp_path: Path
) -> None:
    blob = repository.write_blob(b"evil")
    inner = repository.write_tree([("100644", b"config", blob)])
    tree = repository.write_tree(
        [
            ("40000", b"..", inner),
            ("40000", b".git", inner),
            ("100644", b"../escaped", blob),
            ("100644", b"good", blob),
        ]
    )
    repository.commit_tree(tree)
    with open_local(repository, tmp_path / "cache", to_write=False) as local:
        export(local, lambda remote: remote, tmp_path / "deep/out", revision="hostile")
    assert files_below(tmp_path / "deep") == {b"out/good": b"evil"}


def test_an_error_names_its_file_and_the_next_run_goes_on(
    published: Published, tmp_path: Path
) -> None:
    def deny(call: Call, number: int) -> Fault | None:
        is_data = call.verb == "fetch_range" and (call.length or 0) > 100_000
        return Raises(RemoteDenied("not for you")) if is_data else None

    with published.cloned(tmp_path) as (_, local):
        denying = faulty(deny)
        with pytest.raises(StoreError, match=r"^data/.*not for you"):
            export(local, lambda remote: denying(to(published.bucket)(remote)), tmp_path / "out")
        assert not any(TEMPORARY_PREFIX in path for path in files_below(tmp_path / "out"))
        export(local, to(published.bucket), tmp_path / "out")
    assert CONTENTS.items() <= files_below(tmp_path / "out").items()


KILLED = """
import os, signal, sys, threading
from store import export
finish, count, lock = export._ExportTarget.finish, 0, threading.Lock()
def kill_at_fifth(self):
    global count
    # One after another, though several threads write: four are whole by then.
    with lock:
        count += 1
        if count == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        finish(self)
export._ExportTarget.finish = kill_at_fifth
from cli.main import run
run(sys.argv[1:])
"""


def test_after_a_kill_nothing_is_half_there_and_the_next_run_goes_on(
    repository: Repository, tmp_path: Path
) -> None:
    contents = {f"data/{number}".encode(): random_bytes(20_000, number) for number in range(20)}
    for path, content in contents.items():
        repository.write(path, content)
    assert repository.revfs("-q", "add", "data") == 0
    repository.commit()
    out = tmp_path / "out"
    command = python_command(KILLED, "-C", repository.top, "export", "HEAD", "data", out)
    assert subprocess.run(command, env=environment_with()).returncode < 0
    left = files_below(out)
    whole = {path: content for path, content in left.items() if TEMPORARY_PREFIX not in path}
    assert 4 <= len(whole) < len(left)
    assert all(contents[b"data/" + path] == content for path, content in whole.items())
    with open_local(repository, tmp_path / "cache", to_write=False) as local:
        summary = export(local, lambda remote: remote, out, b"data")
    assert (summary.done_files, summary.files) == (len(whole), 20 - len(whole))
    assert {b"data/" + path: content for path, content in files_below(out).items()} == contents


def test_a_name_that_only_looks_like_a_leftover_stays(published: Published, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / (os.fsdecode(TEMPORARY_PREFIX) + "notes")).write_bytes(b"mine")
    (out / os.fsdecode(temporary_name(TEMPORARY_PREFIX))).write_bytes(b"left over")
    with published.cloned(tmp_path) as (_, local):
        export(local, to(published.bucket), out)
    left = [path for path in files_below(out) if path.startswith(TEMPORARY_PREFIX)]
    assert left == [TEMPORARY_PREFIX + b"notes"]


def test_two_exports_to_one_folder_do_not_meet(published: Published, tmp_path: Path) -> None:
    from fcntl import LOCK_EX, flock

    out = tmp_path / "out"
    out.mkdir()
    other = TargetFolder(out)
    flock(other.descriptor, LOCK_EX)
    with (
        published.cloned(tmp_path) as (_, local),
        pytest.raises(Busy, match="another revfs export"),
    ):
        export(local, to(published.bucket), out)
    other.close()


def test_many_small_files_are_some_requests_a_pack(tmp_path: Path) -> None:
    contents = {f"data/{n:04}".encode(): random_bytes(3000, n) for n in range(300)}
    published = publish(tmp_path, contents)
    with published.cloned(tmp_path) as (_, local):
        calls = len(published.bucket.calls)
        export(local, to(published.bucket), tmp_path / "out")
    gets = [call for call in published.bucket.calls[calls:] if call.verb == "fetch_range"]
    assert len(gets) <= 2
    assert contents.items() <= files_below(tmp_path / "out").items()


def test_a_large_file_is_never_held_whole(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import store.export as module

    sizes = []
    write_all: Callable[[int, bytes], None] = module.write_all

    def measured(descriptor: int, content: bytes) -> None:
        sizes.append(len(content))
        write_all(descriptor, content)

    monkeypatch.setattr(module, "write_all", measured)
    with published.cloned(tmp_path) as (_, local):
        export(local, to(published.bucket), tmp_path / "out", b"data/large")
    assert sizes == [4 << 20, LARGE_BYTES - (4 << 20)]
