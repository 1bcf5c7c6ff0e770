"""Reading capture files in tests: in this process, and as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from mcastctl.capture.files import DamagedFile, open_file
from mcastctl.model.frame import Frame, frames


def read(path: Path) -> tuple[list[Frame], DamagedFile | None]:
    """Every frame of a file, and what ended it early."""
    found: list[Frame] = []
    source = None
    try:
        source = open_file(str(path))
        for block in source.blocks():
            assert list(block.numbers) == list(
                range(len(found) + 1, len(found) + 1 + len(block.offsets))
            )
            found += [frame for _, frame in frames(block)]
    except DamagedFile as error:
        return found, error
    finally:
        if source is not None:
            source.source.close()
    return found, None


def sniff(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcastctl", "sniff", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "some.pcap"
    path.write_bytes(data)
    return path
