"""git status where nothing changed: no filter is started, and no content is read."""

import time
from pathlib import Path

from tests.mounted.repositories import Clone, make_repository


def make_clean(folder: Path) -> Clone:
    repository = make_repository(folder, None)
    for number in range(400):
        path = repository.top / f"data/{number % 7}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    repository.revfs("add", "data")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "-m", "all")
    return repository


def test_git_status_of_clean_files_starts_no_filter_after_revfs_add(tmp_path: Path) -> None:
    repository = make_clean(tmp_path)
    marker = tmp_path / "started"
    started = f"filter.revfs.process=touch {marker}; exit 1"
    for verb in ("status", "diff", "stash", "commit"):
        options = ["--quiet"] if verb == "diff" else ["-m", "x"] if verb == "commit" else []
        repository.run("git", "-c", started, verb, *options, ok=False)
    assert not marker.exists()
    # The very same command would have been noticed.
    time.sleep(0.01)
    (repository.top / "data/0/0").write_bytes(b"x")
    repository.run("git", "-c", started, "status", ok=False)
    assert marker.exists()


def test_git_status_after_a_checkout_by_git_starts_no_filter(tmp_path: Path) -> None:
    repository = make_clean(tmp_path)
    repository.git("rm", "--quiet", "-r", "data/3")
    repository.git("commit", "--quiet", "-m", "fewer")
    repository.git("checkout", "--quiet", "HEAD~1")
    # What changed within the second in which git wrote its index is looked at once more, as ever.
    time.sleep(1.1)
    repository.git("status")
    marker = tmp_path / "started"
    repository.git("-c", f"filter.revfs.process=touch {marker}; exit 1", "status")
    assert not marker.exists()
