"""Creating the file of a capture: one way for every writer, and the remedy where it fails.

A file that is there keeps what it holds until there is something to write: a mistake in the filter
or in the name of what is read costs nobody an older capture.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from mcastctl.capture.files import CaptureFileError


def create(path: str) -> int:
    """Return the descriptor of a new file, or one to be emptied. Raises CaptureFileError."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        why, hint = error.strerror or "refused", _remedy(Path(path), error.errno)
    except ValueError as error:  # a null character
        why, hint = str(error), "choose another name for -w"
    raise CaptureFileError(f"cannot write {path}: {why.lower()}", hint=hint)


def empty(descriptor: int) -> None:
    """Take away what the file held before."""
    with suppress(OSError):  # a pipe or a device holds nothing
        os.ftruncate(descriptor, 0)


def _remedy(path: Path, number: int | None) -> str:
    missing = not path.parent.exists()
    remedies = {
        errno.ENOENT: f"make the directory first: mkdir -p {path.parent}" if missing else "",
        errno.EISDIR: f"name a file in it: -w {path / 'capture.pcap'}",
        errno.ENOTDIR: f"{path.parent} is no directory: name a file in one",
        errno.EACCES: "name a file where you may write; under sudo that is where its caller may",
    }
    return remedies.get(number or 0) or "choose another file for -w"
