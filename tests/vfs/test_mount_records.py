"""The records of mounts: found by others, of this process or a gone one, never in the way."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import Busy, StoreError
from vfs.mount_records import MountRecord, MountRecords, mount_id, process_start, unmount


@pytest.fixture
def records(tmp_path: Path) -> MountRecords:
    return MountRecords(tmp_path / "user")


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends when it is told to."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def record_of(mountpoint: Path, pid: int, started: int | None = None) -> MountRecord:
    return MountRecord(
        mountpoint=str(mountpoint),
        revision="v1",
        commit="0" * 40,
        git_dir="/repository/.git",
        repository="",
        store="",
        cache_directory="/cache",
        pid=pid,
        pid_started=(process_start(pid) or 0) if started is None else started,
        log="/log",
        fetched_bytes=7,
    )


def test_a_record_is_read_as_it_was_written(records: MountRecords, tmp_path: Path) -> None:
    for name in ("plain", "with space", "line\nbreak", os.fsdecode(b"not utf-8 \xff")):
        record = record_of(tmp_path / name, os.getpid())
        records.write(record)
        assert records.load(tmp_path / name) == record
        assert record.is_alive()


def descriptor_of(name: str) -> int:
    """The descriptor of this process that is open on a file of that name."""
    for link in Path("/proc/self/fd").iterdir():
        if link.is_symlink() and os.readlink(link).endswith(f"/{name}"):
            return int(link.name)
    raise AssertionError(f"{name} is not open")


def test_a_mount_that_failed_leaves_no_claim_though_a_process_it_forked_still_has_the_lock(
    records: MountRecords, tmp_path: Path
) -> None:
    inherited: list[int] = []

    def fail_while_claimed() -> None:
        with records.claimed(tmp_path):
            with pytest.raises(Busy), records.claimed(tmp_path):
                pass
            # What a fork has: another descriptor of the same open file.
            inherited.append(os.dup(descriptor_of(f"{mount_id(tmp_path)}.lock")))
            raise StoreError("no such revision")

    with pytest.raises(StoreError, match="no such revision"):
        fail_while_claimed()
    with records.claimed(tmp_path):
        os.close(inherited[0])


def test_records_are_listed_by_mountpoint_and_can_be_forgotten(
    records: MountRecords, tmp_path: Path
) -> None:
    places = [tmp_path / name for name in ("c", "a", "b")]
    for place in places:
        records.write(record_of(place, os.getpid()))
    assert [record.mountpoint for record in records.load_all()] == sorted(map(str, places))
    records.remove(places[0])
    records.remove(places[0])
    assert len(records.load_all()) == 2
    assert records.load(places[0]) is None


def test_a_record_is_renewed_whole(records: MountRecords, tmp_path: Path) -> None:
    record = record_of(tmp_path, os.getpid())
    records.write(record)
    renewed = dataclasses.replace(record, fetched_bytes=8)
    records.write(renewed)
    assert records.load_all() == [renewed]
    assert [path.suffix for path in (tmp_path / "user/mounts").iterdir()] == [".json"]


def test_a_record_whose_process_is_gone_and_mount_too_is_forgotten(
    records: MountRecords, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    record = record_of(tmp_path, sleeper.pid)
    records.write(record)
    assert records.load_all() == [record]
    sleeper.kill()
    sleeper.wait()
    assert not record.is_alive()
    assert records.load_all() == []
    assert list((tmp_path / "user/mounts").iterdir()) == []


def test_a_zombie_is_no_live_process(sleeper: "subprocess.Popen[bytes]") -> None:
    assert process_start(sleeper.pid) is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{sleeper.pid}").exists()
    assert process_start(sleeper.pid) is None


def test_another_process_of_the_same_number_is_not_the_mount_s(
    records: MountRecords, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    started = process_start(sleeper.pid)
    assert started is not None
    records.write(record_of(tmp_path / "place", sleeper.pid, started + 1))
    with pytest.raises(StoreError, match="no revision is mounted"):
        unmount(records, tmp_path / "place")
    assert sleeper.poll() is None
    assert records.load_all() == []


def test_the_start_of_a_process_is_read_behind_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([odd, "60"])
    try:
        boot_ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
        started = process_start(process.pid)
        assert started is not None
        assert boot_ticks - 6000 < started <= boot_ticks + 1
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"mountpoint": 1}', "\x00", '"' + "x" * 10_000]
)
def test_a_damaged_record_is_passed_over(records: MountRecords, tmp_path: Path, text: str) -> None:
    good = record_of(tmp_path / "good", os.getpid())
    records.write(good)
    (tmp_path / f"user/mounts/{mount_id(tmp_path / 'bad')}.json").write_text(text)
    assert records.load(tmp_path / "bad") is None
    assert records.load_all() == [good]


def test_a_record_that_an_older_version_wrote_is_read(
    records: MountRecords, tmp_path: Path
) -> None:
    record = record_of(tmp_path, os.getpid())
    records.write(record)
    path = tmp_path / f"user/mounts/{mount_id(tmp_path)}.json"
    newer = ("kind", "common_dir", "device", "first_mountpoint")
    values = {
        name: value for name, value in json.loads(path.read_text()).items() if name not in newer
    }
    path.write_text(json.dumps(values))
    assert records.load(tmp_path) == record
    assert record.title == "v1"


def test_a_mount_is_found_by_where_it_was_first_and_where_it_is_said_to_be(
    records: MountRecords, tmp_path: Path
) -> None:
    one = dataclasses.replace(
        record_of(tmp_path / "one", os.getpid()), first_mountpoint=str(tmp_path / "first")
    )
    records.write(one)
    assert records.find(tmp_path / "one") == records.find(tmp_path / "first") == one
    assert records.find(tmp_path / "other") is None
    records.write(dataclasses.replace(one, mountpoint=str(tmp_path / "two")))
    with pytest.raises(StoreError, match=r"several mounts were on .*/first before they moved"):
        records.find(tmp_path / "first")
    assert records.find(tmp_path / "one") == one


def test_a_process_forgets_its_own_record_alone(records: MountRecords, tmp_path: Path) -> None:
    mine = record_of(tmp_path, os.getpid())
    other = dataclasses.replace(mine, pid_started=mine.pid_started + 1)
    records.write(other)
    records.remove_own(mine)
    assert records.load(tmp_path) == other
    records.remove_own(other)
    assert records.load(tmp_path) is None


def test_a_mount_whose_repository_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    alive = record_of(tmp_path, os.getpid())
    assert alive.state() == "alive"
    (tmp_path / "git/objects").mkdir(parents=True)
    known = dataclasses.replace(alive, common_dir=str(tmp_path / "git"))
    assert known.state() == "alive"
    (tmp_path / "git").rename(tmp_path / "elsewhere")
    assert known.state() == "repository gone"
    assert dataclasses.replace(known, pid_started=1).state() == "dead"
    assert dataclasses.replace(known, device="0:0").state() == "detached"


def test_bytes_that_are_no_text_are_a_damaged_record(records: MountRecords, tmp_path: Path) -> None:
    (tmp_path / f"user/mounts/{mount_id(tmp_path)}.json").write_bytes(b"\xff\xfe{")
    assert records.load_all() == []


def test_unmounting_ends_the_process_and_forgets_the_record(
    records: MountRecords, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    records.write(record_of(place, sleeper.pid))
    unmount(records, tmp_path / "link")
    assert records.load(place) is None
    assert process_start(sleeper.pid) is None


def test_mountpoints_have_short_names_of_their_own(tmp_path: Path) -> None:
    names = {mount_id(tmp_path / str(number)) for number in range(100)}
    assert len(names) == 100
    assert {len(name) for name in names} == {16}
