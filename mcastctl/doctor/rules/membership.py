"""Causes in the membership: nobody joined, not there, not this source, limits of joining."""

import errno

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, Rule, error, first, joining
from mcastctl.host.applications import Application
from mcastctl.host.borrowed import Filter
from mcastctl.model.address import INTERFACE_LOCAL, LINK_LOCAL, is_ssm, scope6
from mcastctl.model.membership import GroupMembership
from mcastctl.model.records import Finding
from mcastctl.model.shell import setting, word

ENOUGH = 2
"""Datagrams after a silence that are no coincidence."""
_RETRIES_PER_S = 1.5
_JOIN_BYTES = 48
"""Option memory of one IPv4 join (struct ip_mc_socklist on 64-bit kernels)."""


def missing(facts: Facts) -> Finding | None:
    """Return why the interface is no member of the group, None where it is one."""
    if facts.member_on(facts.question.ifindex) is not None:
        return None
    return first(facts, _MISSING)


def on_port(facts: Facts) -> list[Application]:
    """Return our sockets on the port."""
    return [one for one in facts.ours() if one.bound.port == facts.question.port]


def _missing_scope(facts: Facts) -> Finding | None:
    question = facts.question
    scope = scope6(question.group)
    if scope not in (INTERFACE_LOCAL, LINK_LOCAL) or on_port(facts):
        return None
    evidence = [f"{question.group} is ambiguous without a zone", f"nobody has port {question.port}"]
    if facts.failing:
        evidence.append(f"{facts.failing} sockets ended without a port, as a refused bind leaves")
    name = facts.name(question.ifindex) if question.ifindex else "IFACE"
    return error(
        "rx.missing_scope",
        f"a link-local group needs a zone: bind to {question.group}%{name}",
        evidence,
        f"bind and join with the scope id of the interface: {word(f'{question.group}%{name}')} "
        "(sin6_scope_id)",
        "socket",
        INFERRED,
    )


def port_in_use(facts: Facts) -> Finding | None:
    """rx.port_in_use: a bind keeps failing because of who has the port for itself alone."""
    holder = next((one for one in _holders(facts) if _exclusive(one)), None)
    return _port_taken(facts, holder) if holder is not None and facts.failing >= 2 else None


def port_shared(facts: Facts) -> Finding | None:
    """The same, where nobody can tell that the holder keeps others out.

    Others than bind(2) leave sockets without a port behind, too, though seldom so often; only a
    bind of --probe tells for certain.
    """
    holders = _holders(facts)
    often = facts.failing >= max(2, int(_RETRIES_PER_S * facts.watched_s))
    return _port_taken(facts, holders[0]) if holders and often else None


def _port_hidden(facts: Facts) -> Finding | None:
    """The same, where nobody may ask any of the holders."""
    unknown = all(one.options is None for one in _holders(facts))
    return port_shared(facts) if unknown else None


def _port_refused(facts: Facts) -> Finding | None:
    """The same, where a bind of --probe was refused."""
    joined = facts.probe.joined if facts.probe else None
    taken = joined is not None and joined.bind_errno == errno.EADDRINUSE
    return port_shared(facts) if taken else None


def _holders(facts: Facts) -> list[Application]:
    """Return who has the port; nobody where the process in question has it."""
    port = facts.question.port
    if facts.question.pid is not None and any(one.bound.port == port for one in facts.known_ours()):
        return []
    return [one for one in facts.applications if one.bound.port == port]


def _port_taken(facts: Facts, holder: Application) -> Finding:
    options, port = holder.options, facts.question.port
    flags = "options not readable: run as root"
    if options is not None:
        flags = f"SO_REUSEADDR={int(options.reuse_address)} SO_REUSEPORT={int(options.reuse_port)}"
    return error(
        "rx.port_in_use",
        f"port {port} is taken by {facts.holders(holder)}",
        [
            f"{holder.bound.protocol} {holder.bound.local}:{holder.bound.port} is held by "
            f"{facts.holders(holder)}: {flags}",
            f"{facts.failing} sockets ended without a port, as a bind that keeps failing leaves",
        ],
        "every process on the port needs the same option: SO_REUSEADDR in all of them "
        "(SO_REUSEPORT only among sockets of one user)",
        "socket",
        INFERRED,
    )


def _exclusive(one: Application) -> bool:
    return one.options is not None and not one.options.reuse_address


def _membership_limit(facts: Facts) -> Finding | None:
    limit = facts.limits.get("ipv4/igmp_max_memberships", 0)
    for one in on_port(facts):
        joined = [each for each in _filters(one) if ":" not in each.group]
        count = len(joined) if one.options else (one.bound.option_bytes or 0) // _JOIN_BYTES
        has = any(each.group == facts.question.group for each in joined)
        if limit and count >= limit and not has and facts.question.family == 4:
            return error(
                "rx.membership_limit",
                f"the socket of {facts.holders(one)} may not join more than {limit} groups",
                [
                    f"it has {count} memberships, {facts.question.group} is not among them",
                    f"net.ipv4.igmp_max_memberships = {limit} (per socket)",
                ],
                f"sysctl net.ipv4.igmp_max_memberships={limit * 2} (undo: ={limit}), or spread "
                "the groups over several sockets",
                "socket",
                PROVED if one.options else INFERRED,
            )
    return None


