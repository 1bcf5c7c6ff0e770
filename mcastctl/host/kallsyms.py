"""Which kernel function an address lies in, from /proc/kallsyms (kernel/kallsyms.c)."""

from collections.abc import Collection
from pathlib import Path

_KALLSYMS = Path("/proc/kallsyms")


def functions(addresses: Collection[int], path: Path = _KALLSYMS) -> dict[int, str]:
    """Return the function around each address, without what the compiler appended to its name.

    Addresses whose function the kernel does not tell are absent: /proc is hidden, or
    kernel.kptr_restrict shows every address as 0.
    """
    best = {address: (0, "") for address in addresses}
    if not best:
        return {}
    try:
        with path.open("rb") as table:
            for line in table:  # ffffffff81000000 T name [module]
                _closer(line, best)
    except OSError:
        return {}
    return {address: name for address, (_, name) in best.items() if name}


def _closer(line: bytes, best: dict[int, tuple[int, str]]) -> None:
    words = line.split(None, 3)
    if len(words) < 3 or words[1] not in b"tTwW":
        return
    try:
        start = int(words[0], 16)
    except ValueError:
        return
    for address, (known, _) in best.items():
        if known < start <= address:
            name = words[2].decode("ascii", "replace")
            best[address] = start, name.partition(".")[0]  # .isra.0, .part.0, .cold
