"""The configuration files of a repository and its user, written as text."""

from collections.abc import Mapping
from pathlib import Path

from store.config import Config, load_config
from store.config_files import level_file
from store.config_keys import Level
from store.git_command import RepositoryPaths

ID = "7f1f4d1e-9f66-4c1a-8f0a-0d6c7c5f6d10"
ENDPOINT = "https://s3.example.com"


class ConfigFiles:
    """The three files, written as text, and the configuration that they make."""

    def __init__(self, paths: RepositoryPaths, environment: Mapping[str, str]) -> None:
        self.paths = paths
        self.environment = environment

    def write(self, level: Level, text: str) -> Path:
        file = level_file(self.paths, self.environment, level)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def load(self, **variables: str) -> Config:
        return load_config(self.paths, {**self.environment, **variables})


def remote_text(name: str = "origin", **variables: str) -> str:
    """The section of one remote."""
    lines = "".join(f"\t{key} = {value}\n" for key, value in variables.items())
    return f'[remote "{name}"]\n{lines}'
