"""All targets by name."""

from __future__ import annotations

from fuzz import argv, of_bytes, of_files, of_text
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    **of_text.TARGETS,
    **of_bytes.TARGETS,
    **of_files.TARGETS,
    **argv.TARGETS,
}
