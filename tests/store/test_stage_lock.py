"""`revfs.lock`: readable, the same for the same stages, read strictly, and written whole."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.errors import MalformedObject, PathRefused, StoreError, UnsupportedVersion
from store.git import GitRepository
from store.git_command import find_repository
from store.ids import GitId, chunk_id
from store.pointer import Pointer
from store.stage_lock import change_lock, encode_lock, load_lock, parse_lock
from store.stages import Stage, StageRecord
from tests.fakes.repositories import Repository

ONE, OTHER = GitId("0123456789" * 4), GitId("a" * 40)
ODD = b"caf\xe9\n"
RECORD = StageRecord(
    Stage("train", ("python", "train.py", "\udcff ü"), OTHER, (ODD, b"data"), (b"model",), (b"m",)),
    {ODD: ONE, b"data": OTHER},
    {b"model": ONE, b"m": OTHER},
)
SMALL = StageRecord(Stage("clean", ("make",), None, (), (), ()), {}, {})


def test_what_is_written_is_read_back_and_has_one_spelling() -> None:
    text = encode_lock({"train": RECORD, "clean": SMALL})
    assert parse_lock(text) == {"clean": SMALL, "train": RECORD}
    assert encode_lock(parse_lock(text)) == text
    assert encode_lock({"clean": SMALL, "train": RECORD}) == text
    assert text.isascii()
    assert text.endswith(b"}\n")


def test_a_path_has_a_line_of_its_own_so_that_changes_merge() -> None:
    lines = encode_lock({"train": RECORD}).decode().splitlines()
    assert f'        "data": "{OTHER}"' in lines
    assert f'      "at": "{OTHER}",' in lines


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The text of a lock that was good before `change`."""
    value = json.loads(encode_lock({"train": RECORD}))
    change(value)
    return json.dumps(value).encode()


def fields(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["stages"]["train"]
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(more=1),
        lambda value: value.pop("stages"),
        lambda value: value.update(stages=[]),
        lambda value: value.update(version=0),
        lambda value: value.update(version=True),
        lambda value: value.update(version="1"),
        lambda value: fields(value).update(more=1),
        lambda value: fields(value).pop("outputs"),
        lambda value: fields(value).update(at=None),
        lambda value: fields(value).update(at="v1"),
        lambda value: fields(value).update(command="make"),
        lambda value: fields(value).update(command=[1]),
        lambda value: fields(value).update(command=["a\0b"]),
        lambda value: fields(value).update(command=["\ud800"]),
        lambda value: fields(value).update(outputs=["model"]),
        lambda value: fields(value).update(outputs={"model": "A" * 40}),
        lambda value: fields(value).update(outputs={"model": 1}),
        *(
            lambda value, path=path: fields(value).update(outputs={path: ONE})
            for path in ("/etc", "../x", "a/../b", "a//b", "a/", "./a", ".git/hooks/x", "a/.GIT")
        ),
        *(
            lambda value, path=path: fields(value).update(dependencies={path: ONE})
            for path in ("/etc/passwd", "..", "a\0", "\ud800")
        ),
    ],
)
def test_anything_else_is_refused_whole(change: Callable[[dict[str, Any]], object]) -> None:
    assert parse_lock(changed(lambda value: None))
    with pytest.raises(MalformedObject, match=r"revfs\.lock cannot be used"):
        parse_lock(changed(change))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000, b"1e999"])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObject):
        parse_lock(raw)


def test_a_pointer_in_place_of_the_record_is_named_as_such() -> None:
    with pytest.raises(MalformedObject, match="it was added as data"):
        parse_lock(Pointer(chunk_id(b"x"), 1).to_bytes())


def test_a_name_that_is_there_twice_is_refused() -> None:
    text = encode_lock({"clean": SMALL}).replace(b'"version": 1', b'"version": 1, "version": 1')
    with pytest.raises(MalformedObject, match="twice"):
        parse_lock(text)


def test_a_later_version_asks_for_a_newer_revfs() -> None:
    with pytest.raises(UnsupportedVersion, match="use a newer revfs"):
        parse_lock(changed(lambda value: value.update(version=2, more="fields")))


def test_a_stage_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(StoreError, match="cannot be an output"):
        parse_lock(changed(lambda value: fields(value).update(outputs={"revfs.lock": ONE})))
    with pytest.raises(StoreError, match="cannot name a stage"):
        parse_lock(changed(lambda value: value["stages"].update({"a\x1b[2J": fields(value)})))


def test_conflict_markers_are_named_as_such(repository: Repository) -> None:
    for branch, command in (("one", "make"), ("two", "ninja")):
        repository.git("checkout", "--quiet", "-b", branch, "main")
        stage = Stage("clean", (command,), None, (), (), ())
        repository.write("revfs.lock", encode_lock({"clean": StageRecord(stage, {}, {})}))
        repository.git("add", "revfs.lock")
        repository.commit()
    with pytest.raises(StoreError):
        repository.git("merge", "one")
    with pytest.raises(MalformedObject, match="it is in conflict"):
        load_lock(repository.top)


def test_two_stages_added_on_two_branches_merge_by_themselves(repository: Repository) -> None:
    stages = {
        name: StageRecord(
            Stage(name, ("make", name), None, (), (name.encode(),), ()), {}, {name.encode(): ONE}
        )
        for name in ("a", "m", "z")
    }
    repository.write("revfs.lock", encode_lock({"m": stages["m"]}))
    repository.git("add", "revfs.lock")
    repository.commit()
    for name in ("a", "z"):
        repository.git("checkout", "--quiet", "-b", name, "main")
        chosen = {key: stages[key] for key in ("m", name)}
        repository.write("revfs.lock", encode_lock(chosen))
        repository.git("commit", "--quiet", "-am", name)
    repository.git("merge", "--quiet", "-m", "both", "a")
    assert load_lock(repository.top) == stages


def open_git(repository: Repository) -> GitRepository:
    return GitRepository(find_repository(repository.top))


def test_a_change_is_written_whole_and_staged(repository: Repository) -> None:
    git = open_git(repository)
    change_lock(git, repository.top, "train", RECORD)
    change_lock(git, repository.top, "clean", SMALL)
    assert repository.status() == [b"A  revfs.lock"]
    assert load_lock(repository.top) == {"clean": SMALL, "train": RECORD}
    repository.commit()
    assert repository.status() == []
    change_lock(git, repository.top, "clean", None)
    assert repository.status() == [b"M  revfs.lock"]
    assert load_lock(repository.top) == {"train": RECORD}
    git.close()


def test_an_ignored_lock_is_staged_all_the_same(repository: Repository) -> None:
    repository.write(".gitignore", b"*.lock\n")
    git = open_git(repository)
    change_lock(git, repository.top, "clean", SMALL)
    git.close()
    assert b"revfs.lock" in repository.staged()


def test_many_at_once_lose_no_record(repository: Repository) -> None:
    def change(name: str) -> None:
        git = open_git(repository)
        record = StageRecord(Stage(name, ("make",), None, (), (), ()), {}, {})
        change_lock(git, repository.top, name, record)
        git.close()

    threads = [threading.Thread(target=change, args=(f"stage-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_lock(repository.top)) == 6


def test_a_link_is_neither_read_nor_written(repository: Repository, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (repository.top / "revfs.lock").symlink_to(target)
    git = open_git(repository)
    for work in (
        lambda: load_lock(repository.top),
        lambda: change_lock(git, repository.top, "clean", SMALL),
    ):
        with pytest.raises(PathRefused, match="not a plain file"):
            work()
    git.close()
    assert not target.exists()
