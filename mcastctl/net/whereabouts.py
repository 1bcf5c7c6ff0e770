"""What this system is, where a refusal means something else there: asked when one is told."""

from mcastctl.model.surroundings import WSL
from mcastctl.net.platforms import HERE, LINUX

_RELEASE = "/proc/sys/kernel/osrelease"


def surroundings(release_file: str = _RELEASE) -> str:
    """Return the system's name, 'wsl' for a Linux that is a guest of Windows."""
    if HERE is not LINUX:
        return HERE.name
    try:
        with open(release_file, encoding="ascii", errors="replace") as file:  # noqa: PTH123 (3 ms)
            return WSL if "microsoft" in file.read(256).lower() else HERE.name
    except OSError:
        return HERE.name
