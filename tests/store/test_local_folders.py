import os
from pathlib import Path

import pytest

from store import local_folders
from store.errors import CacheUnusable
from store.local_folders import file_system_type, make_private_folder, mounted_file_systems


def test_a_new_folder_and_its_parents_are_made_and_only_ours(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    assert make_private_folder(folder) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = make_private_folder(tmp_path / "a")
    (folder / "kept").touch()
    assert (make_private_folder(folder) / "kept").exists()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(CacheUnusable, match="can be written by others"):
        make_private_folder(folder)


def test_a_symbolic_link_is_refused_wherever_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    for name, target in [("there", "real"), ("dangling", "nowhere")]:
        (tmp_path / name).symlink_to(target)
        with pytest.raises(CacheUnusable, match=name):
            make_private_folder(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_its_place_and_a_file_among_its_parents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CacheUnusable, match="file"):
            make_private_folder(folder)


def test_the_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_private_folder(tmp_path / "theirs")
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
    with pytest.raises(CacheUnusable, match="another user"):
        make_private_folder(folder)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"])
def test_a_network_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = [("/", "ext4"), (str(tmp_path), kind)]
    monkeypatch.setattr(local_folders, "mounted_file_systems", lambda: mounts)
    with pytest.raises(CacheUnusable, match=kind):
        make_private_folder(tmp_path / "cache")


def test_the_innermost_and_last_mount_tells_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "ext4"), ("/x/y", "nfs"), ("/x/y", "tmpfs"), ("/x/yz", "fuse.a")]
    monkeypatch.setattr(local_folders, "mounted_file_systems", lambda: mounts)
    found = [file_system_type(Path(path)) for path in ("/x", "/x/y", "/x/y/z", "/x/yz", "/x/yzz")]
    assert found == ["ext4", "tmpfs", "tmpfs", "fuse.a", "ext4"]


def test_the_kernel_s_list_of_mounts_is_understood() -> None:
    found = dict(mounted_file_systems())
    assert found["/proc"] == "proc"
    assert all(place.startswith("/") for place in found)


def test_escaped_names_in_the_list_of_mounts_are_read_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [
        r"36 35 98:0 /a /mnt/with\040space rw,noatime master:1 shared:2 - ext3 /dev/x rw",
        r"37 35 98:0 / /mnt/back\134040slash rw - tmpfs none rw",
        "38 35 98:0 / /mnt/line\x0cfeed\r rw - tmpfs none rw",
        "",
    ]
    monkeypatch.setattr(Path, "read_bytes", lambda _: "\n".join(lines).encode())
    assert mounted_file_systems() == [
        ("/mnt/with space", "ext3"),
        (r"/mnt/back\040slash", "tmpfs"),
        ("/mnt/line\x0cfeed\r", "tmpfs"),
    ]
