"""From settings to an open store: what all verbs that work with data begin with."""

import os

from cli.console import App
from cli.settings import Settings
from store.config_files import user_folder
from store.store_settings import StoreSettings
from vfs.mount_records import MountRecords


def store_settings(settings: Settings) -> StoreSettings:
    """The settings of a run as the store wants them."""
    return StoreSettings(
        paths=settings.paths,
        repository_id=settings.config.get("repository.id"),
        remote=settings.remote,
        cache_directory=settings.cache_directory,
        cache_size_bytes=settings.cache_size_bytes,
        timeout_seconds=settings.timeout_seconds,
    )


def require_initialised(settings: Settings) -> str:
    """The repository's id, without which nothing could ever be pushed. Raises ConfigError."""
    return settings.config.repository_id


def jobs() -> int:
    """How many threads read and compress at once: one per core that this process may use."""
    # Only Linux can tell.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def default_workers() -> int:
    """How many processes serve a mount unless somebody says: the cores are the job's above all."""
    return min(max(jobs() // 4, 1), 8)


def open_mount_records(app: App) -> MountRecords:
    """The records of this user's mounts: in one place, whatever cache a repository uses."""
    return MountRecords(user_folder(app.environment, "XDG_CACHE_HOME", ".cache"))
