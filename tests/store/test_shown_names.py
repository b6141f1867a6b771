"""Names and words of strangers, on their way into messages and logs."""

import os
from pathlib import Path

import pytest

from store.errors import PathNotFound, PathRefused
from store.packs import PackKind
from store.push_contents import Wanted
from store.s3_answers import Answer, translate_answer
from store.shown_names import escape_name, escape_text
from tests.fakes.repositories import Repository, add, open_local

FORGED = b"a\n2026-11-23 ERROR \x1b[31mall is lost"


def test_a_name_with_a_line_break_stays_on_its_line() -> None:
    shown = escape_name(FORGED)
    assert shown == r"a\n2026-11-23 ERROR \x1b[31mall is lost"
    assert str(Wanted(FORGED, "ab" * 20, PackKind.DATA)) == f"{shown} (commit {'ab' * 6})"


def test_what_may_stay_as_it_is_stays() -> None:
    assert escape_text("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"
    assert escape_text("plain, ünï") == "plain, ünï"


def test_a_control_character_is_not_shown_as_the_byte_of_its_number() -> None:
    for code in (0x80, 0x9A, 0xAD):
        byte, character = bytes([code]), chr(code).encode()
        assert escape_name(byte) == f"\\x{code:02x}"
        assert escape_name(character) == f"\\u{code:04x}"


def test_the_words_of_a_server_cannot_begin_a_line() -> None:
    error = translate_answer(Answer("Odd", 418, FORGED.decode()), "s3://bucket: key")
    assert "\n" not in str(error)
    assert "all is lost" in str(error)


def test_a_pointer_text_under_a_forged_name_is_refused_on_one_line(
    repository: Repository, tmp_path: Path
) -> None:
    text = f"revfs 1\nblake3 {'ab' * 32}\nsize 5\n".encode()
    repository.write(os.fsdecode(FORGED), text)
    with open_local(repository, tmp_path / "cache") as local, pytest.raises(PathRefused) as caught:
        add(repository, local)
    assert str(caught.value).startswith(escape_name(FORGED))


def test_a_forged_path_that_is_not_there_is_named_on_one_line(
    repository: Repository, tmp_path: Path
) -> None:
    with open_local(repository, tmp_path / "cache") as local, pytest.raises(PathNotFound) as caught:
        add(repository, local, os.fsdecode(FORGED))
    assert str(caught.value).startswith(escape_name(FORGED))
