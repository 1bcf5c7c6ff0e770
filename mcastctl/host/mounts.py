"""A file system of the kernel's own, mounted where nobody but this process sees it.

For what a namespace or a container hides: fsopen(2), fsmount(2), Linux 5.2 and root. The mount
ends with its descriptor; nothing is attached anywhere.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcastctl.host import syscall

_CLOEXEC, _CONFIG_CREATE = 1, 6


@contextmanager
def detached(kind: str) -> Iterator[Path]:
    """The root of a file system ('tracefs', 'cgroup2') while open; raises OSError without it."""
    descriptor = _mount(kind.encode())
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _mount(kind: bytes) -> int:
    context = syscall.call("fsopen", kind, _CLOEXEC)
    try:
        syscall.call("fsconfig", context, _CONFIG_CREATE, None, None, 0)
        return syscall.call("fsmount", context, _CLOEXEC, 0)
    finally:
        os.close(context)
