"""How a rule words what it found: one finding, with its certainty, evidence and remedy."""

from collections.abc import Callable

from mcastctl.doctor.facts import Facts
from mcastctl.model import refusal
from mcastctl.model.records import Finding
from mcastctl.model.shell import leading, word

Rule = Callable[[Facts], Finding | None]
"""Looks for one cause; None when the facts do not show it."""

PROVED, INFERRED = "proved", "inferred"


def error(  # noqa: PLR0917 - the parts of a finding, in the order it prints them
    ident: str, title: str, evidence: list[str], hint: str, where: str, certain: str = PROVED
) -> Finding:
    """Return a cause of the fault; `ident` is an id of the catalogue."""
    return Finding(ident, "error", title, evidence, hint, where, certain)


def refused(
    number: int, facts: Facts, evidence: list[str], certain: str = PROVED, *, where: str = "host"
) -> Finding:
    """Return what a send refused with an errno means, in the words of `send` itself."""
    question = facts.question
    iface = facts.name(question.ifindex) if question.ifindex else "IFACE"
    cause = refusal.sending(number, question.group, iface) or refusal.Cause("tx.refused", "", "")
    title = f"{cause.title}: sendto says {refusal.name(number)}"
    return error(cause.ident, title, evidence, cause.hint, where, certain)


def joining(group: str, name: str) -> str:
    """Return the route that leads joins, and sends, without an interface to this one."""
    undo = "ip -6 route del table local" if ":" in group else "ip route del"
    return f"{leading(group, name)} (undo: {undo} {group} dev {word(name)})"


def warning(ident: str, title: str, evidence: list[str], hint: str, where: str) -> Finding:
    """Return what may matter, and does not explain the fault by itself."""
    return Finding(ident, "warning", title, evidence, hint, where, INFERRED)


def info(ident: str, title: str, evidence: list[str]) -> Finding:
    """Return that something is as it should be."""
    return Finding(ident, "info", title, evidence, "", "host", PROVED)


def moved(facts: Facts, *counters: str) -> list[str]:
    """Return the counters that moved, before and after, as evidence."""
    return [
        f"{name}: {facts.before.get(name, 0)} -> {facts.after[name]}"
        for name in counters
        if name in facts.after and facts.moved(name)
    ]


def first(facts: Facts, rules: tuple[Rule, ...]) -> Finding | None:
    """Return what the first rule that finds anything says."""
    for rule in rules:
        found = rule(facts)
        if found is not None:
            return found
    return None


def what_root_adds(facts: Facts) -> Finding:
    """Return what could not be seen, and how to see it."""
    return warning(
        "doctor.unprivileged",
        "without root neither the wire nor the kernel's drop reasons can be seen",
        [one for one in (facts.why_no_wire, facts.why_no_drops, facts.why_no_rules) if one],
        "sudo mcastctl doctor ... tells which datagrams arrive and why they are dropped",
        "host",
    )
