"""What scripts/demo runs: the whole main job in a temporary folder, step by step, as a user would.

Ends with 0 only if every byte that came out of the mounts was the byte that went in.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
REVFS = Path(sys.executable).with_name("revfs")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
NOT_COPIED = ("__pycache__", "site-packages", "dist-packages")
BUCKET = "demo-bucket"

# Run by the Python whose standard library is on the mount; prints how many modules came from it.
LIVING_PROGRAM = """
import asyncio, csv, decimal, email, html, http.client, json, sqlite3, statistics, sys, unittest
import xml.etree.ElementTree as tree, zipfile, zlib
import ast, pathlib
home = sys.prefix
base = sqlite3.connect(":memory:")
base.execute("create table modules (name text, lines int)")
for path in pathlib.Path(json.__file__).parents[1].glob("*.py"):
    source = path.read_bytes()
    ast.parse(source)
    base.execute("insert into modules values (?, ?)", (path.name, source.count(b"\\n")))
count, lines = base.execute("select count(*), sum(lines) from modules").fetchone()
files = [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
strangers = [file for file in files if not file.startswith(home)]
assert not strangers, strangers
print(f"{len(files)} modules imported, {count} parsed with {lines} lines, all from {home}")
"""


def say(text: str) -> None:
    """A line of the demo's own."""
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


class Demo:
    """One run in one folder; `environment` keeps it apart from the user's own settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.clone = folder / "clone"
        self.figures: list[tuple[str, str]] = []
        identity = {"NAME": "Demo", "EMAIL": "demo@example.org"}
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in identity.items()},
        }

    def run(self, *words: object, cwd: Path) -> float:
        """Show a command and run it; its seconds. Ends the demo if it fails."""
        print(f"$ {shlex.join(map(str, words))}", flush=True)
        command = [str(REVFS) if word == "revfs" else str(word) for word in words]
        started = time.perf_counter()
        subprocess.run(command, cwd=cwd, env=self.environment, check=True)
        return time.perf_counter() - started

    def note(self, what: str, figure: str) -> None:
        """Remember a figure for the table at the end."""
        self.figures.append((what, figure))

    @contextlib.contextmanager
    def mounted(self, revision: str) -> Iterator[Path]:
        """A revision of the clone, mounted for a while."""
        mountpoint = self.folder / f"mounted-{revision}"
        mountpoint.mkdir()
        seconds = self.run("revfs", "mount", revision, mountpoint, cwd=self.clone)
        self.note(f"mount of {revision} ready", f"{seconds:.2f} s")
        try:
            yield mountpoint
        finally:
            self.run("revfs", "unmount", mountpoint, cwd=self.clone)


def write_first_version(demo: Demo) -> Path:
    """Copy the standard library in, and a package of two thousand files beside it, since some
    systems install only half of the library; where it now is."""
    library = demo.data / "lib" / VERSION
    source = sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})
    shutil.copytree(source, library, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    package = Path(sysconfig.get_path("purelib")) / "botocore"
    target = library / "site-packages" / package.name
    shutil.copytree(package, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return library


def write_second_version(library: Path) -> None:
    """Change some files, add some, remove some."""
    modules = sorted(library.glob("*.py"))
    for module in modules[::10]:
        module.write_bytes(module.read_bytes() + b"\n# The second version.\n")
    modules[-1].unlink()
    (library / "demo_added").mkdir()
    for number in range(100):
        (library / "demo_added" / f"{number:03}.txt").write_text(f"{number}\n" * number)
    # One file of some pieces, with a few bytes put in at its middle.
    large = max((p for p in library.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = large.read_bytes()
    half = len(content) // 2
    (library / "demo_added" / "large").write_bytes(content[:half] + b"inserted" + content[half:])


def compare(original: Path, mounted: Path) -> tuple[int, int]:
    """Compare names, kinds, modes, targets and bytes; files and bytes compared. Raises
    SystemExit at the first difference."""
    files = size = 0
    names = {path.relative_to(original) for path in original.rglob("*")}
    strangers = names ^ {path.relative_to(mounted) for path in mounted.rglob("*")}
    if strangers:
        raise SystemExit(f"demo: not on both sides: {sorted(map(str, strangers))[:5]}")
    for name in sorted(names):
        one, other = original / name, mounted / name
        if one.is_symlink():
            same = other.is_symlink() and one.readlink() == other.readlink()
        elif one.is_dir():
            same = other.is_dir()
        else:
            content = one.read_bytes()
            executable = bool(one.stat().st_mode & 0o100) == bool(other.stat().st_mode & 0o100)
            same = executable and other.stat().st_size == len(content)
            same = same and other.read_bytes() == content
            files, size = files + 1, size + len(content)
        if not same:
            raise SystemExit(f"demo: {name} differs on the mount")
    return files, size


def make_versions(demo: Demo, url: str, options: list[str]) -> dict[str, Path]:
    """Two versions, added, committed, tagged and pushed; the originals of each."""
    demo.run("git", "init", "--quiet", demo.data, cwd=demo.folder)
    demo.run("revfs", "init", cwd=demo.data)
    demo.run("revfs", "remote", "add", "-d", "storage", url, *options, cwd=demo.data)
    originals = {}
    library = write_first_version(demo)
    for version in ("v1", "v2"):
        if version == "v2":
            write_second_version(library)
        seconds = demo.run("revfs", "add", "lib", cwd=demo.data)
        demo.note(f"add of {version}", f"{seconds:.2f} s")
        demo.run("git", "commit", "--quiet", "-m", f"Version {version}", cwd=demo.data)
        demo.run("git", "tag", version, cwd=demo.data)
        originals[version] = demo.folder / f"original-{version}"
        shutil.copytree(demo.data / "lib", originals[version], symlinks=True)
    demo.note("push of both", f"{demo.run('revfs', 'push', cwd=demo.data):.2f} s")
    return originals


def read_back(demo: Demo, originals: dict[str, Path]) -> None:
    """Clone with an empty cache, mount both versions, compare, and live on one of them."""
    demo.run("git", "clone", "--quiet", demo.data, demo.clone, cwd=demo.folder)
    demo.environment["XDG_CACHE_HOME"] = str(demo.folder / "cache-of-the-clone")
    with demo.mounted("v1") as first, demo.mounted("v2") as second:
        demo.run("revfs", "mounts", cwd=demo.clone)
        for version, mountpoint in (("v1", first), ("v2", second)):
            for state in ("cold", "warm"):
                started = time.perf_counter()
                files, size = compare(originals[version], mountpoint / "lib")
                seconds = time.perf_counter() - started
                what = f"{files:,} files, {size:,} bytes of {version} equal, {state}"
                say(f"{what}: {seconds:.2f} s")
                demo.note(what, f"{seconds:.2f} s")
        live_on(demo, second)
        demo.run("revfs", "mounts", cwd=demo.clone)


def live_on(demo: Demo, mountpoint: Path) -> None:
    """Run Python with its standard library read from a mount."""
    say(f"Python with its standard library from {mountpoint}")
    python = os.path.realpath(sys.executable)
    environment = {**demo.environment, "PYTHONHOME": str(mountpoint)}
    subprocess.run(
        [python, "-s", "-B", "-c", LIVING_PROGRAM], env=environment, cwd=demo.folder, check=True
    )


@contextlib.contextmanager
def remote(demo: Demo, kind: str) -> Iterator[tuple[str, list[str]]]:
    """The url and options of a remote: a folder, or a bucket served by rclone meanwhile."""
    store = demo.folder / "store"
    store.mkdir()
    if kind != "--s3":
        yield str(store), []
        return
    sys.path.insert(0, str(ROOT))
    from tests.fakes.s3_servers import serve_rclone_s3

    with serve_rclone_s3(store) as server:
        server.make_bucket(BUCKET)
        demo.environment |= {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield f"s3://{BUCKET}/demo", ["--endpoint", server.endpoint]


def main() -> None:
    """Run the demo; the exit code is 0 only if all was equal."""
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory(prefix="revfs-demo-") as name:
        demo = Demo(Path(name).resolve())
        with remote(demo, kind) as (url, options):
            originals = make_versions(demo, url, options)
            read_back(demo, originals)
    width = max(len(what) for what, _ in demo.figures)
    say("Figures of this run")
    for what, figure in demo.figures:
        print(f"  {what:<{width}}  {figure:>8}")
    say("All was equal.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"demo: {shlex.join(error.cmd)} failed") from error
