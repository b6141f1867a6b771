"""`revfs ls`, `cat` and `status` as a person, a script and a pipe meet them."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from cli.main import ExitCode
from store.ids import hash_bytes
from tests.fakes.processes import environment_with, revfs_command
from tests.fakes.repositories import Repository, make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

LARGE = random_bytes(5 << 20)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One commit with an entry of every kind."""
    repository = make_repository(tmp_path / "repository")
    repository.write("data/large", LARGE)
    repository.write("data/small", b"small")
    repository.write(b"data/caf\xe9\n", b"odd")
    repository.write("data/tool", b"run").chmod(0o755)
    (repository.top / "data/link").symlink_to("small")
    repository.write("data/empty", b"")
    assert repository.revfs("-q", "add", "data") == 0
    repository.write("README", b"read me")
    repository.git("add", "README")
    repository.commit()
    repository.git("tag", "v/1.0")
    return repository


def started(repository: Repository, *arguments: str) -> subprocess.Popen[bytes]:
    """revfs in a process of its own."""
    return subprocess.Popen(
        revfs_command(*arguments),
        cwd=repository.top,
        env=environment_with(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_ls_lists_names_on_a_line_each(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("ls") == ExitCode.DONE
    assert lines(capsys) == [".gitattributes", ".revfsconfig", "README", "data/"]
    assert repository.revfs("ls", "v/1.0", "data/") == ExitCode.DONE
    names = ["caf\\xe9\\n", "empty", "large", "link", "small", "tool"]
    assert lines(capsys) == names
    assert repository.revfs("ls", "HEAD", "data/small") == ExitCode.DONE
    assert lines(capsys) == ["small"]
    assert repository.revfs("ls", "HEAD~1") == ExitCode.DONE
    assert lines(capsys) == [".revfsconfig"]


def test_ls_long_has_mode_true_size_and_kind(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("ls", "-l", "HEAD", "data") == ExitCode.DONE
    header, *rows = [line.split(maxsplit=1) for line in lines(capsys)]
    assert header[0] == "MODE"
    plain, link, tool = "-r--r--r--", stat.filemode(stat.S_IFLNK | 0o777), "-r-xr-xr-x"
    assert [row[0] for row in rows] == [plain, plain, plain, link, plain, tool]
    assert " ".join(rows[2][1].split()) == "5 MiB tracked large"
    assert " ".join(rows[1][1].split()) == "0 B git empty"
    assert " ".join(rows[3][1].split()) == "5 B link link"


def test_ls_json_has_names_that_are_not_utf8_and_the_hash_that_b3sum_prints(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("ls", "--json", "HEAD", "data") == ExitCode.DONE
    listed = {os.fsencode(item["path"]): item for item in json.loads(capsys.readouterr().out)}
    assert sorted(listed) == [
        b"data/" + name for name in (b"caf\xe9\n", b"empty", b"large", b"link", b"small", b"tool")
    ]
    small = listed[b"data/small"]
    assert small["blake3"] == hash_bytes(b"small").hex()
    assert (small["kind"], small["size"], small["chunks"]) == ("tracked", 5, 1)
    large = listed[b"data/large"]
    assert (large["size"], large["chunks"] > 1) == (len(LARGE), True)
    assert repository.revfs("ls", "--json", "HEAD") == ExitCode.DONE
    (readme,) = (i for i in json.loads(capsys.readouterr().out) if i["path"] == "README")
    assert readme["kind"] == "git"
    assert readme["git_id"] == repository.git("rev-parse", "HEAD:README").decode().strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ls", "none"), "no commit goes by the name 'none' here"),
        (("ls", "HEAD:none"), "none is not in that revision"),
        (("ls", "none:README"), "no commit goes by the name 'none' here"),
        (("ls", "../README"), "lies outside of the repository"),
        (("ls", "HEAD", "data/../../README"), "lies outside of the repository"),
        (("ls", "HEAD", "data/none"), "data/none is not in that revision"),
        (("ls", "HEAD", "README/x"), "README/x is not in that revision"),
        (("ls", "\udcff"), "no commit goes by the name"),
        (("cat", "none:README"), "no commit goes by the name 'none' here"),
        (("cat", "HEAD:none"), "none is not in that revision"),
        (("cat", "HEAD:data"), "data is a folder; revfs ls lists it"),
        (("cat", "HEAD", "./"), "the top of the repository is a folder; revfs ls lists it"),
    ],
)
def test_what_is_not_there_is_one_sentence_and_exit_code_1(
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert repository.revfs(*arguments) == ExitCode.FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("revfs: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("README",), ("HEAD:",), ("",), ("HEAD", "a", "b"), ("HEAD:a", "b"), ()]
)
def test_cat_of_anything_but_one_path_is_a_usage_error(
    repository: Repository, words: tuple[str, ...]
) -> None:
    assert repository.revfs("cat", *words) == ExitCode.USAGE


def test_ls_takes_one_path(repository: Repository) -> None:
    assert repository.revfs("ls", "HEAD", "data", "README") == ExitCode.USAGE
    assert repository.revfs("ls", "HEAD:data", "README") == ExitCode.USAGE


def test_a_word_that_is_no_revision_is_a_path_of_head(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("ls", "data/small") == ExitCode.DONE
    assert lines(capsys) == ["small"]
    for words in (("ls", "data"), ("ls", "HEAD:data"), ("ls", ":data"), ("ls", "HEAD", "/data/")):
        assert repository.revfs(*words) == ExitCode.DONE
        assert lines(capsys) == ["caf\\xe9\\n", "empty", "large", "link", "small", "tool"]
    repository.git("branch", "data", "HEAD~1")
    assert repository.revfs("ls", "data") == ExitCode.DONE
    assert lines(capsys) == [".revfsconfig"]


def test_a_path_with_a_dot_before_it_is_taken_from_the_current_folder(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = Repository(repository.top / "data")
    for words, listed in {
        ("ls", "HEAD", "./small"): "small",
        ("ls", "./small"): "small",
        ("ls", "HEAD:../README"): "README",
        ("ls", "README"): "README",
        ("ls", "HEAD", "../data/../README"): "README",
    }.items():
        assert inside.revfs(*words) == ExitCode.DONE
        assert lines(capsys) == [listed], words
    assert inside.revfs("ls", "small") == ExitCode.FAILED
    assert inside.revfs("cat", "HEAD:./small") == ExitCode.DONE
    assert "small" in capsys.readouterr().out


def test_ls_recursive_lists_every_file_below_by_its_path_from_there(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("data/deep/er/file", b"12")
    repository.git("add", "data/deep")
    repository.commit()
    assert repository.revfs("ls", "-R", "data") == ExitCode.DONE
    inside = ["caf\\xe9\\n", "deep/er/file", "empty", "large", "link", "small", "tool"]
    assert lines(capsys) == inside
    assert repository.revfs("ls", "--recursive", "HEAD") == ExitCode.DONE
    top = [".gitattributes", ".revfsconfig", "README", *(f"data/{name}" for name in inside)]
    assert lines(capsys) == top
    assert repository.revfs("ls", "-R", "HEAD", "data/small") == ExitCode.DONE
    assert lines(capsys) == ["small"]
    assert repository.revfs("ls", "-R", "--json", "HEAD", "data/deep") == ExitCode.DONE
    assert [f["path"] for f in json.loads(capsys.readouterr().out)] == ["data/deep/er/file"]


def test_cat_writes_the_bytes_and_nothing_else(
    repository: Repository, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    wanted = {
        "HEAD:data/large": LARGE,
        "v/1.0:data/small": b"small",
        ":README": b"read me",
        "main:data/empty": b"",
        "HEAD:data/link": b"small",
        "HEAD:data/caf\udce9\n": b"odd",
        "HEAD data/small": b"small",
        "v/1.0 ./README": b"read me",
    }
    for name, content in wanted.items():
        words = name.split() if ":" not in name else [name]
        assert repository.revfs("cat", *words) == ExitCode.DONE
        out, err = capfdbinary.readouterr()
        assert (out == content, err) == (True, b"")


def test_cat_into_a_pipe_that_closes_says_nothing(repository: Repository) -> None:
    process = started(repository, "cat", "HEAD:data/large")
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.read(10) == LARGE[:10]
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.wait(timeout=30) == ExitCode.FAILED


def test_cat_of_data_that_is_nowhere_is_one_sentence(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    for pack in (repository.top / ".git/revfs/staged").iterdir():
        pack.unlink()
    assert repository.revfs("cat", "HEAD:data/small") == ExitCode.FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no remote is configured" in captured.err
    assert captured.err.count("\n") == 1


def test_before_the_first_commit_ls_and_cat_say_so_and_status_counts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_repository(tmp_path / "new", initialised=False)
    for arguments in (("ls",), ("cat", "HEAD:x")):
        assert repository.revfs(*arguments) == ExitCode.FAILED
        assert "there is no commit in this repository yet" in capsys.readouterr().err
    assert repository.revfs("status") == ExitCode.DONE
    assert lines(capsys) == [
        "On branch main, no commit yet",
        "",
        "staged    0 packs, 0 B",
        "unpushed  0 commits; 0 files of them staged, 0 B",
        "here      0 of 0 files of HEAD, 0 B of 0 B",
        "cached    0 packs, 0 B",
    ]
    assert not (repository.top / ".git" / "revfs").exists()


def test_status_counts_what_push_then_takes_away(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("status", "--json") == ExitCode.DONE
    before = json.loads(capsys.readouterr().out)
    assert before["unpushed_commits"] == 2
    assert before["unpushed_files"]["items"] == 4
    assert before["unpushed_files"]["size_bytes"] == len(LARGE) + len(b"smalloddrun")
    assert before["staged_packs"]["size_bytes"] > len(LARGE)
    assert repository.revfs("remote", "add", "-d", "disk", str(tmp_path)) == ExitCode.DONE
    assert repository.revfs("push") == ExitCode.DONE
    capsys.readouterr()
    assert repository.revfs("status", "--json") == ExitCode.DONE
    nothing = {"items": 0, "size_bytes": 0}
    tracked = {"items": 4, "size_bytes": len(LARGE) + len(b"smalloddrun")}
    after = json.loads(capsys.readouterr().out)
    # Without a filter and in no hurry, git takes the files themselves for changed.
    del after["modified"]
    assert after == {
        "branch": "main",
        "commit": repository.head(),
        "staged": [],
        "conflicted": [],
        "unwritten": nothing,
        "head_files": tracked,
        "here_files": tracked,
        "staged_packs": nothing,
        "unpushed_commits": 0,
        "unpushed_files": nothing,
        "cached_packs": nothing,
    }


def test_outside_of_a_repository_every_verb_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("ls",), ("cat", "HEAD:x"), ("status",), ("add", "x"), ("push",)):
        assert Repository(tmp_path).revfs(*arguments) == ExitCode.FAILED
        assert "or run git init" in capsys.readouterr().err
