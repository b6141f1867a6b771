"""`add` and git's own view of the work tree, for which it waits until a second is over."""

import os
from pathlib import Path

import pytest

from store import add as add_module
from store import read_files as read_files_module
from store.add import plan_add
from store.local_store import LocalStore
from tests.fakes.repositories import NoProgress, Repository, add, add_context, staged_pointer


def test_git_status_is_clean_after_add_and_commit(
    repository: Repository, local: LocalStore
) -> None:
    names = [b"a/plain", b"a/caf\xe9", b"a/two\nlines", b"a/with space", b"a/empty"]
    for name in names:
        repository.write(name, b"" if name == b"a/empty" else b"content of " + name)
    repository.write("a/tool").chmod(0o755)
    (repository.top / "a/link").symlink_to("nowhere")
    assert add(repository, local).added == 7
    wanted = sorted([*names, b"a/tool", b"a/link", b".gitattributes"])
    assert sorted(repository.status()) == [b"A  " + name for name in wanted]
    repository.commit()
    assert repository.status() == []
    for name in names[:4]:
        pointer = staged_pointer(repository, name)
        assert pointer.size == len(b"content of " + name)
    (repository.top / "a/plain").write_bytes(b"CONTENT of a/plain")
    assert repository.status() == [b" M a/plain"]


def test_a_file_from_the_future_does_not_make_its_clean_siblings_dirty(
    repository: Repository, local: LocalStore
) -> None:
    later = repository.write("future").stat().st_mtime + 10**6
    os.utime(repository.top / "future", (later, later))
    repository.write("present")
    add(repository, local)
    assert b"A  present" in repository.status()


def test_a_file_changed_while_git_is_waited_for_is_not_taken_for_clean(
    repository: Repository, local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, gone = repository.write("changed", b"one"), repository.write("gone", b"here")
    sleep = add_module.time.sleep

    def change_then_sleep(seconds: float) -> None:
        place.write_bytes(b"two")
        gone.unlink()
        sleep(seconds)

    context = add_context(local, repository.top)
    plan = plan_add(context, repository.top, [Path()])
    monkeypatch.setattr(add_module.time, "sleep", change_then_sleep)
    monkeypatch.setattr(read_files_module, "wait_until_settled", lambda status: False)
    plan.execute(NoProgress(), jobs=1)
    assert {b"AM changed", b"AD gone"} <= set(repository.status())


def test_nobody_waits_for_gitattributes_and_a_change_of_it_shows(
    repository: Repository, local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = repository.write("old", b"content")
    os.utime(place, (10**9, 10**9))

    def refuse_to_sleep(seconds: float) -> None:
        raise AssertionError("the data is old, and there is nothing to wait for")

    context = add_context(local, repository.top)
    plan = plan_add(context, repository.top, [Path()])
    monkeypatch.setattr(read_files_module, "wait_until_settled", lambda status: False)
    monkeypatch.setattr(add_module.time, "sleep", refuse_to_sleep)
    plan.execute(NoProgress(), jobs=1)
    attributes = repository.top / ".gitattributes"
    text = attributes.read_bytes()
    # Of the same length, and most likely in the same second.
    attributes.write_bytes(text.replace(b"/old", b"/odd"))
    assert b"AM .gitattributes" in repository.status()
    attributes.write_bytes(text)
    assert sorted(repository.status()) == [b"A  .gitattributes", b"A  old"]
