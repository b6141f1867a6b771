"""Where a revision can be mounted and where not, and what is left after either."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.mounted.conftest import Published
from tests.mounted.repositories import REVFS, Clone, is_in_tree, wait_until
from tests.mounted.trees import summaries
from vfs.mount_records import process_start


def assert_refused(clone: Clone, place: Path | str, said: str, *options: str) -> None:
    """Mounting there fails with one sentence; no mount, record or process comes of it."""
    assert said in clone.fails("mount", *options, "v1", place)
    assert clone.mounts() == []
    assert not is_in_tree(Path(place))


def test_a_folder_that_is_missing_or_none_or_not_empty_is_refused(clone: Clone) -> None:
    file = clone.home / "file"
    file.touch()
    full = clone.home / "full"
    full.mkdir()
    (full / "precious").write_text("kept")
    assert_refused(clone, clone.home / "missing", "does not exist")
    assert_refused(clone, file, "is not a folder")
    assert_refused(clone, full, "is not empty")
    assert (full / "precious").read_text() == "kept"
    assert not (clone.home / "missing").exists()


def test_folders_inside_the_cache_or_the_git_directory_are_refused(clone: Clone) -> None:
    for parent in (clone.cache, clone.top / ".git"):
        place = parent / "empty"
        place.mkdir(parents=True)
        assert_refused(clone, place, "is inside")
    link = clone.home / "link"
    link.symlink_to(clone.top / ".git/empty")
    assert_refused(clone, link, "is inside")


def test_a_mountpoint_in_use_is_refused_and_goes_on(clone: Clone) -> None:
    link = clone.home / "link"
    with clone.mounted("v1") as mount:
        link.symlink_to(mount.path)
        for place in (mount.path, link):
            assert "is mounted already" in clone.fails("mount", "v2", place)
        assert (mount.path / "data/empty").stat().st_size == 0
        assert [entry["revision"] for entry in clone.mounts()] == ["v1"]


def test_of_several_who_mount_at_one_place_at_once_one_does(clone: Clone) -> None:
    place = clone.fresh_mountpoint()
    command = [str(REVFS), "mount", "v1", str(place)]
    try:
        runs = [
            subprocess.Popen(command, cwd=clone.top, env=clone.environment, stderr=subprocess.PIPE)
            for _ in range(4)
        ]
        said = [run.communicate()[1] for run in runs]
        assert sorted(run.returncode for run in runs) == [0, 1, 1, 1], said
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        assert len([line for line in lines if f" {place} " in line]) == 1
    finally:
        clone.end_mount(place)


@pytest.mark.parametrize("options", [(), ("--foreground",)], ids=["background", "foreground"])
def test_an_unknown_revision_leaves_nothing(clone: Clone, options: tuple[str, ...]) -> None:
    place = clone.fresh_mountpoint()
    said = clone.fails("mount", "nonsense", place, *options)
    assert "no commit goes by the name 'nonsense'" in said
    assert "'nonsense'" in clone.fails("mount", "nonsense", *options)
    assert not (clone.top / "mnt").exists()
    assert not is_in_tree(place)
    assert clone.mounts() == []


def test_the_default_mountpoint_is_made_kept_out_of_git_and_removed(clone: Clone) -> None:
    place = clone.top / "mnt/v1"
    try:
        clone.revfs("mount", "v1")
        assert (place / "README.md").exists()
        assert clone.git("status", "--porcelain") == ""
        (listed,) = clone.mounts()
        assert listed["mountpoint"] == str(place)
        clone.revfs("unmount", place)
        wait_until(lambda: not place.parent.exists())
    finally:
        clone.end_mount(place)
    assert clone.git("status", "--porcelain") == ""
    exclude = (clone.top / ".git/info/exclude").read_text().splitlines()
    assert exclude.count("/mnt/v1/") == 1


def test_a_revision_with_slashes_has_a_flat_default_mountpoint(clone: Clone) -> None:
    clone.git("branch", "feature/of/mine", "v1")
    place = clone.top / "mnt/feature-of-mine"
    try:
        clone.revfs("-C", clone.top / "data", "mount", "feature/of/mine")
        assert (place / "data/large.bin").stat().st_size == 9_000_001
    finally:
        clone.end_mount(place)


@pytest.mark.parametrize("link", ["mnt", "mnt/v1"])
def test_a_committed_link_does_not_say_where_a_mountpoint_is_made(clone: Clone, link: str) -> None:
    elsewhere = clone.home / "elsewhere"
    elsewhere.mkdir()
    (clone.top / link).parent.mkdir(exist_ok=True)
    (clone.top / link).symlink_to(elsewhere)
    assert "is a symbolic link" in clone.fails("mount", "v1")
    assert list(elsewhere.iterdir()) == []
    assert clone.mounts() == []


def test_a_bare_repository_needs_a_mountpoint_and_then_mounts(
    published: Published, tmp_path: Path
) -> None:
    bare = Clone(tmp_path / "bare.git", tmp_path / "home")
    source = published.repository.top
    subprocess.run(["git", "clone", "-q", "--bare", source, bare.top], check=True)
    assert "name a mountpoint" in bare.fails("mount", "v1")
    with bare.mounted("v1") as mount:
        expected = (published.checkouts / "v1/data/table.csv").read_bytes()
        assert (mount.path / "data/table.csv").read_bytes() == expected


def test_mountpoints_with_odd_names_work(clone: Clone) -> None:
    for name in (b"a b\\c\nd", b"comma,rw", b"not utf-8 \xff"):
        place = Path(os.fsdecode(os.fsencode(clone.home) + b"/" + name))
        place.mkdir()
        with clone.mounted("v1", place) as mount:
            assert (place / "README.md").exists()
            clone.revfs("unmount", place)
            assert mount.is_gone()


def test_the_log_goes_where_it_is_told(clone: Clone, tmp_path: Path) -> None:
    log = tmp_path / "my.log"
    with clone.mounted("v1", None, "--log", str(log)) as mount:
        assert mount.record.log == str(log)
        assert f"mounted v1 ({mount.record.commit}) on {mount.path}" in log.read_text()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    place = clone.fresh_mountpoint()
    assert_refused(clone, place, "cannot be written", "--log", str(tmp_path / "no/such.log"))
    assert_refused(clone, place, "cannot be written", "--log", str(tmp_path))


def test_a_mount_in_the_foreground_serves_from_the_process_itself(clone: Clone) -> None:
    place = clone.fresh_mountpoint()
    with clone.serving("v1", place) as process:
        (listed,) = clone.mounts()
        assert listed["pid"] == process.pid
        assert (place / "README.md").exists()


def test_a_mount_in_the_background_is_no_child_and_holds_no_terminal_or_folder(
    clone: Clone,
) -> None:
    with clone.mounted("v1") as mount:
        process = Path("/proc") / str(mount.record.pid)
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        parent, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
        assert parent != os.getpid()
        assert session != os.getsid(0)
        assert terminal == 0
        assert os.readlink(process / "cwd") == "/"
        assert os.readlink(process / "fd/0") == os.devnull
        assert process_start(mount.record.pid) == mount.record.pid_started


def mount_options(place: Path) -> set[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(place):
            return {*fields[5].split(","), *fields[-1].split(",")}
    raise AssertionError("it is not mounted")


def test_the_kernel_holds_a_mount_to_be_read_only_without_devices_and_setuid(clone: Clone) -> None:
    with clone.mounted("v1") as mount:
        options = mount_options(mount.path)
        assert {"ro", "nosuid", "nodev", "default_permissions"} <= options
        assert "allow_other" not in options
    with clone.mounted("v1", None, "--allow-other") as mount:
        assert "allow_other" in mount_options(mount.path)


def test_other_users_see_a_mount_only_where_it_was_allowed(clone: Clone, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (tmp_path, *tmp_path.parents[:3], clone.home):
        if str(folder) != "/tmp":
            folder.chmod(folder.stat().st_mode | 0o055)
    nobody = 65534
    for options, allowed in (((), False), (("--allow-other",), True)):
        with clone.mounted("v1", None, *options) as mount:
            completed = subprocess.run(
                ["cat", mount.path / "README.md"], user=nobody, group=nobody, capture_output=True
            )
            assert (completed.returncode == 0) == allowed


def test_a_timeout_that_is_no_number_of_seconds_is_a_usage_error(clone: Clone) -> None:
    for value in ("nan", "inf", "0", "-1", "soon"):
        completed = clone.run(REVFS, "mount", "v1", "--timeout", value, ok=False)
        assert completed.returncode == 2
        assert "--timeout" in completed.stderr


def test_a_folder_of_a_revision_is_mounted_alone(clone: Clone, published: Published) -> None:
    place = clone.top / "mnt/v1-data-deep"
    try:
        clone.revfs("mount", "v1:data/deep/")
        assert summaries(place) == summaries(published.checkouts / "v1/data/deep")
        assert place.stat().st_mtime == int(clone.git("log", "-1", "--format=%ct", "v1"))
        (listed,) = clone.mounts()
        assert listed["revision"] == "v1:data/deep/"
        assert listed["commit"] == clone.git("rev-parse", "v1").strip()
    finally:
        clone.end_mount(place)
    name = os.fsdecode(b"v1:data/odd/not utf-8 \xff\xfe")
    assert "is not a folder in v1" in clone.fails("mount", name, clone.fresh_mountpoint())


def test_a_mount_tells_programs_what_it_is(clone: Clone) -> None:
    place = clone.fresh_mountpoint()
    try:
        said = json.loads(clone.revfs("mount", "v1", place, "--json"))
        record = clone.records.load(place)
        assert record is not None
        assert said == {
            "mountpoint": str(place),
            "kind": "revision",
            "revision": "v1",
            "commit": clone.git("rev-parse", "v1").strip(),
            "pid": record.pid,
            "log": record.log,
        }
    finally:
        clone.end_mount(place)


def test_all_revisions_have_a_default_mountpoint_too(clone: Clone) -> None:
    place = clone.top / "mnt/all"
    try:
        assert clone.revfs("mount", "--all") == f"mounted all revisions on {place}\n"
        assert (place / "tags/v1/data/empty").read_bytes() == b""
        assert clone.git("status", "--porcelain") == ""
        clone.revfs("unmount", place)
        wait_until(lambda: not place.parent.exists())
    finally:
        clone.end_mount(place)
