"""Hostile mounts leave as little behind as any others."""

from tests.mounted.conftest import nothing_left as nothing_left
