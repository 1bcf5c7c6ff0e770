"""The receiving host: why a datagram of the group does not reach the program."""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import (
    delivery,
    dropped,
    ladder,
    link,
    membership,
    network,
    probed,
    router,
    sender,
    series,
    silence,
    traffic,
    unread,
)
from mcastctl.doctor.rules.verdict import Rule, first, info
from mcastctl.model.records import Finding

_LOCAL: tuple[Rule, ...] = (link.down, link.no_carrier, link.ipv6_disabled)
_ARRIVED: tuple[Rule, ...] = (
    router.container,
    dropped.dominant,
    delivery.fragments,
    traffic.redirected,
    unread.forwarded,
    membership.missing,
    membership.filtered,
    delivery.unmatched,
    membership.port_in_use,
    sender.loop_off,
    unread.rewritten,
    unread.piling_up,
    delivery.crosstalk,
    delivery.duplicates,
)
_SILENT: tuple[Rule, ...] = (
    link.xdp,
    dropped.dominant,
    delivery.fragments,
    network.interface_local,
    router.container,
    network.link_local,
    membership.missing,
    sender.loop_off,
    membership.elsewhere,
    membership.older_version,
    membership.filtered,
    network.other_port,
    network.other_source,
    probed.host_drops,
    membership.ssm_without_source,
    network.reports_dropped,
    network.queries_dropped,
    dropped.control_taken,
    probed.forgotten,
    delivery.crosstalk,
    network.other_group,
    link.macvlan,
    silence.silent,
)


def diagnose(facts: Facts) -> list[Finding]:
    """Return the cause, None of severity error where datagrams are delivered."""
    found = first(facts, _LOCAL)
    if found is not None:
        return [found]
    arrived = facts.arrived_here()
    if facts.why_no_drops and (arrived or facts.why_no_wire):
        return ladder.diagnose(facts)
    found = first(facts, _ARRIVED if arrived else _SILENT)
    if found is not None:
        return [found, *_behind(facts, found)]
    return [_delivered(facts, arrived)]


def _behind(facts: Facts, found: Finding) -> list[Finding]:
    """Return what comes after the answer, and what else may keep a silent interface silent."""
    later = series.behind(facts, found)
    if found.id == "net.not_on_wire":
        return [*later, *network.remarks(facts)]
    joined = facts.probe.joined if facts.probe else None
    if found.id in series.NOT_MEMBER and not facts.arrivals() and not (joined and joined.came):
        # A switch that snoops sends to members only: nobody can tell before that is mended.
        later.append(series.mentioned(silence.silent(facts)))
    return later


def _delivered(facts: Facts, arrived: int) -> Finding:
    question = facts.question
    listeners = ", ".join(facts.holders(one) for one in delivery.hearing(facts))
    return info(
        "ok",
        f"datagrams to {question.endpoint} arrive and are delivered",
        [
            f"capture: {arrived} datagrams on {facts.name(question.ifindex)}",
            f"the kernel dropped none of them; sockets that take them: {listeners or 'none'}",
        ],
    )
