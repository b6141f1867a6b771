"""The benchmark's modules import each other by their bare names, as scripts do; and its proxy."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))


@pytest.fixture(scope="session")
def link_proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The proxy, compiled, with what finds errors in memory where the compiler has it."""
    program = tmp_path_factory.mktemp("link-proxy") / "link_proxy"
    command = ["gcc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", str(program)]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = str(SCRIPTS / "link_proxy.c")
    if subprocess.run([*command, *checks, source], capture_output=True).returncode:
        subprocess.run([*command, source], check=True)
    return program