def _filters(one: Application) -> tuple[Filter, ...]:
    return one.options.filters if one.options else ()


def _no_interface(facts: Facts) -> Finding | None:
    question = facts.question
    if facts.route is None or facts.route.error is None or facts.members():
        return None
    waiting = [one for one in on_port(facts) if one.bound.option_bytes == 0]
    if not waiting:
        return None
    link = word(facts.name(question.ifindex)) if question.ifindex else "IFACE"
    return error(
        "rx.join_no_interface",
        "a join without an interface fails: no route tells the kernel which one",
        [
            f"ip route get {question.group}: {facts.route.reason}",
            f"the socket of {facts.holders(waiting[0])} joined nothing",
        ],
        f"name the interface in the join, or: ip route add 224.0.0.0/4 dev {link}",
        "socket",
    )


def _other_interface(facts: Facts) -> Finding | None:
    members = [one for one in facts.members() if one.ifindex != facts.question.ifindex]
    if not members:
        return None
    question = facts.question
    name = facts.name(question.ifindex)
    elsewhere = ", ".join(one.iface for one in members)
    evidence = [f"/proc/net/igmp{'6' if question.family == 6 else ''}: joined on {elsewhere}"]
    arrived = facts.wire().get(name)
    if arrived:
        evidence.append(f"capture: {arrived} datagrams came in by {name}")
    if facts.route is not None and facts.route.iface:
        evidence.append(f"a join without an interface goes to {facts.route.iface}")
    return error(
        "rx.joined_wrong_iface",
        f"{question.group} is joined on {elsewhere}, not on {name}",
        evidence,
        f"name the interface in the join (imr_ifindex), or: {joining(question.group, name)}",
        "socket",
    )


def elsewhere(facts: Facts) -> Finding | None:
    """rx.joined_wrong_iface, seen from the interface that is joined: they come by another one."""
    arrived = facts.arrivals()
    name = facts.name(facts.question.ifindex)
    if not arrived or name in arrived:
        return None
    group, way = facts.question.group, max(arrived, key=lambda each: arrived[each])
    return error(
        "rx.joined_wrong_iface",
        f"{group} arrives on {way}, but is joined on {name}",
        [
            f"capture: {arrived[way]} datagrams came in by {way}, none by {name}",
            f"/proc/net/igmp{'6' if facts.question.family == 6 else ''}: not joined on {way}",
        ],
        f"join it on {word(way)}: name that interface in the join (imr_ifindex)",
        "socket",
    )


def _nowhere(facts: Facts) -> Finding:
    question = facts.question
    sockets = on_port(facts)
    evidence = [
        f"/proc/net/igmp{'6' if question.family == 6 else ''}: "
        f"{question.group} is joined on no interface"
    ]
    for one in sockets:
        what = "joined nothing" if one.bound.option_bytes == 0 else "joined other groups"
        bound = f"{one.bound.local}:{one.bound.port}"
        evidence.append(f"the socket of {facts.holders(one)}, bound to {bound}, {what}")
    if not sockets:
        evidence.append(f"no socket is bound to port {question.port}")
    name = facts.name(question.ifindex) if question.ifindex else "the interface"
    return error(
        "rx.not_joined",
        f"nobody on this host has joined {question.group}",
        evidence,
        f"join {question.group} on {word(name)}: IP_ADD_MEMBERSHIP, MCAST_JOIN_GROUP",
        "socket",
    )


_MISSING: tuple[Rule, ...] = (
    _membership_limit,
    _other_interface,
    _missing_scope,
    port_in_use,
    _port_hidden,
    _no_interface,
    _port_refused,
    _nowhere,
)


def filtered(facts: Facts) -> Finding | None:
    """rx.source_filter or rx.msf_limit: the interface's filter keeps the source out."""
    member = facts.member_on(facts.question.ifindex)
    if member is None:
        return None
    source = _only_source(facts) or next(iter(facts.question.sources), None)
    if source is None:
        return None
    if not member.mode_certain and not excludes(member, source):
        return _by_routing(facts, member, source)
    if not excludes(member, source):
        return None
    return msf_limit(facts, source) or _source_filter(facts, member, source)


