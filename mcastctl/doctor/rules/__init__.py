"""From facts to findings: pure rules, one small function per cause, in the order of the path."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import health, probed, receiver, router, sender, switch
from mcastctl.model.records import Finding

__all__ = ["diagnose", "health"]

_ROLES = {
    "receiver": receiver.diagnose,
    "sender": sender.diagnose,
    "router": router.diagnose,
    "host": router.diagnose,
    "switch": switch.diagnose,
}


def diagnose(facts: Facts) -> list[Finding]:
    """Return the findings, the answer first; none of severity error where nothing is wrong."""
    return probed.completed(facts, _ROLES[facts.question.role](facts))
