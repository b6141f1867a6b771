"""Manual pages: one for each verb, that two formatters read without complaint."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import VERBS, ExitCode, run
from cli.main import revfs as group
from cli.man import _EXIT_CODES, _VARIABLES
from cli.roff import Page, escape, page_text
from store.config import _VARIABLES as SETTING_VARIABLES

NASTY = ".so /etc/passwd\n'br\na\\b -x --long `code` ~/.x 'q' \"q\" ^ ü\x1b[2J\n.PP"


def shown(roff: str, tmp_path: Path) -> str:
    """What a reader sees of a page, without bold and italics."""
    page = tmp_path / "page.1"
    page.write_text(roff)
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", page]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert completed.stderr == ""
    return completed.stdout


def page_of(command: click.Command, *, more: tuple[tuple[str, str], ...] = ()) -> Page:
    context = click.Context(command, info_name=command.name)
    assert command.name is not None
    return Page(
        words=("revfs", command.name),
        summary="Do a thing.",
        command=command,
        context=context,
        version="1.2",
        date="2026-01-31",
        more=more,
        see_also=("revfs",),
    )


def test_any_text_shows_as_it_is(tmp_path: Path) -> None:
    title = '.TH X 1 2026-01-31 "" ""\n.SH NAME\nx \\- y\n.SH TEXT\n.nf\n'
    lines = [line.strip() for line in shown(title + escape(NASTY), tmp_path).splitlines()]
    assert [line for line in lines if line][4:-1] == [
        ".so /etc/passwd",
        "'br",
        "a\\b -x --long `code` ~/.x 'q' \"q\" ^ ü [2J",
        ".PP",
    ]


def test_a_page_has_the_sections_of_man_pages(tmp_path: Path) -> None:
    @click.command("verb")
    @click.argument("revision", metavar="REV")
    @click.option("-n", "--name", metavar="NAME", help="Its `name`, as it\nis.")
    @click.option("--all", "everything", is_flag=True, help="All of it.")
    @click.option("--secret", hidden=True)
    def command() -> None:
        """Do a thing with `revfs other`.

        Another paragraph.

        \b
        Lines that
          stay.

        \b
        Example:
          revfs verb v1.2 --all && \\
            ls -l
        """

    text = shown(page_text(page_of(command)), tmp_path)
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert headings[0].split() == ["REVFS-VERB(1)", "revfs", "manual", "REVFS-VERB(1)"]
    assert headings[1:-1] == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLE", "SEE ALSO"),
    ]
    assert headings[-1].split() == ["revfs", "1.2", "2026-01-31", "REVFS-VERB(1)"]
    words = " ".join(text.split())
    for expected in (
        "revfs-verb - do a thing SYNOPSIS revfs verb [OPTIONS] REV DESCRIPTION",
        "Do a thing with revfs other. Another paragraph. Lines that stay. OPTIONS",
        "-n, --name NAME Its name, as it is. --all All of it. --help Show this message",
        "EXAMPLE revfs verb v1.2 --all && \\ ls -l SEE ALSO revfs(1)",
    ):
        assert expected in words
    assert "       Lines that\n         stay.\n" in text
    assert "       revfs verb v1.2 --all && \\\n         ls -l\n" in text
    assert "secret" not in text


def test_without_a_folder_it_prints_the_page_of_revfs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(tmp_path), "man"]) == ExitCode.DONE
    text = shown(capsys.readouterr().out, tmp_path)
    for name, verb in VERBS.items():
        assert (f"revfs-{name}(1)" in text) is not verb.hidden
    for heading in ("EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"):
        assert f"\n{heading}\n" in text


def test_it_tells_every_exit_code_and_every_variable_of_the_settings() -> None:
    assert _EXIT_CODES.keys() == set(ExitCode)
    assert SETTING_VARIABLES.keys() <= _VARIABLES.keys()


def commands(above: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    context = click.Context(above)
    for name in above.list_commands(context):
        command = above.get_command(context, name)
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def test_every_verb_gets_a_page_that_formatters_read_without_complaint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "man1").mkdir()
    (tmp_path / "man1/revfs-mount.1").symlink_to(tmp_path / "elsewhere")
    assert run(["-C", str(tmp_path), "man", "man1"]) == ExitCode.DONE
    names = {"revfs", *("-".join(words) for words in commands(group, ("revfs",)))}
    pages = sorted((tmp_path / "man1").iterdir())
    assert {page.name for page in pages} == {f"{name}.1" for name in names}
    assert capsys.readouterr().out == f"wrote {len(names)} pages to {tmp_path / 'man1'}\n"
    assert not (tmp_path / "elsewhere").exists()
    assert b"\\-\\-cache\\-size" in (tmp_path / "man1/revfs-mount.1").read_bytes()
    if shutil.which("groff"):
        command = ["groff", "-man", "-ww", "-z", *pages]
        assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    if shutil.which("mandoc"):
        command = ["mandoc", "-Tlint", "-Wwarning", *pages]
        linted = subprocess.run(command, capture_output=True, text=True)
        assert (linted.returncode, linted.stdout) == (0, "")


def test_the_date_is_what_a_build_wants_it_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert run(["man"]) == ExitCode.DONE
    assert capsys.readouterr().out.startswith('.TH REVFS 1 1970-01-02 "revfs ')
