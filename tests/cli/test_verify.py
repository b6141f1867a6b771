"""`revfs verify` as a person and a script meet it, with a folder and with a bucket."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.main import ExitCode, run
from tests.fakes.bucket_damage import flip
from tests.fakes.repositories import Repository, make_repository, random_bytes
from tests.fakes.s3_servers import S3Server

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

CONTENTS = {
    "train/a": random_bytes(3000, 1),
    "train/b": random_bytes(3000, 2),
    "large": random_bytes(3 << 20, 3),
}
BUCKET = "verify-bucket"


class Objects:
    """The objects of a remote, from outside."""

    def __init__(self, server: S3Server | None, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def read(self) -> dict[str, bytes]:
        """key → bytes of all of them."""
        if self._server is None:
            found = (path for path in self._folder.rglob("*") if path.is_file())
            return {str(path.relative_to(self._folder)): path.read_bytes() for path in found}
        listed = self._server.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {str(one["Key"]): self._get(str(one["Key"])) for one in listed}

    def _get(self, key: str) -> bytes:
        assert self._server is not None
        return self._server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def change(self, key: str, raw: bytes | None) -> None:
        """Put other bytes in an object's place, or remove it."""
        if self._server is None:
            place = self._folder / key
            place.unlink()
            if raw is not None:
                place.write_bytes(raw)
        elif raw is None:
            self._server.client.delete_object(Bucket=BUCKET, Key=key)
        else:
            self._server.client.put_object(Bucket=BUCKET, Key=key, Body=raw)


@pytest.fixture(params=["folder", "moto_server", "rclone_s3"])
def objects(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Objects]:
    """What is in the remote of `repository`."""
    if request.param == "folder":
        (tmp_path / "disk").mkdir()
        yield Objects(None, tmp_path / "disk")
        return
    server: S3Server = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    server.make_bucket(BUCKET)
    found = Objects(server, tmp_path)
    for key in found.read():
        found.change(key, None)
    yield found
    for key in found.read():
        found.change(key, None)


