"""The shape of the project, held over its syntax trees: imports go down only, each foreign library
has one door, and nothing grows too long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {"store": {"store"}, "vfs": {"vfs", "store"}, "cli": {"cli", "vfs", "store"}}
DOORS = {
    "boto3": "store/s3.py",
    "botocore": "store/s3.py",
    "blake3": "store/ids.py",
    "click": "cli/",
    "lmdb": "store/tables.py",
    "pyfastcdc": "store/chunking.py",
    "pyfuse3": "vfs/fuse.py",
    "pygit2": "store/git",
    "rich": "cli/console.py",
    "zstandard": "store/codec.py",
}
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
# Scripts without an ending are of the shell.
SOURCES = sorted(
    [
        *MODULES,
        *(ROOT / "tests").rglob("*.py"),
        *(
            path
            for path in (ROOT / "scripts").iterdir()
            if path.is_file() and path.suffix != ".png"
        ),
    ]
)
MODULE_LINES = 400
FUNCTION_LINES = 40


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, by its full dotted name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_and_foreign_libraries_have_one_door(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    layer = place.split("/")[0]
    for name in imported_modules(path):
        top = name.split(".")[0]
        if top in LAYERS or top in {"tests", "scripts"}:
            assert top in LAYERS[layer], f"{place} imports {name}"
        if top in DOORS:
            assert place.startswith(DOORS[top]), f"{place} imports {name}"


def test_no_import_cycle() -> None:
    own = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}
    below = {name: imported_modules(path) & own.keys() for name, path in own.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for lower in sorted(below[name]):
                visit(lower, (*trail, name))
            done.add(name)

    for name in sorted(own):
        visit(name, ())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES, f"{path.name} is too long"
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                assert length <= FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"
