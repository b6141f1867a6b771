"""What the verbs that write into the work tree begin with: checkout, pull and resolve."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cli.console import App
from cli.git_set_up import ensure_set_up
from cli.settings import Settings, load_settings
from cli.stores import store_settings
from store.errors import ConfigError, StoreError
from store.local_store import LocalStore
from store.materialise import Failure
from store.walk import Argument, resolve_arguments

_CAUSES = 3


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A work tree at `top` with its open store, and the paths of the command line in it."""

    top: Path
    local: LocalStore
    arguments: Sequence[Argument]


@contextmanager
def open_work_tree(
    app: App, paths: Sequence[Path], *, remote_name: str | None = None, network: bool
) -> Iterator[WorkTree]:
    """The work tree around the place where the command runs, ready to be written to, while the
    context lasts. Without `network` a remote that must not be asked is no error."""
    settings = load_settings(app, remote_name=remote_name)
    top = settings.paths.work_tree
    if top is None:
        raise ConfigError("a bare repository has no work tree; revfs export writes files elsewhere")
    arguments = resolve_arguments(top, app.cwd, paths)
    ensure_set_up(app, settings.paths)
    chosen = settings if network else _without_strangers(settings)
    with LocalStore(store_settings(chosen), to_write=True) as local:
        yield WorkTree(top, local, arguments)


def _without_strangers(settings: Settings) -> Settings:
    remote = settings.remote
    return settings if remote is None or remote.endpoint_trusted else replace(settings, remote=None)


def raise_failures(failures: Sequence[Failure], what: str) -> None:
    """Raise a StoreError that counts the failures, if there are any, and names the first."""
    if not failures:
        return
    first = sorted(failures, key=lambda failure: failure.path)[:_CAUSES]
    causes = "; ".join(str(failure.error) for failure in first)
    more = len(failures) - len(first)
    rest = f"; and {more:,} more" if more else ""
    raise StoreError(f"{what}: {causes}{rest}")
