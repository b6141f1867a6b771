"""The pre-push hook and the filter as `revfs init` sets them up, and git push through the hook."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.mounted.repositories import REVFS, Clone, make_repository

FOREIGN = """#!/bin/sh
while read local_ref local_id remote_ref remote_id; do
  echo seen $local_ref >>seen
done
"""


@pytest.fixture
def repository(tmp_path: Path) -> Clone:
    """A repository with a version, a remote for data in a folder, and a bare one for git."""
    (tmp_path / "store").mkdir()
    made = make_repository(tmp_path, str(tmp_path / "store"))
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "origin.git"], check=True)
    made.git("remote", "add", "origin", tmp_path / "origin.git")
    (made.top / "data").mkdir()
    (made.top / "data/first").write_bytes(b"first")
    made.revfs("add", "data")
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "first")
    return made


def manifests(repository: Clone) -> int:
    """How many commits are complete in the remote for data."""
    return len(list(repository.top.parent.glob("store/manifests/*/*/*")))


def pushed(repository: Clone) -> str:
    """What git's own remote has as main, or nothing."""
    return repository.git("ls-remote", "origin", "refs/heads/main").partition("\t")[0]


def test_git_push_sends_data_before_refs(repository: Clone) -> None:
    completed = repository.run("git", "push", "origin", "main")
    assert "revfs: pushed 1 commit to " in completed.stderr
    assert manifests(repository) == 1
    assert pushed(repository) == repository.git("rev-parse", "HEAD").strip()
    assert "revfs" not in repository.run("git", "push", "origin", "main").stderr
    repository.git("push", "origin", "main:old")
    assert "revfs" not in repository.run("git", "push", "origin", ":old").stderr


def test_an_annotated_tag_and_a_tag_of_a_file_can_be_pushed(repository: Clone) -> None:
    repository.git("tag", "-a", "v1", "-m", "v1")
    repository.git("tag", "a-file", "HEAD:data/first")
    repository.git("push", "origin", "v1", "a-file")
    assert manifests(repository) == 1


def test_git_push_stops_if_the_data_cannot_go(repository: Clone, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "gone")
    (tmp_path / "store").write_text("no folder")
    completed = repository.run("git", "push", "origin", "main", ok=False)
    assert completed.returncode == 1
    assert "git push stops here" in completed.stderr
    assert pushed(repository) == ""
    repository.git("push", "--no-verify", "origin", "main")
    assert pushed(repository)


def test_without_a_remote_for_data_only_commits_without_data_can_go(repository: Clone) -> None:
    repository.revfs("remote", "remove", "origin")
    completed = repository.run("git", "push", "origin", "main", ok=False)
    assert "there is no remote for the data yet" in completed.stderr
    assert pushed(repository) == ""
    repository.git("rm", "--quiet", "--cached", "-r", "data")
    tree = repository.git("write-tree").strip()
    commit = repository.git("commit-tree", tree, "-m", "no data").strip()
    repository.git("push", "origin", f"{commit}:refs/heads/main")
    assert pushed(repository) == commit


def test_a_hook_that_is_there_is_left_alone_and_said(repository: Clone) -> None:
    hook = repository.top / ".git/hooks/pre-push"
    hook.write_text(FOREIGN)
    hook.chmod(0o755)
    said = repository.revfs("init")
    assert "revfs init --hooks adds it" in said
    assert 'hook pre-push "$@"' in said
    assert hook.read_text() == FOREIGN


def test_with_hooks_a_shell_script_asks_us_first_and_reads_what_it_would(
    repository: Clone,
) -> None:
    hook = repository.top / ".git/hooks/pre-push"
    hook.write_text(FOREIGN)
    hook.chmod(0o750)
    repository.revfs("init", "--hooks")
    assert os.stat(hook).st_mode & 0o777 == 0o750
    repository.git("push", "origin", "main")
    assert manifests(repository) == 1
    assert (repository.top / "seen").read_text() == "seen refs/heads/main\n"
    changed = hook.read_text()
    assert repository.revfs("init", "--hooks").count("\n") == 1
    assert hook.read_text() == changed
    repository.git("push", "origin", "main")
    assert (repository.top / "seen").read_text() == "seen refs/heads/main\n"


