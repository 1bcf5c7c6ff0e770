"""The diagnosis as a process beside another command: a question in JSON, the verdict in words.

    python -m mcastctl.doctor.aside '{"group": "239.1.1.1", "port": 5004, "watch_s": 1.0, ...}'

Only what anybody may see is looked at, even by root: no capture, no program in the kernel.
"""

import json
import os
import sys

from mcastctl.doctor import report
from mcastctl.doctor.facts import Question
from mcastctl.model.errors import COULD_NOT_ASK, McastError
from mcastctl.model.records import Finding
from mcastctl.model.shell import word
from mcastctl.net.loop import Loop

_ELSEWHERE = ("network", "sender")


def words(found: list[Finding], question: Question) -> dict[str, str]:
    """Return `text` and `hint`: the answer, or that nothing is wrong on this host."""
    source = ",".join(f"[{one}]" if ":" in one else one for one in question.sources)
    target = f"{source}@{question.endpoint}" if source else question.endpoint
    more = f"sudo mcastctl doctor {word(target)} -i {word(question.iface)}"
    answer = next((one for one in found if one.severity == "error"), None)
    if answer is None:
        seen = found[0].evidence[-1:] if found else []
        text = "no fault is to be seen on this host without root"
        text = "; ".join([text, *seen, "the port, a source filter, the sender or the network"])
        return {"text": text, "hint": f"while it listens: {more}; at the sender: --role sender"}
    text = f"{answer.title} [{answer.id}]"
    if answer.where in _ELSEWHERE:
        text = f"no fault found on this host; {text}"
    closer = "" if answer.certain == "proved" else f"; to be certain, while it listens: {more}"
    return {"text": text, "hint": f"{answer.hint}{closer}"}


def main() -> int:
    """Answer the question in the first argument on standard output."""
    asked = json.loads(sys.argv[1])
    watch_s = float(asked.pop("watch_s"))
    question = Question(**{**asked, "sources": tuple(asked["sources"])})
    try:
        with Loop() as loop:
            found, _ = report.run(question, watch_s, loop, privileged=False)
    except McastError:
        return COULD_NOT_ASK
    os.write(1, json.dumps(words(found, question)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
