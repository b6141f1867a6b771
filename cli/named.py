"""The revision and the paths that the words of a command line name."""

from cli.console import App
from cli.settings import Settings
from store.local_store import LocalStore
from store.named_paths import NameResolver, folder_from_top


def name_resolver(app: App, settings: Settings, local: LocalStore) -> NameResolver:
    """What resolves the words of this run, for somebody in its folder."""
    folder = folder_from_top(settings.paths, app.cwd)
    return NameResolver(local.repository, local.directories, folder)
