"""Every fuzz target by its name."""

from tests.fuzz import chunk_formats, git_formats, planted, record_formats, servers, texts
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    **chunk_formats.TARGETS,
    **record_formats.TARGETS,
    **git_formats.TARGETS,
    **texts.TARGETS,
    **servers.TARGETS,
}
PLANTED: dict[str, Target] = planted.TARGETS
