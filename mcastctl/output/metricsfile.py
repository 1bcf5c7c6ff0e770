"""Metrics to a file: a page that is replaced as a whole, or rows that are appended.

A reader never sees half a page (rename(2)), and never a second header or a row of somebody else
among the rows (flock(2)). A file has one writer, who holds the lock of what lies there: a page is
locked before it gets its name. A file that was moved, deleted or emptied meanwhile is made anew.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mcastctl.model.errors import McastError
from mcastctl.model.metrics import Labels, Reading
from mcastctl.output import exposition

_MOST_HEADER = 65536
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""The name was resolved once; a link or a pipe that bears it now is somebody else's."""
_LOCKS = os.name == "posix"
"""On Windows whoever has a file open keeps others from replacing it."""
_ANOTHER = "give each run a file of its own: --metrics FILE"


class MetricsError(McastError):
    """A metrics file that cannot be written, or belongs to something else."""


class MetricsFile(Protocol):
    """Where readings go."""

    def write(self, reading: Reading) -> None:
        """Take one reading. Raises MetricsError; the next one may succeed."""

    def close(self) -> None:
        """Give the file free."""


class Page:
    """The latest reading for the textfile collector of node_exporter.

    It reads `*.prom`; what is being written has another name in the same directory.
    """

    def __init__(self, path: str, common: Labels) -> None:
        """Find out whether it can be written, and lock what is there. Raises MetricsError."""
        self._path = _resolved(path)
        self._common = common
        self._new = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        self._held = -1
        _require_ordinary(self._path)
        self._hold()
        with _Naming(self._path):
            os.close(self._create())
            self._new.unlink()

    def _hold(self) -> None:
        """Hold the lock of the page that is there, if one is. Raises MetricsError."""
        while _LOCKS and not _leads_to(self._path, self._held):
            self.close()
            with _Naming(self._path):
                try:
                    self._held = os.open(self._path, os.O_RDONLY | _PLAIN)
                except FileNotFoundError:
                    return
            try:
                _lock(self._held, self._path)
            except MetricsError:
                self.close()
                raise

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(self._new, flags, 0o644)
        except FileExistsError:  # of a process of this number that was killed
            self._new.unlink()
            return os.open(self._new, flags, 0o644)

    def write(self, reading: Reading) -> None:
        """Replace the page."""
        page = exposition.text(reading, self._common)
        self._hold()
        with _Naming(self._path):
            descriptor = self._create()
            try:
                _lock(descriptor, self._path)
                _write_all(descriptor, page)
                if not _LOCKS:  # Windows replaces nothing that is open
                    os.close(descriptor)
                    descriptor = -1
                self._new.replace(self._path)
            except OSError:
                with suppress(OSError):
                    self._new.unlink()
                if descriptor >= 0:
                    os.close(descriptor)
                raise
        self.close()
        self._held = descriptor

    def close(self) -> None:
        """Give the lock back."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


class Rows:
    """A header and a row for each reading; later runs append to it."""

    def __init__(self, path: str, header: dict[str, object]) -> None:
        """Open and lock the file, and see to its header. Raises MetricsError."""
        from json import encoder

        self._path = _resolved(path)
        self._encode = encoder.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
        self._before: dict[str, float] = {}
        self._header = header
        self._unwritten_s = 0.0
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        _require_ordinary(self._path)
        with _Naming(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _PLAIN
            self._descriptor = os.open(self._path, flags, 0o644)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with _Naming(self._path):
            _lock(self._descriptor, self._path)
            size = os.fstat(self._descriptor).st_size
            if not size:
                self._append(self._header)
                return
            first = os.pread(self._descriptor, _MOST_HEADER, 0)
        self._require_same(first)
        with _Naming(self._path):
            self._mend(size)

    def _require_same(self, first: bytes) -> None:
        """Refuse a file that is not ours, or of another command or node."""
        found = _object(first.partition(b"\n")[0]) if b"\n" in first else None
        if found is None or found.get("schema") != exposition.SCHEMA:
            raise MetricsError(f"{self._path} holds no metrics of this program", hint=_ANOTHER)
        for key in ("artifact_type", "node_id"):
            if found.get(key) != self._header[key]:
                raise MetricsError(
                    f"{self._path} has metrics of {key} {str(found.get(key))[:80]!a}, "
                    f"not {self._header[key]}",
                    hint=_ANOTHER,
                )

    def _mend(self, size: int) -> None:
        """Cut off a row that its writer could not finish."""
        start = max(size - _MOST_HEADER, 0)
        tail = os.pread(self._descriptor, _MOST_HEADER, start)
        if not tail.endswith(b"\n"):
            os.ftruncate(self._descriptor, start + tail.rfind(b"\n") + 1)

    def write(self, reading: Reading) -> None:
        """Append a row; its deltas and rates count from the last row that was written."""
        self._unwritten_s += reading.interval_s
        if not _leads_to(self._path, self._descriptor):
            self.close()
            self._open()
        before = dict(self._before)
        fields = exposition.row(reading._replace(interval_s=self._unwritten_s), before)
        with _Naming(self._path):
            if not os.fstat(self._descriptor).st_size:  # emptied by who rotates
                self._append(self._header)
            self._append(fields)
        self._before, self._unwritten_s = before, 0.0

    def _append(self, fields: dict[str, object]) -> None:
        """Append a line, all of it or nothing."""
        whole = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, self._encode(fields).encode() + b"\n")
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, whole)
            raise

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def node_id(path: str) -> str:
    """Return the name of the directory the file is in, else of the file without its suffix."""
    place = _resolved(path)
    return place.parent.name or place.stem


def run_name(path: str) -> str:
    """Return what tells the pages of one directory apart."""
    return Path(path).stem


def _resolved(path: str) -> Path:
    """Return where a path leads: a page replaces the file itself, not a link to it."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null character
        raise MetricsError(f"cannot write metrics to {path}: {error}", hint=_ANOTHER) from error


def _require_ordinary(path: Path) -> None:
    """Refuse devices and pipes: root would replace /dev/null by a page."""
    with suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "no ordinary file"
            raise MetricsError(
                f"cannot write metrics to {path}: it is {kind}",
                hint="name a file such as mcastctl.prom or mcastctl.jsonl",
            )


def _leads_to(path: Path, descriptor: int) -> bool:
    """Tell whether an open file is still the one that bears the name."""
    try:
        return descriptor >= 0 and os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _lock(descriptor: int, path: Path) -> None:
    """Lock an open file for this run alone, until it is closed. Raises MetricsError."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MetricsError(f"another run writes metrics to {path}", hint=_ANOTHER) from error
    except OSError as error:
        if error.errno != errno.EBADF:  # NFS locks nothing that is open for reading only
            raise


def _object(line: bytes) -> dict[str, Any] | None:
    import json

    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


class _Naming:
    """Turn an OSError of the body into a MetricsError that names the file and a remedy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError | ValueError):
            return
        number = getattr(error, "errno", None)
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise MetricsError(
            f"cannot write metrics to {self._path}: {why}", hint=_remedy(self._path, number)
        ) from error


def _remedy(path: Path, number: int | None) -> str:
    remedies = {
        errno.ENOENT: f"make the directory first: mkdir -p {path.parent}",
        errno.ENOTDIR: f"{path.parent} is no directory: name a file in one",
        errno.EACCES: f"{path.parent} must be writable by this user",
        errno.EROFS: "name a file on a file system that can be written",
        errno.ENOSPC: "free the disk, or name a file elsewhere",
    }
    return remedies.get(number or 0) or "name another file"