@pytest.fixture
def repository(objects: Objects, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Repository:
    """A repository whose HEAD is pushed."""
    repository = make_repository(tmp_path / "repository")
    place = [str(tmp_path / "disk")]
    if objects._server is not None:
        place = [f"s3://{BUCKET}", "--endpoint", objects._server.endpoint]
        place += ["--region", "us-east-1"]
    assert repository.revfs("remote", "add", "--local", "-d", "far", *place) == ExitCode.DONE
    for path, content in CONTENTS.items():
        repository.write(path, content)
    assert repository.revfs("add", *CONTENTS) == ExitCode.DONE
    repository.commit()
    assert repository.revfs("push") == ExitCode.DONE
    capsys.readouterr()
    return repository


Verify = Callable[..., tuple[int, Any]]


@pytest.fixture
def verify(repository: Repository, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Runs the verb for a program: its exit code, and what it says."""

    def call(*arguments: str) -> tuple[int, Any]:
        code = repository.revfs("verify", *arguments, "--json")
        return code, json.loads(capsys.readouterr().out)

    return call


def hurt(facts: Mapping[str, Any]) -> dict[str, set[str]]:
    return {found["object"]: set(found["files"]) for found in facts["findings"]}


def largest(objects: Objects) -> tuple[str, bytes]:
    return max(objects.read().items(), key=lambda item: len(item[1]))


def another_clone(repository: Repository, folder: Path) -> Repository:
    """A clone with a cache of its own, in which nothing is yet."""
    clone = repository.clone(folder / "clone")
    config = (repository.top / ".git/revfs/config").read_bytes()
    (clone.top / ".git/revfs").mkdir(mode=0o700)
    (clone.top / ".git/revfs/config").write_bytes(config)
    clone.git(
        "config", "--file", ".git/revfs/config", "cache.directory", str(folder / "other-cache")
    )
    return clone


@pytest.mark.parametrize("objects", ["folder", "rclone_s3"], indirect=True)
def test_where_all_is_well_it_says_so_and_exits_with_0(
    repository: Repository, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((), ("--read",), ("--all", "--history")):
        assert repository.revfs("verify", "--remote", *words) == ExitCode.DONE
        assert capsys.readouterr().out.endswith(": all is well\n")
    code, facts = verify("--remote", "--read")
    assert (code, facts["files"], facts["findings"]) == (0, 3, [])
    assert repository.revfs("verify") == ExitCode.DONE
    assert "3 files" in capsys.readouterr().out


def test_a_flipped_byte_is_found_by_reading_and_repaired_from_the_work_tree(
    repository: Repository, objects: Objects, verify: Verify, tmp_path: Path
) -> None:
    key, raw = largest(objects)
    objects.change(key, flip(raw, 8 * (2 << 20)))
    assert verify("--remote")[0] == ExitCode.DONE
    code, facts = verify("--remote", "--read")
    assert (code, hurt(facts)) == (ExitCode.FAILED, {key: {"large"}})
    before = objects.read()
    code, facts = verify("--remote", "--read", "--repair", "--yes")
    assert code == ExitCode.DONE
    assert facts["repair"]["done"]["commits"] == 1
    assert facts["repair"]["plan"]["condemned"] == [key.rpartition("/")[2]]
    after = objects.read()
    assert after[key] == before[key]
    assert verify("--remote", "--read", "--all")[0] == ExitCode.DONE
    clone = another_clone(repository, tmp_path)
    assert clone.revfs("pull") == ExitCode.DONE
    for path, content in CONTENTS.items():
        assert (clone.top / path).read_bytes() == content


@pytest.mark.parametrize("objects", ["folder", "rclone_s3"], indirect=True)
@pytest.mark.parametrize("verb", ["delete", "cut"])
def test_a_pack_deleted_or_cut_is_found_by_size_and_repaired(
    objects: Objects, verify: Verify, verb: str
) -> None:
    key, raw = largest(objects)
    objects.change(key, None if verb == "delete" else raw[:100])
    code, facts = verify("--remote")
    assert code == ExitCode.FAILED
    assert set(CONTENTS) == hurt(facts)[key]
    assert verify("--remote", "--repair", "--yes")[0] == ExitCode.DONE
    assert verify("--remote", "--read")[0] == ExitCode.DONE


@pytest.mark.parametrize("objects", ["folder"], indirect=True)
def test_each_small_object_that_is_lost_is_named_and_put_back(
    objects: Objects, verify: Verify
) -> None:
    for kind, number in (("format", 1), ("index/", 1), ("manifests/", 2)):
        for place in range(number):
            # What was put back may have another name.
            keys = sorted(key for key in objects.read() if key.startswith(kind))
            objects.change(keys[place], None)
            code, facts = verify("--remote", "--history")
            assert code == ExitCode.FAILED
            (found,) = hurt(facts)
            assert keys[place].startswith(found)
            assert verify("--remote", "--history", "--repair", "--yes")[0] == ExitCode.DONE
            assert verify("--remote", "--history", "--read")[0] == ExitCode.DONE


@pytest.mark.parametrize("objects", ["folder"], indirect=True)
def test_a_repair_shows_its_plan_and_does_nothing_unasked(
    repository: Repository, objects: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    key, _ = largest(objects)
    objects.change(key, None)
    before = objects.read()
    for words in (("--dry-run",), ()):
        assert repository.revfs("verify", "--remote", "--repair", *words) == ExitCode.FAILED
        captured = capsys.readouterr()
        assert f"{key} is missing: 3 files in 1 commit\n  large\n" in captured.out
        assert "chunks put back from: work tree" in captured.out
        assert "give --yes" in captured.err or words
        assert objects.read() == before
    assert repository.revfs("verify", "--remote", "--repair", "--yes") == ExitCode.DONE
    assert "repaired" in capsys.readouterr().out


@pytest.mark.parametrize("objects", ["folder"], indirect=True)
def test_what_has_no_copy_is_named_and_the_exit_code_says_so(
    repository: Repository, objects: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    key, _ = largest(objects)
    objects.change(key, None)
    (repository.top / "train/a").unlink()
    assert repository.revfs("verify", "--remote", "--repair", "--yes") == ExitCode.FAILED
    assert f"no copy of train/a (commit {repository.head()[:12]})" in capsys.readouterr().out
    assert repository.revfs("verify", "--remote") == ExitCode.FAILED
    said = capsys.readouterr().out
    assert "train/a" in said
    assert "large" not in said


@pytest.mark.parametrize("objects", ["folder"], indirect=True)
def test_a_word_behind_remote_may_be_a_revision(
    repository: Repository, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("tag", "v1")
    for words in (("--remote", "v1"), ("v1", "--remote"), ("v1", "--remote", "far")):
        code, facts = verify(*words)
        assert (code, facts["commits"]) == (ExitCode.DONE, 1)
    assert repository.revfs("verify", "--remote", "nowhere") == ExitCode.FAILED
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("objects", ["folder"], indirect=True)
def test_only_some_files_are_named_unless_all_are_wanted(
    repository: Repository, objects: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        repository.write(f"many/{number:02}", random_bytes(500, number + 10))
    repository.revfs("add", "many")
    repository.commit()
    before = set(objects.read())
    repository.revfs("push")
    (pack,) = (key for key in set(objects.read()) - before if key.startswith("packs/"))
    objects.change(pack, None)
    capsys.readouterr()
    assert repository.revfs("verify", "--remote") == ExitCode.FAILED
    said = capsys.readouterr().out
    assert "  and 10 more (-v names them)\n" in said
    assert "many/19" not in said
    assert repository.revfs("verify", "--remote", "-v") == ExitCode.FAILED
    assert "  many/19\n" in capsys.readouterr().out


@pytest.mark.parametrize("objects", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cache", "--remote"), "--cache checks all"),
        (("--all", "HEAD"), "not both"),
        (("--repair",), "give --remote, too"),
        (("--yes", "--remote"), "go with --repair"),
    ],
)
def test_what_does_not_go_together_is_refused(
    repository: Repository, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert repository.revfs("verify", *words) == ExitCode.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("objects", ["moto_server"], indirect=True)
def test_the_cache_is_checked_and_what_is_wrong_is_dropped(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = another_clone(repository, tmp_path)
    assert clone.revfs("-q", "fetch") == ExitCode.DONE
    assert clone.revfs("verify", "--cache") == ExitCode.DONE
    assert capsys.readouterr().out.endswith(": nothing is wrong\n")
    pack = max((tmp_path / "other-cache/packs").glob("??/*"), key=lambda p: p.stat().st_size)
    pack.write_bytes(flip(pack.read_bytes(), 8 * (2 << 20)))
    assert clone.revfs("verify", "--cache") == ExitCode.FAILED
    assert "dropped 1 damaged chunk" in capsys.readouterr().out
    assert clone.revfs("verify", "--cache") == ExitCode.DONE
    assert clone.revfs("-q", "pull") == ExitCode.DONE
    assert (clone.top / "large").read_bytes() == CONTENTS["large"]


def test_outside_of_a_repository_it_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(tmp_path), "verify", "--remote"]) == ExitCode.FAILED
    assert capsys.readouterr().err.count("\n") == 1
