"""What the merge of a large matrix costs: hosts that exist on paper only, no traffic at all.

    python tests/bench/bench_matrix.py [HOSTS] [GROUPS]

Every host has asked, every other has heard it, but for one host in fifty that is deaf. One group
is merged whole (HOSTS x HOSTS pairs); GROUPS more are merged with one sender and thirty receivers
each, as streams are. Prints seconds and peak memory of each, in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

from mcastctl.model import matrix

DEAF = 50
RECEIVERS = 30


def host(number: int) -> matrix.Host:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return matrix.Host(f"host{number}", matrix.ASKED, "", "0", (address,))


def survey(
    hosts: list[matrix.Host], senders: list[matrix.Host]
) -> tuple[dict[str, matrix.Asked], dict[str, dict[str, matrix.Heard]]]:
    """What `senders` say they asked, and every host of them heard."""
    hearing = [one for at, one in enumerate(hosts) if at % DEAF]
    answers = {one.addresses[0]: matrix.Responder(5, 0, 0.4, 1) for one in hearing}
    asked = {one.name: matrix.Asked(f"{at:x}", 5, answers) for at, one in enumerate(senders)}
    heard = {f"{at:x}": matrix.Heard(one.addresses[0], 5, 0, 1) for at, one in enumerate(senders)}
    return asked, {one.name: heard if at % DEAF else {} for at, one in enumerate(hosts)}


def whole(number: int) -> str:
    """One group, every host a sender and a receiver."""
    hosts = [host(at) for at in range(number)]
    pairs = list(matrix.merge(hosts, *survey(hosts, hosts)))
    causes = matrix.causes(pairs)
    silent = sum(len(group) for group in causes)
    return f"{len(pairs)} pairs, {silent} silent, {len(causes)} questions for the doctor"


def many(number: int) -> str:
    """Many groups, each from one host to thirty."""
    pairs = questions = 0
    for group in range(number):
        hosts = [host(at) for at in range(group, group + RECEIVERS + 1)]
        merged = matrix.merge(hosts, *survey(hosts, hosts[1:2]))
        found = [one for one in merged if one.state != matrix.UNKNOWN]
        pairs += len(found)
        questions += len(matrix.causes(found))
    return f"{number} groups, {pairs} pairs, {questions} questions"


def main() -> None:
    """Run each part in a process of its own, or be that process."""
    if sys.argv[1:2] == ["part"]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        said = {"whole": whole, "many": many}[sys.argv[2]](int(sys.argv[3]))
        spent = time.process_time() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"{said}: {spent:.1f} s, {grown / 1024:.0f} MiB")
        return
    hosts, groups = (sys.argv[1:] + ["1000", "10000"][len(sys.argv) - 1 :])[:2]
    for part, size in (("whole", hosts), ("many", groups)):
        subprocess.run([sys.executable, __file__, "part", part, size], check=True)


if __name__ == "__main__":
    main()
