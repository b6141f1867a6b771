"""StoreSettings: what a store is opened with; without the libraries that open it."""

from dataclasses import dataclass
from pathlib import Path

from store.config import RemoteSettings
from store.git_command import RepositoryPaths


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What a store is opened with. `repository_id` is None before `revfs init`, `remote` where none
    is configured; `cache_size_bytes` None keeps a tenth of the disk free instead."""

    paths: RepositoryPaths
    repository_id: str | None
    remote: RemoteSettings | None
    cache_directory: Path
    cache_size_bytes: int | None
    timeout_seconds: float
