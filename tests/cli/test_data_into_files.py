"""`revfs fetch`, `checkout`, `pull` and `export` as people meet them, with both kinds of remote."""

import json
import os
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.repositories import Repository, make_repository, random_bytes
from tests.fakes.s3_servers import S3Server

ODD = b"data/caf\xe9\n"
CONTENTS = {b"data/large": random_bytes(5 << 20, 1), b"data/deep/file": b"deep", ODD: b"odd"}


@pytest.fixture(params=["folder", "bucket"])
def clone(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Repository:
    """A fresh clone of a repository whose data is in a folder, or in a bucket of a real server; it
    has a cache of its own, which is empty."""
    origin = make_repository(tmp_path / "origin", initialised=False)
    assert origin.revfs("-q", "init") == 0
    add_remote(request, origin, tmp_path)
    for path, content in CONTENTS.items():
        os.utime(origin.write(path, content), (10**9, 10**9))
    assert origin.revfs("-q", "add", "data") == 0
    origin.git("add", "--all")
    origin.commit()
    origin.git("tag", "v1")
    assert origin.revfs("-q", "push") == 0
    monkeypatch.setenv("REVFS_CACHE_DIR", str(tmp_path / "fresh-cache"))
    made = origin.clone(tmp_path / "clone")
    if request.param == "bucket":
        assert made.revfs("-q", "remote", "trust", "storage") == 0
    return made


def add_remote(request: pytest.FixtureRequest, origin: Repository, tmp_path: Path) -> None:
    if request.param == "folder":
        (tmp_path / "remote").mkdir()
        assert origin.revfs("-q", "remote", "add", "-d", "storage", str(tmp_path / "remote")) == 0
        return
    server: S3Server = request.getfixturevalue("rclone_s3")
    bucket = f"files-{tmp_path.parent.name}-{tmp_path.name}".lower().replace("_", "-")[:60]
    server.make_bucket(bucket.strip("-"))
    place = (f"s3://{bucket.strip('-')}", "--endpoint", server.endpoint, "--region", "us-east-1")
    assert origin.revfs("-q", "remote", "add", "-d", "storage", *place) == 0


def content(repository: Repository, path: bytes) -> bytes:
    return (repository.top / os.fsdecode(path)).read_bytes()


def is_bucket(request: pytest.FixtureRequest) -> bool:
    return "bucket" in request.node.name


def test_fetch_then_checkout_writes_without_a_network_and_git_is_clean(
    clone: Repository, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clone.revfs("checkout") == ExitCode.DONE
    said = capsys.readouterr().out
    assert said == (
        "wrote 0 files (0 B); 3 files stay pointers, since the data is not here: revfs pull fetches"
        " it\n"
    )
    assert clone.revfs("fetch") == ExitCode.DONE
    said = capsys.readouterr().out
    if is_bucket(request):
        assert said == "3 files of HEAD (5 MiB): 0 B were here already, 5 MiB fetched\n"
    else:
        assert said.startswith("nothing to fetch: /")
        assert said.endswith(" is a folder, where the 3 files of HEAD (5 MiB) are read in place\n")
    assert clone.revfs("checkout", "--json") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    size = sum(map(len, CONTENTS.values()))
    assert facts == {"files": 3, "bytes": size, "not_here": 0, "failed": 0, "fetched_bytes": 0}
    assert {path: content(clone, path) for path in CONTENTS} == CONTENTS
    assert clone.status() == []
    assert clone.revfs("checkout") == ExitCode.DONE
    assert capsys.readouterr().out == "no pointers to write data over\n"


def test_pull_of_a_path_from_a_subfolder(
    clone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Repository(clone.top / "data")
    assert folder.revfs("pull", "deep") == ExitCode.DONE
    assert capsys.readouterr().out.startswith("wrote 1 file (4 B)")
    assert content(clone, b"data/deep/file") == b"deep"
    assert content(clone, ODD).startswith(b"revfs 1\n")
    assert folder.revfs("-q", "pull") == ExitCode.DONE
    assert {path: content(clone, path) for path in CONTENTS} == CONTENTS
    assert clone.status() == []


def test_export_of_a_clone_and_going_on(
    clone: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert clone.revfs("export", "v1", "data", str(out)) == ExitCode.DONE
    assert capsys.readouterr().out == f"exported 3 files (5 MiB) to {out}\n"
    for path, raw in CONTENTS.items():
        assert (out / os.fsdecode(path.removeprefix(b"data/"))).read_bytes() == raw
    (out / "large").unlink()
    assert clone.revfs("export", "v1", "data", "../out", "--json") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    assert (facts["files"], facts["bytes"], facts["done_files"]) == (1, 5 << 20, 2)
    os.utime(out / "large")
    assert clone.revfs("export", "v1", "data", str(out)) == ExitCode.FAILED
    assert "large in " in capsys.readouterr().err
    assert clone.revfs("export", "v1") == ExitCode.USAGE


def test_fetch_tells_revisions_from_paths(
    clone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetched(*words: str, top: Path = clone.top) -> dict[str, int]:
        assert Repository(top).revfs("fetch", "--json", *words) == ExitCode.DONE
        facts: dict[str, int] = json.loads(capsys.readouterr().out)
        return facts

    assert fetched("data/deep")["bytes"] == 4
    assert fetched("v1", "data/deep/")["bytes"] == 4
    assert fetched("deep", os.fsdecode(ODD)[5:], top=clone.top / "data")["bytes"] == 7
    assert fetched("v1")["files"] == 3
    assert clone.revfs("fetch", "nothing") == ExitCode.FAILED
    assert "nothing is neither a revision here nor a path in HEAD" in capsys.readouterr().err
    assert clone.revfs("fetch", "v1", "../x") == ExitCode.FAILED
    assert "is outside the work tree" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["fetch", "pull"])
@pytest.mark.expects_warnings
def test_files_that_cannot_be_had_are_named_and_the_exit_code_is_1(
    clone: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert clone.revfs("-q", "fetch", "data/deep") == 0
    clone.write("data/new-pointer", b"revfs 1\nblake3 " + b"00" * 32 + b"\nsize 12\n")
    clone.git("add", "data/new-pointer")
    clone.commit()
    assert clone.revfs(verb) == ExitCode.FAILED
    said = capsys.readouterr()
    start = "some files could not be fetched" if verb == "fetch" else "some files stay pointers"
    assert said.err.startswith(f"revfs: {start}: data/new-pointer: chunk 000000")
    assert said.err.count("\n") == 1
    if verb == "pull":
        assert {path: content(clone, path) for path in CONTENTS} == CONTENTS
        assert clone.status() == []


def test_a_bare_repository_has_nothing_to_write_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = make_repository(tmp_path / "origin")
    origin.git("clone", "--quiet", "--bare", str(origin.top), str(tmp_path / "bare"))
    bare = Repository(tmp_path / "bare")
    for verb in (["checkout"], ["pull"], ["resolve", "--ours", "x"]):
        assert bare.revfs(*verb) == ExitCode.FAILED
        assert "a bare repository has no work tree" in capsys.readouterr().err
