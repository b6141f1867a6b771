"""What every test runs in: trio for async tests, a home of its own, silence in the log; and the
repository and the servers that some ask for."""

import functools
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from store import add
from tests.fakes.repositories import Repository, make_repository
from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, serve_moto, serve_rclone_s3

OWN_LOGGERS = {"store", "vfs", "cli", "revfs"}


# What a shell that started the tests in the background, or nohup, would have them ignore.
_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def pytest_configure(config: pytest.Config) -> None:
    for number, handler in _HANDLERS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    config.addinivalue_line(
        "markers", "virtual_clock: run this async test on a clock that jumps ahead when idle"
    )
    config.addinivalue_line(
        "markers", "frozen_clock: run this async test on a clock that stands still"
    )
    config.addinivalue_line(
        "markers", "expects_warnings: warnings in our log do not fail this test"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Let an `async def` test be called as any other; also below hypothesis' @given."""
    clock = None
    if pyfuncitem.get_closest_marker("virtual_clock"):
        clock = functools.partial(trio.testing.MockClock, autojump_threshold=0)
    elif pyfuncitem.get_closest_marker("frozen_clock"):
        clock = trio.testing.MockClock
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    if given is None and inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = in_trio(pyfuncitem.obj, make_clock=clock)
    elif given is not None and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = in_trio(given.inner_test, make_clock=clock)


def in_trio(
    function: Callable[..., Coroutine[Any, Any, None]],
    *,
    make_clock: Callable[[], trio.testing.MockClock] | None,
) -> Callable[..., None]:
    """`function` as a plain one that runs in a trio loop of its own."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        clock = None if make_clock is None else make_clock()
        trio.run(functools.partial(function, *args, **kwargs), clock=clock)

    return run


@pytest.fixture(autouse=True)
def isolated_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A fresh home; nothing of the machine's user, its git or its AWS account is seen."""
    home = tmp_path_factory.mktemp("home")
    git_config = home / ".gitconfig"
    git_config.write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    for name in list(os.environ):
        if name.startswith(("AWS_", "XDG_", "GIT_", "REVFS_")):
            monkeypatch.delenv(name)
    settings = {
        "HOME": home,
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local/share",
        "XDG_STATE_HOME": home / ".local/state",
        "XDG_RUNTIME_DIR": home / ".runtime",
        "GIT_CONFIG_GLOBAL": git_config,
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": home / "no-aws-config",
        "AWS_SHARED_CREDENTIALS_FILE": home / "no-aws-credentials",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    if pygit2 := sys.modules.get("pygit2"):
        # libgit2 looked its folders up when it was loaded, in a home that is not this test's.
        for level in ("GLOBAL", "XDG", "SYSTEM"):
            level = getattr(pygit2.enums.ConfigLevel, level)
            pygit2.settings.search_path[level] = str(home)
    return home


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A git repository with a revfs id and one commit."""
    return make_repository(tmp_path / "repository")


@pytest.fixture
def in_no_hurry_for_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """`add` does not wait for the next second: nothing rests on git's view of the work tree."""
    monkeypatch.setattr(add, "wait_for_git", lambda top, changes: list(changes))


class WarningCollector(logging.Handler):
    """Keeps what our own loggers say at WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.split(".")[0] in OWN_LOGGERS:
            self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def no_stray_warnings(request: pytest.FixtureRequest) -> Iterator[None]:
    """A warning in our log fails the test, unless it is marked or looks at the log itself."""
    collector = WarningCollector()
    logging.getLogger().addHandler(collector)
    yield
    logging.getLogger().removeHandler(collector)
    expected = request.node.get_closest_marker("expects_warnings") is not None
    if collector.lines and not expected and "caplog" not in request.fixturenames:
        pytest.fail("stray warnings in the log:\n" + "\n".join(collector.lines))


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """moto's S3, in this process. Make a bucket of your own in it."""
    with serve_moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """rclone's S3 over a temporary folder. Make a bucket of your own in it; a test that stops the
    server starts it again."""
    with serve_rclone_s3(tmp_path_factory.mktemp("rclone-s3")) as server:
        yield server
