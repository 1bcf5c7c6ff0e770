"""Run a target on ever new inputs:

    python tests/fuzz TARGET [SECONDS]      (60 by default; without a target: list them)

With atheris (pip install '.[fuzz]', Python 3.11 to 3.13) coverage guides it; without, inputs are
mutations of the seeds. What breaks a promise is written to the present directory, told, and
belongs into tests/fuzz/corpus/TARGET, where tests/test_fuzz.py tries it from then on. Exit status
1 for a finding.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[0] = str(HERE.parent)

if TYPE_CHECKING:
    from fuzz.target import Target


class Cost:
    """Processor time of each input, and of the dearest."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.number, self.worst_s = 0, 0.0

    def __call__(self, data: bytes) -> None:
        spent = self._spent(data)
        if spent > self.target.cost_s:  # once more, without what was loaded for the first time
            spent = min(spent, self._spent(data))
        self.number += 1
        if spent > self.worst_s * 1.5 and spent > self.target.cost_s / 5:
            print(f"worst so far: {1000 * spent:.2f} ms for {len(data)} bytes", flush=True)
        self.worst_s = max(self.worst_s, spent)

    def _spent(self, data: bytes) -> float:
        began = time.thread_time()
        self.target.run(data)
        return time.thread_time() - began


def guided(name: str, seconds: int) -> None:
    """Let libFuzzer look for inputs that reach new code; does not return."""
    import atheris

    with atheris.instrument_imports(include=["mcastctl"]):
        from fuzz.target import corpus
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    cost = Cost(target)
    known = [path.read_bytes() for path in corpus(name)]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, seed in enumerate([*target.seeds(), *known]):
        (folder / f"seed{number}").write_bytes(seed)
    words = folder.with_suffix(".words")
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    options = [f"-max_total_time={seconds}", f"-dict={words}", "-max_len=4096", "-verbosity=0"]
    atheris.Setup([name, *options, "-print_final_stats=1", str(folder)], cost)
    atheris.Fuzz()


def mutated(name: str, seconds: int) -> int:
    """Try mutations; return the exit status."""
    from fuzz.mutate import inputs
    from fuzz.target import corpus
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    cost = Cost(target)
    seeds = [*target.seeds(), *(path.read_bytes() for path in corpus(name))]
    until = time.monotonic() + seconds
    for data in inputs(seeds, target.words, random.Random(os.urandom(8))):  # noqa: S311
        try:
            cost(data)
        except BaseException:
            found = Path(f"crash-{sha256(data).hexdigest()[:16]}")
            found.write_bytes(data)
            print(f"{found} breaks a promise of {name}: {data!r}")
            raise
        if time.monotonic() > until:
            break
    print(f"{name}: {cost.number} inputs, worst {1000 * cost.worst_s:.2f} ms")
    return int(cost.worst_s > target.cost_s)


def main() -> int:
    if len(sys.argv) < 2:
        from fuzz.targets import TARGETS

        print(__doc__)
        print("targets:", *TARGETS)
        return 2
    name, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    if importlib.util.find_spec("atheris") is not None and "--plain" not in sys.argv:
        guided(name, seconds)
    return mutated(name, seconds)


if __name__ == "__main__":
    sys.exit(main())