def _by_routing(facts: Facts, member: GroupMembership, source: str) -> Finding | None:
    """rx.source_filter where the kernel lists no filter: its input routing applies it all the same.

    A neighbour's datagrams to the group are taken, and this source's to the host; these are not.
    """
    answers = facts.answers.get(member.ifindex)
    if answers is None or answers != (False, True, True):
        return None
    group = facts.question.group
    return error(
        "rx.source_filter",
        f"a source filter on {member.iface} keeps {source} out of {group}",
        [
            f"route get {group} from {source} iif {member.iface}: refused, from a neighbour: taken",
            "/proc/net/mcfilter does not list this interface's filters now (its newest group has "
            "none)",
        ],
        f"join {source}@{group}, or unblock {source} (MCAST_UNBLOCK_SOURCE)",
        "socket",
    )


def _only_source(facts: Facts) -> str | None:
    sources = {one.src for one in facts.group_flows("in")}
    return sources.pop() if len(sources) == 1 else None


def excludes(member: GroupMembership, source: str) -> bool:
    """Tell whether an interface's filter keeps a source out."""
    if member.mode == "include":
        return source not in member.sources
    return source in member.sources


def msf_limit(facts: Facts, source: str) -> Finding | None:
    """rx.msf_limit: a socket includes as many sources as it may, and not this one."""
    six = facts.question.family == 6
    key = "ipv6/mld_max_msf" if six else "ipv4/igmp_max_msf"
    limit = facts.limits.get(key, 64 if six else 10)
    for one in on_port(facts):
        for each in _filters(one):
            mine = each.group == facts.question.group and each.mode == "include"
            if mine and len(each.sources) >= limit and source not in each.sources:
                name = f"net.{key.replace('/', '.')}"
                return error(
                    "rx.msf_limit",
                    f"the socket of {facts.holders(one)} may not include more sources",
                    [f"it includes {len(each.sources)} sources, not {source}", f"{name} = {limit}"],
                    f"sysctl {name}={limit * 2} (undo: ={limit}), or leave sources out",
                    "socket",
                )
    return None


def _source_filter(facts: Facts, member: GroupMembership, source: str) -> Finding:
    listed = ", ".join(member.sources)
    file = "mcfilter6" if facts.question.family == 6 else "mcfilter"
    kind = "only from" if member.mode == "include" else "from all but"
    return error(
        "rx.source_filter",
        f"{member.iface} takes {facts.question.group} {kind} {listed}: {source} is kept out",
        [f"/proc/net/{file}: {member.iface} {member.mode} {{ {listed} }}"],
        f"join {source}@{facts.question.group}, or unblock {source} (MCAST_UNBLOCK_SOURCE)",
        "socket",
    )


def older_version(facts: Facts) -> Finding | None:
    """host.igmp_version: an older querier, or a setting, makes source filters unsayable."""
    question = facts.question
    settings = facts.knobs.get(question.ifindex)
    member = facts.member_on(question.ifindex)
    if question.family == 6 or settings is None or settings.igmp in (None, 3):
        return None
    wants_source = member is not None and member.mode == "include"
    if not wants_source and not is_ssm(question.group):
        return None
    name = facts.name(question.ifindex)
    version = f"V{settings.igmp}"
    evidence = [f"/proc/net/igmp: {name} speaks {version}: reports cannot name sources"]
    asked = [one for one in facts.control if one.kind == "query" and one.iface == name]
    evidence += [f"capture: IGMP v{one.version} query from {one.src} on {name}" for one in asked]
    if settings.forced_igmp:
        evidence.append(f"net.ipv4.conf.{name}.force_igmp_version = {settings.forced_igmp}")
        hint = f"sysctl {setting(4, name, 'force_igmp_version', 0)} (look at 'all', too)"
    else:
        hint = (
            "make the querier speak IGMPv3 and wait until the older one is forgotten (260 s by "
            "default); force_igmp_version=3 and link down/up do not shorten that"
        )
    return error(
        "host.igmp_version",
        f"IGMP {version} is in force on {name}: a source-specific join cannot be reported",
        evidence,
        hint,
        "host" if settings.forced_igmp else "network",
    )


def ssm_without_source(facts: Facts) -> Finding | None:
    """rx.ssm_asm_join: a source-specific group joined without a source."""
    question = facts.question
    member = facts.member_on(question.ifindex)
    if member is None or not is_ssm(question.group) or member.mode == "include":
        return None
    if not member.mode_certain:
        return None  # the kernel does not say that it has no sources
    source = next(iter(question.sources), "SRC")
    crafted = facts.probe.crafted if facts.probe else None
    came = crafted.came if crafted else 0
    return error(
        "rx.ssm_asm_join",
        f"{question.group} is source-specific, but was joined without a source",
        [
            f"{member.iface}: membership EXCLUDE {{}} of a group in the range of RFC 4607",
            "routers ignore such a report; on the link itself it works",
            *([f"a report that names {source} brought {came} datagrams"] if came else []),
        ],
        f"join {source}@{question.group} (MCAST_JOIN_SOURCE_GROUP)",
        "socket",
        PROVED if came >= ENOUGH else INFERRED,
    )
