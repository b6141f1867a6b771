"""A version made of the files of a mounted one, which are files like others to `add --to`."""

from pathlib import Path

from tests.mounted.repositories import commit_version, make_repository

CONTENTS = {"large": b"0123456789" * 60_000, "small": b"x", "empty": b"", "deep/er/file": b"deep"}


def test_the_files_of_a_mount_become_another_version_and_nothing_is_staged_again(
    tmp_path: Path,
) -> None:
    repository = make_repository(tmp_path, None)
    for name, content in CONTENTS.items():
        place = repository.top / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (repository.top / "data/link").symlink_to("small")
    commit_version(repository, "v1")
    with repository.mounted("v1") as mount:
        said = repository.revfs("add", mount.path / "data", "--to", "copy")
        assert ", 0 B staged)" in said
        repository.git("commit", "--quiet", "-m", "v2")
        assert repository.git("rev-parse", "v1:data") == repository.git("rev-parse", "HEAD:copy")
        again = repository.revfs("add", mount.path / "data", "--to", "copy")
        assert "(0 B read, " in again
    assert repository.git("status", "--porcelain") == ""
