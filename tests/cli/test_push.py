"""`revfs push` as a person meets it, with folders for remotes."""

import json
import subprocess
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.processes import environment_with, revfs_command
from tests.fakes.repositories import Repository, make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Repository:
    """A repository with a folder for its remote and one commit of data."""
    repository = make_repository(tmp_path / "repository")
    (tmp_path / "disk").mkdir()
    assert repository.revfs("remote", "add", "-d", "disk", str(tmp_path / "disk")) == 0
    repository.write("a", b"content")
    assert repository.revfs("add", "a") == 0
    repository.commit()
    capsys.readouterr()
    return repository


def manifests(folder: Path) -> set[str]:
    """The commits that have a manifest in a folder remote."""
    return {path.parent.name for path in folder.glob("manifests/*/*/*")}


def revisions(repository: Repository, *names: str) -> set[str]:
    return set(repository.git("rev-list", *names).decode().split())


def test_what_was_pushed_is_said_and_then_that_all_is_there(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    assert repository.revfs("push") == ExitCode.DONE
    out = capsys.readouterr().out
    assert out.startswith(f"pushed 2 commits to {disk}: ")
    assert out.endswith(" uploaded\n")
    assert manifests(disk) == revisions(repository, "HEAD")
    assert repository.revfs("push") == ExitCode.DONE
    assert capsys.readouterr().out == f"{disk} has everything already\n"


def test_only_the_named_revisions_and_their_history_go(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("tag", "v1")
    repository.write("b", b"more")
    repository.revfs("add", "b")
    repository.commit()
    assert repository.revfs("push", "v1") == ExitCode.DONE
    assert manifests(tmp_path / "disk") == revisions(repository, "v1")
    assert repository.revfs("push", "HEAD~1", "main") == ExitCode.DONE
    assert manifests(tmp_path / "disk") == revisions(repository, "main")


def test_all_means_every_branch_and_tag_that_names_a_commit(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("branch", "topic/one")
    repository.git("tag", "of-a-file", repository.write_blob(b"x"))
    for branch in ("side", "other/side"):
        repository.git("checkout", "--quiet", "--force", "-b", branch)
        repository.commit(branch)
    repository.git("checkout", "--quiet", "--force", "main")
    assert repository.revfs("push", "--all") == ExitCode.DONE
    assert manifests(tmp_path / "disk") == revisions(repository, "--branches")
    assert repository.revfs("push", "--all", "main") == ExitCode.USAGE


def test_a_second_remote_gets_what_only_the_first_still_has(
    repository: Repository, tmp_path: Path
) -> None:
    repository.write("large", random_bytes(1 << 20))
    repository.revfs("add", "large")
    (tmp_path / "backup").mkdir()
    assert repository.revfs("remote", "add", "backup", str(tmp_path / "backup")) == ExitCode.DONE
    repository.commit()
    assert repository.revfs("push") == ExitCode.DONE
    assert repository.revfs("push", "--remote", "backup") == ExitCode.DONE
    assert manifests(tmp_path / "backup") == manifests(tmp_path / "disk")
    # What the first one took is not staged any more: it came from there.
    (tmp_path / "disk").rename(tmp_path / "away")
    clone = repository.clone(tmp_path / "clone")
    command = revfs_command("cat", "HEAD:large")
    environment = environment_with(XDG_CACHE_HOME=str(tmp_path / "fresh"), REVFS_REMOTE="backup")
    shown = subprocess.run(command, cwd=clone.top, env=environment, stdout=subprocess.PIPE)
    assert shown.stdout == random_bytes(1 << 20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none",), "no commit goes by the name 'none' here"),
        (("--remote", "none"), "none"),
        (("HEAD", "none"), "no commit goes by the name 'none' here"),
    ],
)
def test_a_name_that_is_none_is_one_sentence(
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
) -> None:
    assert repository.revfs("push", *arguments) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err.startswith("revfs: ")
    assert words in err
    assert err.count("\n") == 1
    assert manifests(tmp_path / "disk") == set()


def test_data_that_is_nowhere_is_named_with_its_path(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for pack in (repository.top / ".git/revfs/staged").iterdir():
        pack.unlink()
    assert repository.revfs("push") == ExitCode.FAILED
    err = capsys.readouterr().err
    commit = repository.git("rev-parse", "HEAD").decode()[:12]
    assert f"the data of a (commit {commit}) is not staged" in err
    assert err.count("\n") == 1
    assert manifests(tmp_path / "disk") == set()


def test_without_a_commit_a_remote_or_an_id_the_way_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_repository(tmp_path / "new", initialised=False)
    assert repository.revfs("push") == ExitCode.FAILED
    assert "`revfs remote add -d NAME URL`" in capsys.readouterr().err
    assert repository.revfs("remote", "add", "-d", "disk", str(tmp_path)) == ExitCode.DONE
    assert repository.revfs("push") == ExitCode.FAILED
    assert "run `revfs init`" in capsys.readouterr().err
    assert repository.revfs("init") == ExitCode.DONE
    assert repository.revfs("push") == ExitCode.FAILED
    assert "there is no commit yet" in capsys.readouterr().err


def test_a_remote_that_is_not_mounted_is_one_sentence(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "disk").rmdir()
    assert repository.revfs("push") == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "is not there; is it mounted?" in err
    assert err.count("\n") == 1


def test_two_clones_push_at_once_in_processes_of_their_own(
    repository: Repository, tmp_path: Path
) -> None:
    clones = []
    for number in range(2):
        clone = repository.clone(tmp_path / f"clone{number}")
        clone.write("mine", random_bytes(300_000, number))
        clone.write("ours", random_bytes(300_000, 9))
        clone.git("commit", "--quiet", "--allow-empty", "--message", f"of {number}")
        clones.append(clone)
    # `a` is a pointer text in the clones, so it goes first.
    assert repository.revfs("push") == ExitCode.DONE
    processes = []
    for number, clone in enumerate(clones):
        clone.revfs("remote", "add", "-d", "disk", str(tmp_path / "disk"))
        assert clone.revfs("add", "mine", "ours") == ExitCode.DONE
        clone.commit()
        processes.append(
            subprocess.Popen(
                revfs_command("push"),
                cwd=clone.top,
                env=environment_with(XDG_CACHE_HOME=str(tmp_path / f"cache{number}")),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
    wanted = set().union(*(revisions(clone, "HEAD") for clone in clones))
    assert wanted <= manifests(tmp_path / "disk")


def test_the_facts_of_a_push_are_json(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("facts", b"data")
    assert repository.revfs("-q", "add", "facts") == ExitCode.DONE
    repository.commit()
    for is_new in (True, False):
        capsys.readouterr()
        assert repository.revfs("push", "--json") == ExitCode.DONE
        facts = json.loads(capsys.readouterr().out)
        assert facts["remote"] == str(tmp_path / "disk")
        counts = [facts[name] for name in ("commits", "packs", "uploaded_bytes")]
        assert all(count > 0 for count in counts) if is_new else counts == [0, 0, 0]
