"""The checks of what a mount needs: each failure provoked, and the sentence read."""

import os
import socket
from pathlib import Path

import pytest

from store.checks import Finding, Outcome
from tests.fakes.processes import environment_with
from vfs.mount_checks import (
    check_device,
    check_helper,
    check_library,
    check_mounts,
    check_other_users,
)
from vfs.mount_records import MountRecord, process_start

SOMEBODY = 1000


def is_problem(finding: Finding, words: str) -> bool:
    return finding.outcome is Outcome.PROBLEM and words in finding.text


def record(mountpoint: str, pid_started: int) -> MountRecord:
    known = {"mountpoint": mountpoint, "pid": os.getpid(), "pid_started": pid_started}
    names = [name for name in MountRecord.__dataclass_fields__ if name not in known]
    return MountRecord(**known, **{name: name for name in names})  # type: ignore[arg-type]


def test_a_device_that_can_be_opened_is_well() -> None:
    assert check_device(Path("/dev/null")).outcome is Outcome.OK


def test_a_missing_device_says_how_to_get_it_or_do_without(tmp_path: Path) -> None:
    found = check_device(tmp_path / "fuse")
    assert is_problem(found, "run `modprobe fuse`; a container needs --device /dev/fuse")
    assert "revfs export" in found.text


def test_a_device_that_has_no_driver_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "fuse")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert is_problem(check_device(Path(path)), "No such device or address): run `modprobe")


def test_a_device_of_others_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert is_problem(check_device(tmp_path / "fuse"), "chmod a+rw")


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    found = check_helper({"PATH": str(tmp_path)}, SOMEBODY)
    assert is_problem(found, "install the package fuse3")


@pytest.mark.parametrize(
    ("mode", "user", "outcome"),
    [(0o755, SOMEBODY, "problem"), (0o755, 0, "ok"), (0o4755, SOMEBODY, "ok")],
)
def test_a_helper_must_be_setuid_root_for_all_but_root(
    tmp_path: Path, mode: int, user: int, outcome: str
) -> None:
    helper = tmp_path / "fusermount3"
    helper.touch()
    helper.chmod(mode)
    if helper.stat().st_uid != 0:
        pytest.skip("only root can make what belongs to root")
    found = check_helper(environment_with(PATH=str(tmp_path)), user)
    assert found.outcome.value == outcome
    assert outcome == "ok" or f"chmod u+s {helper}" in found.text


def test_a_library_that_cannot_be_loaded_is_named() -> None:
    assert check_library().outcome is Outcome.OK
    assert is_problem(check_library("vfs.not_there"), "install libfuse3")


def test_that_a_mount_cannot_be_shown_to_others_is_a_note(tmp_path: Path) -> None:
    configuration = tmp_path / "fuse.conf"
    configuration.write_text("# user_allow_other\n")
    found = check_other_users(SOMEBODY, configuration)
    assert (found.outcome, "for root alone" in found.text) == (Outcome.OK, True)
    configuration.write_text("mount_max = 10\nuser_allow_other\n")
    assert "allows it" in check_other_users(SOMEBODY, configuration).text
    assert check_other_users(0, configuration).text == "root may use it"
    missing = check_other_users(SOMEBODY, tmp_path / "none")
    assert missing.outcome is Outcome.NOT_CHECKED


def test_a_mount_without_its_process_is_to_be_taken_down() -> None:
    started = process_start(os.getpid())
    assert started is not None
    alive, dead = record("/mnt/alive", started), record("/mnt/dead", started + 1)
    assert [found.outcome for found in check_mounts([alive])] == [Outcome.OK]
    (found,) = check_mounts([alive, dead])
    assert is_problem(found, "run `revfs unmount /mnt/dead`")