def test_a_script_that_only_tells_of_us_is_not_taken_for_a_call(repository: Clone) -> None:
    hook = repository.top / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\n# it was: revfs hook pre-push\necho Running hook pre-push\n")
    hook.chmod(0o755)
    assert "does not send data yet" in repository.run(REVFS, "init").stdout
    assert "does not call revfs" in repository.run(REVFS, "doctor", ok=False).stdout
    repository.revfs("init", "--hooks")
    repository.git("push", "origin", "main")
    assert manifests(repository) == 1


def test_a_script_that_git_passes_over_is_not_said_to_send_data(repository: Clone) -> None:
    hook = repository.top / ".git/hooks/pre-push"
    hook.write_text(FOREIGN)
    hook.chmod(0o644)
    completed = repository.run(REVFS, "init", "--hooks", ok=False)
    assert completed.returncode == 1
    assert "not executable: chmod +x it" in completed.stderr
    assert "sends data first" not in completed.stdout
    assert hook.read_text() == FOREIGN


def test_who_has_turned_all_hooks_off_can_set_a_clone_up(repository: Clone) -> None:
    repository.git("config", "core.hooksPath", "/dev/null")
    assert "does not send data yet" in repository.run(REVFS, "init").stdout


def test_a_hook_in_another_language_is_not_touched(repository: Clone) -> None:
    hook = repository.top / ".git/hooks/pre-push"
    hook.write_text("#!/usr/bin/env python3\nprint('mine')\n")
    assert "is no shell script" in repository.fails("init", "--hooks")
    assert hook.read_text() == "#!/usr/bin/env python3\nprint('mine')\n"


def test_a_shared_folder_of_hooks_is_written_only_when_asked(
    repository: Clone, tmp_path: Path
) -> None:
    (repository.top / ".git/hooks/pre-push").unlink()
    repository.git("config", "core.hooksPath", tmp_path / "hooks")
    assert "a folder of hooks that is not this repository's" in repository.revfs("init")
    assert not (tmp_path / "hooks").exists()
    repository.revfs("init", "--hooks")
    repository.git("push", "origin", "main")
    assert manifests(repository) == 1
    assert not (repository.top / ".git/hooks/pre-push").exists()


def test_no_hooks_means_none(tmp_path: Path) -> None:
    top = tmp_path / "repository"
    top.mkdir()
    clone = Clone(top, tmp_path / "home")
    clone.git("init", "--quiet")
    clone.revfs("init", "--no-hooks")
    assert not (top / ".git/hooks/pre-push").exists()
    assert clone.git("config", "filter.revfs.required") == "true\n"


def test_a_hook_whose_revfs_is_gone_says_so(repository: Clone) -> None:
    hook = repository.top / ".git/hooks/pre-push"
    lines = [line.replace("revfs hook", "gone-revfs hook") for line in hook.read_text().split("\n")]
    text = "\n".join(lines)
    assert text != hook.read_text()
    command = next(line for line in text.split("\n") if "command -v" in line).split()[4]
    hook.write_text(text.replace(command, "/nowhere/revfs"))
    completed = repository.run("git", "push", "origin", "main", ok=False)
    assert "install revfs" in completed.stderr
    assert pushed(repository) == ""


def test_a_clone_that_nobody_set_up_is_set_up_before_it_gets_data(
    repository: Clone, tmp_path: Path
) -> None:
    repository.git("push", "origin", "main")
    clone = Clone(tmp_path / "clone", tmp_path / "clone-home")
    subprocess.run(
        ["git", "clone", "--quiet", tmp_path / "origin.git", tmp_path / "clone"], check=True
    )
    said = clone.run(REVFS, "pull").stderr
    assert "git's filter for tracked files is set up" in said
    assert "git push sends data first" in said
    (clone.top / "data/first").write_bytes(b"changed by a colleague")
    clone.git("commit", "--quiet", "-a", "-m", "theirs")
    assert "revfs: pushed 1 commit" in clone.run("git", "push", "origin", "main").stderr
    assert manifests(repository) == 2
    assert clone.run(REVFS, "pull").stderr == ""


def test_a_folder_that_was_renamed_without_its_rule_is_told_of(repository: Clone) -> None:
    repository.git("mv", "data", "images")
    repository.git("commit", "--quiet", "-m", "renamed")
    said = repository.run("git", "push", "origin", "main").stderr
    assert "1 data file (images/first) no rule in .gitattributes marks" in said
    repository.revfs("add", "images")
    repository.git("commit", "--quiet", "-m", "marked")
    assert "no rule" not in repository.run("git", "push", "origin", "main").stderr
