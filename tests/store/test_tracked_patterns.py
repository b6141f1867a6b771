"""The lines of `.gitattributes`, against what git check-attr makes of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.tracked_patterns import Target, add_patterns, remove_patterns
from tests.fakes.repositories import Repository
from tests.store.damage import unhurried

ODD_NAMES = [
    b"plain",
    b"with space",
    b" leading and trailing ",
    b'"quoted"',
    b"it's",
    b"#comment",
    b"!negated",
    b"[attr]macro",
    b"star*",
    b"what?",
    b"[abc]",
    b"back\\slash",
    b"back\\\\slashes\\",
    b"a\\*b",
    b"**",
    "ünïcode".encode(),
    b"caf\xe9",
    b"tab\tname",
    b"new\nline",
    b"\x01\x7f",
    b"-dash",
    b"$HOME",
    b"a=b",
]
ATTRIBUTES = [b"filter", b"merge", b"text"]


def tracked(repository: Repository, text: bytes, paths: list[bytes]) -> list[bytes]:
    """Which of the paths git gives our attributes to."""
    (repository.top / ".gitattributes").write_bytes(text)
    stdin = b"".join(path + b"\0" for path in paths)
    out = repository.git("check-attr", "-z", "--stdin", *ATTRIBUTES, stdin=stdin)
    fields = out.split(b"\0")[:-1]
    values: dict[bytes, dict[bytes, bytes]] = {}
    for path, name, value in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
        values.setdefault(path, {})[name] = value
    ours = {b"filter": b"revfs", b"merge": b"unset", b"text": b"unset"}
    nothing = dict.fromkeys(ATTRIBUTES, b"unspecified")
    assert all(found in (ours, nothing) for found in values.values())
    return [path for path in paths if values[path] == ours]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_git_marks_the_file_or_folder_of_that_name_and_nothing_else(
    repository: Repository, name: bytes
) -> None:
    others = [b"x" + name, name + b"x", b"sub/" + name, b"starX", b"whatX", b"a", b"a\\Xb", b"ab"]
    file = add_patterns(b"", [Target(name, False)])
    assert tracked(repository, file, [name, *others]) == [name]
    below = [name + b"/x", name + b"/deep/er", name + b"/" + name]
    folder = add_patterns(b"", [Target(name, True)])
    assert tracked(repository, folder, [*below, name, *others]) == below


@settings(unhurried, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=20, unique=True))
def test_git_marks_any_names_that_were_added_and_no_others(
    repository: Repository, names: list[bytes]
) -> None:
    # Slashes part folders, and neither a NUL nor these names can be in a tree.
    names = sorted({name.translate(None, b"/\0") for name in names} - {b"", b".", b".."})
    added = names[: len(names) // 2 + 1]
    text = add_patterns(b"", [Target(name, False) for name in added])
    assert tracked(repository, text, names) == added
    assert add_patterns(text, [Target(name, False) for name in added]) == text


def test_what_is_covered_gets_no_line() -> None:
    text = add_patterns(b"", [Target(b"a", True), Target(b"a/b", True), Target(b"a/c", False)])
    assert text == b"/a/** filter=revfs -merge -text\n"
    assert add_patterns(text, [Target(b"a/b/c", False), Target(b"a", True)]) == text
    assert add_patterns(text, [Target(b"ab", False)]) != text


def test_a_twin_in_one_go_gets_one_line() -> None:
    assert add_patterns(b"", [Target(b"a", False)] * 2).count(b"\n") == 1


@pytest.mark.parametrize("existing", [b"*.png binary", b"*.png binary\n", b"# note\r\n"])
def test_lines_of_others_stay_as_they_are(existing: bytes) -> None:
    text = add_patterns(existing, [Target(b"a", False)])
    assert text.startswith(existing)
    assert text.splitlines()[-1] == b"/a filter=revfs -merge -text"
    assert len(text.splitlines()) == 2
    assert add_patterns(existing, []) == existing


def test_a_line_with_other_attributes_covers_nothing() -> None:
    existing = b"/a filter=lfs\n"
    assert add_patterns(existing, [Target(b"a", False)]).startswith(existing + b"/a filter=revfs")


FOLDER = Target(b"a", True)
BELOW = Target(b"a/b", True)
FILE = Target(b"c", False)


def marks(*targets: Target) -> bytes:
    """Lines for the targets, each in an add of its own, the last first."""
    text = b"# note\r\n"
    for target in reversed(targets):
        text = add_patterns(text, [target])
    return text


def test_a_file_takes_its_own_line_with_it() -> None:
    text = marks(FILE, Target(b"d/e", False))
    assert remove_patterns(text, [b"c"], [b"d/e"]) == marks(Target(b"d/e", False))
    assert remove_patterns(text, [b"c/x", b"d", b"x"], [b"c"]) == text


def test_a_folder_keeps_its_line_while_anything_below_it_is_kept() -> None:
    text = marks(FOLDER, BELOW)
    assert text.count(b"\n") == 3
    assert remove_patterns(text, [b"a/b/x", b"a/y"], [b"a/b/z", b"ab"]) == text
    assert remove_patterns(text, [b"a/b/x"], [b"a/y"]) == marks(FOLDER)
    assert remove_patterns(text, [b"a/b/x", b"a/y"], [b"ab", b"b", b"a"]) == b"# note\r\n"
    assert remove_patterns(text, [b"a/b/x"], [b"a/.gitignore", b"a/b/.revfsignore"]) == marks()


def test_lines_of_others_are_never_removed() -> None:
    text = b"/c filter=lfs\n/c filter=revfs -merge -text\n*.bin filter=revfs\n/a/** binary"
    left = b"/c filter=lfs\n*.bin filter=revfs\n/a/** binary"
    assert remove_patterns(text, [b"c", b"a/x.bin"], []) == left


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda n: b"/" not in n), unique=True))
def test_any_name_takes_its_own_line_with_it(names: list[bytes]) -> None:
    names = [name.replace(b"\0", b"") or b"x" for name in names if name not in (b".", b"..")]
    text = add_patterns(b"", [Target(name, False) for name in names])
    half = names[::2]
    kept = sorted(set(names) - set(half))
    wanted = add_patterns(b"", [Target(name, False) for name in kept])
    assert remove_patterns(text, half, kept) == wanted
    assert remove_patterns(add_patterns(b"", [Target(b"d", True)]), [b"d/x"], []) == b""
