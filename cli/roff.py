"""Manual pages from click's commands, as roff for man(7); the layout is that of man-pages(7). Pure.

A command's help text is its description; the paragraph that begins with "Example:" becomes a
section of its own, and what stands in backquotes becomes bold.
"""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

# groff_char(7): what the formatter would else replace by something typographic, which nobody could
# paste into a shell.
_GLYPHS = {
    "\\": r"\(rs",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}
_EXAMPLE = re.compile(r"Examples?:\n")
_QUOTED = re.compile(r"`([^`\n]+)`")
_KEEP_LINES = "\b\n"


@dataclass(frozen=True, slots=True)
class Page:
    """One manual page: the words that call the command (`revfs remote add`), what it is in a
    sentence, the command with its context, the date of the page, and sections to follow those that
    every page has."""

    words: tuple[str, ...]
    summary: str
    command: click.Command
    context: click.Context
    version: str
    date: str
    more: tuple[tuple[str, str], ...]
    see_also: tuple[str, ...]

    @property
    def name(self) -> str:
        """The page's name, as man(1) takes it: `revfs-remote-add`."""
        return "-".join(self.words)


def page_text(page: Page) -> str:
    """The page as roff: ASCII, ended by a line break."""
    description, example = _split_help(page.command.help or "")
    options = _options(page)
    source = f'"revfs {escape(page.version)}"'
    parts = [
        f'.TH {escape(page.name.upper())} 1 {page.date} {source} "revfs manual"',
        ".SH NAME",
        f"{escape(page.name)} \\- {escape(_as_title(page.summary))}",
        ".SH SYNOPSIS",
        _synopsis(page),
        ".SH DESCRIPTION",
        *description,
        *([".SH OPTIONS", *options] if options else []),
        *(line for title, text in page.more for line in (f".SH {title}", text)),
        *([".SH EXAMPLE", example] if example else []),
        ".SH SEE ALSO",
        ",\n".join(_reference(name) for name in page.see_also),
    ]
    return "\n".join(parts) + "\n"


def _as_title(sentence: str) -> str:
    """As man-pages(7) has what a page is about: no capital at its begin, no full stop."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def escape(text: str) -> str:
    """Any text as roff that shows as just that text: no request, no escape, no other glyphs."""
    return _guard(_inner(text))


def _glyph(character: str) -> str:
    if character in _GLYPHS:
        return _GLYPHS[character]
    if character.isascii() and (character.isprintable() or character == "\n"):
        return character
    return f"\\[u{ord(character):04X}]" if character.isprintable() else " "


def bold(text: str) -> str:
    """A text in bold."""
    return f"\\fB{escape(text)}\\fR"


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """Terms (roff already) and what they mean (plain text), as a list."""
    return "\n".join(f".TP\n{term}\n{_prose(text)}" for term, text in items)


def commands_list(names: Iterable[tuple[str, str]]) -> str:
    """Pages and their summaries, as a list of references."""
    return "\n".join(f".TP\n{_reference(name)}\n{escape(summary)}" for name, summary in names)


def _reference(name: str) -> str:
    if name.endswith(")"):
        name, _, section = name[:-1].partition("(")
        return f"\\fB{escape(name)}\\fR({section})"
    return f"\\fB{escape(name)}\\fR(1)"


def _prose(text: str) -> str:
    """Text of a paragraph; what stands in backquotes is bold."""
    parts = _QUOTED.split(text)
    # split gives what is outside and inside of quotes in turn; only a line's begin needs the guard.
    shown = "".join(bold(p) if number % 2 else _inner(p) for number, p in enumerate(parts))
    return _guard(shown)


def _inner(text: str) -> str:
    return "".join(_glyph(character) for character in text)


def _guard(shown: str) -> str:
    """Escaped text without a line that would be taken for a request."""
    return re.sub(r"(?m)^([.'])", r"\\&\1", shown)


def _split_help(text: str) -> tuple[list[str], str]:
    """The paragraphs of a help text as roff, and the example by itself; none is empty."""
    description: list[str] = []
    example = ""
    # What comes after a form feed is for readers of the code, as click has it.
    shown = inspect.cleandoc(text).partition("\f")[0]
    for paragraph in re.split(r"\n\s*\n", shown):
        keeps_lines = paragraph.startswith(_KEEP_LINES)
        words = paragraph.removeprefix(_KEEP_LINES)
        if keeps_lines and _EXAMPLE.match(words):
            example = _lines_as_they_are(_EXAMPLE.sub("", words, count=1))
        elif words.strip():
            description.append(".PP" if description else "")
            description.append(_lines_as_they_are(words) if keeps_lines else _prose(words))
    return [part for part in description if part], example


def _lines_as_they_are(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    shown = "\n".join(escape(line[margin:]) for line in lines)
    return f".EX\n{shown}\n.EE"


def _synopsis(page: Page) -> str:
    pieces = page.command.collect_usage_pieces(page.context)
    shown = " ".join(f"\\fI{escape(piece)}\\fR" for piece in pieces)
    return f"{bold(' '.join(page.words))} {shown}"


def _options(page: Page) -> Sequence[str]:
    found = []
    for parameter in page.command.get_params(page.context):
        record = parameter.get_help_record(page.context)
        if isinstance(parameter, click.Option) and record is not None:
            term = _option_term(parameter, page.context)
            found.append(f".TP\n{term}\n{_prose(' '.join(record[1].split()))}")
    return found


def _option_term(option: click.Option, context: click.Context) -> str:
    names = ", ".join(bold(name) for name in [*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    return f"{names} \\fI{escape(option.make_metavar(context))}\\fR"
