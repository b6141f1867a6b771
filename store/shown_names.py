"""How names and texts from strangers are shown, in messages, logs and on a terminal.

A name in a repository may hold anything but a slash and NUL, an answer of a server anything at all;
shown as they are they could begin a line of their own or steer a terminal. Pure.
"""

import unicodedata

# Control, format (text direction among them), surrogate, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def escape_name(name: bytes | str) -> str:
    """A file name on one line that can do nothing to a terminal, different for different names.

    Bytes that are not UTF-8 become `\\xNN`, control and direction characters `\\n`, `\\x1b` or
    `\\u202e`, and a backslash is doubled.
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return escape_text(text.replace("\\", "\\\\"))


def escape_text(text: str, keep: str = "") -> str:
    """`text` with every character written out that could fool a reader, but for those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _spell(character)
        if unicodedata.category(character) in _UNSAFE_CATEGORIES and character not in keep
        else character
        for character in text
    )


def _spell(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    if 0x80 <= code <= 0xFF:  # else spelt as the byte of that number
        return f"\\u{code:04x}"
    return character.encode("unicode_escape").decode("ascii")
