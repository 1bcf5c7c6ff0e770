"""A host without any one datagram in question: what will trouble multicast here, sooner or later.

Only what is proved to be thrown away is an error; the rest are warnings and plain facts.
"""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import network
from mcastctl.doctor.rules.verdict import info, warning, what_root_adds
from mcastctl.model.link import Link
from mcastctl.model.records import Finding
from mcastctl.model.shell import setting, word


def diagnose(facts: Facts) -> list[Finding]:
    """Return the findings, errors first, then warnings."""
    found = [*_reports(facts), *_route(facts), *_limits(facts)]
    usable = [one for one in facts.links.values() if "loopback" not in one.flags]
    for link in usable:
        found += _interface(facts, link)
    if facts.why_no_wire:
        found.append(what_root_adds(facts))
    else:
        found += [_querier(facts, one) for one in usable if {"up", "carrier"} <= one.flags]
    ranks = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda one: ranks[one.severity])


def _reports(facts: Facts) -> list[Finding]:
    """Return what the packet filter does to reports and queries."""
    found = []
    for index in facts.links:
        settled = facts._replace(question=facts.question._replace(ifindex=index))
        one = network.queries_dropped(settled)
        if one is not None:
            found.append(one)
    out = network.reports_dropped(facts)
    if out is not None:
        severity = out.severity if out.certain == "proved" else "warning"
        found.append(out._replace(severity=severity))
    return found


def _route(facts: Facts) -> list[Finding]:
    if facts.route is not None and facts.route.leaves:
        way = f"ip route get {facts.question.group}: {facts.route.iface}"
        return [info("health.route", f"groups leave by {facts.route.iface}", [way])]
    return [
        warning(
            "tx.no_route",
            "no route leads to groups: programs that name no interface can neither send nor join",
            [f"ip route get {facts.question.group}: no route"],
            "ip route add 224.0.0.0/4 dev IFACE (undo: ip route del)",
            "host",
        )
    ]


def _limits(facts: Facts) -> list[Finding]:
    shown = [f"net.{key.replace('/', '.')} = {value}" for key, value in facts.limits.items()]
    return [info("health.limits", "limits of joining, each per socket", shown)] if shown else []


def _interface(facts: Facts, link: Link) -> list[Finding]:
    name, settings = link.name, facts.knobs.get(link.ifindex)
    if "up" not in link.flags:
        return [info("health.interface", f"{name} is down", [f"link {name}: flag UP is not set"])]
    found = []
    if "carrier" not in link.flags:
        hint = "look at the cable, the peer and the switch port"
        found.append(
            warning("if.no_carrier", f"{name} has no carrier", ["LOWER_UP off"], hint, "network")
        )
    if settings is not None and settings.igmp in (1, 2):
        said = f"/proc/net/igmp: {name} speaks V{settings.igmp}"
        hint = "make the querier speak IGMPv3 and wait 260 s; force_igmp_version must be 0"
        title = f"an older IGMP is in force on {name}: source-specific joins cannot be reported"
        found.append(warning("host.igmp_version", title, [said], hint, "network"))
    if settings is not None and settings.rp_filter and not link.has_address(4):
        said = f"effective rp_filter = {settings.rp_filter}, no IPv4 address"
        hint = f"give {word(name)} an address, or: sysctl {setting(4, name, 'rp_filter', 0)}"
        title = f"{name} takes no IPv4 at all: a reverse path filter without an address"
        found.append(warning("host.no_ipv4_address", title, [said], hint, "host"))
    strict = settings is not None and settings.rp_filter == 1
    shown = [f"rp_filter {'strict: sources must be routed back by it' if strict else 'not strict'}"]
    shown += [f"IGMPv{settings.igmp} in force"] if settings and settings.igmp else []
    found.append(info("health.interface", f"{name} is up", shown))
    return found


def _querier(facts: Facts, link: Link) -> Finding:
    heard = sorted(
        {
            f"{'MLD' if ':' in one.src else 'IGMP'}v{one.version} query from {one.src}"
            for one in facts.control
            if one.kind == "query" and one.iface == link.name and one.direction == "in"
        }
    )
    title = f"a querier is heard on {link.name}" if heard else f"no querier heard on {link.name}"
    waited = f"listened {facts.watched_s:.1f} s; general queries are due every 125 s by default"
    return info("health.querier", title, heard or [waited])
