"""Causes between UDP and the program: which socket takes a datagram, and what it does with it.

The kernel's own choice is replayed here (net/ipv4/udp.c: __udp_is_mcast_sock, net/ipv6/udp.c:
__udp_v6_is_mcast_sock, net/ipv4/igmp.c: ip_mc_sf_allow).
"""

from mcastctl.doctor.facts import Facts
from mcastctl.doctor.rules import membership, traffic
from mcastctl.doctor.rules.verdict import INFERRED, PROVED, error, moved
from mcastctl.host.applications import Application
from mcastctl.model.records import Finding
from mcastctl.model.shell import word

_FEW = 3
_LITTLE = 0.02
"""Of what arrived, how much may be on its way where nobody reads."""
_ANY = ("0.0.0.0", "::")  # noqa: S104


def mismatch(facts: Facts, one: Application, source: str | None, ifindex: int) -> str:
    """Return the id of why a socket on the port takes no such datagram, '' where it does."""
    question, bound = facts.question, one.bound
    six = bound.protocol.endswith("6")
    foreign = (not six) if question.family == 6 else (six and _v6only(one))
    connected = bound.remote not in _ANY
    elsewhere = bound.local not in (*_ANY, question.group, f"::ffff:{question.group}")
    checks = (
        (bound.port != question.port, "rx.bound_wrong_port"),
        (foreign, "rx.family_mismatch"),
        (connected and (elsewhere or bound.remote != source), "rx.connected_filter"),
        (elsewhere, "rx.bound_wrong_addr"),
        (bound.ifindex not in (0, ifindex), "rx.bound_device"),
    )
    failed = next((ident for fails, ident in checks if fails), "")
    return failed or _filter(facts, one, source, ifindex)


def _v6only(one: Application) -> bool:
    only = one.options.v6only if one.options else one.bound.v6only
    return bool(one.bound.v6only if only is None else only)


def _filter(facts: Facts, one: Application, source: str | None, ifindex: int) -> str:
    """Apply the socket's own source filter, or without one IP_MULTICAST_ALL."""
    if one.options is None:
        closed = one.bound.multicast_all is False and not one.bound.option_bytes
        return "rx.not_joined" if closed else ""
    for each in one.options.filters:
        if each.group == facts.question.group and each.ifindex == ifindex:
            if source is None:
                return ""
            inside = source in each.sources
            return "" if inside == (each.mode == "include") else "rx.source_filter"
    every = one.options.multicast_all
    return "rx.not_joined" if every is False else ""


def interested(facts: Facts, one: Application) -> bool:
    """Tell whether a socket means to hear the group: it joined it, or nothing else."""
    if facts.question.pid is not None:
        return True
    group = facts.question.group
    if one.options is not None:
        groups = {each.group for each in one.options.filters}
        if group in groups:
            return True
        return not groups and one.bound.port == facts.question.port
    return one.bound.port == facts.question.port


def deaf(facts: Facts) -> list[tuple[Application, str]]:
    """Return the sockets that mean to hear the group and do not, with the id of why."""
    source = _source(facts) or next(iter(facts.question.sources), None)
    ours, takers = facts.ours(), hearing(facts)
    heard = any(one in takers for one in ours)
    found = []
    for one in ours:
        if not interested(facts, one):
            continue
        ident = mismatch(facts, one, source, facts.question.ifindex)
        # Who joined nothing may well be a program for unicast, where another one hears the group.
        needs_join = ident == "rx.bound_wrong_port" or (heard and ident != "rx.not_joined")
        if needs_join and not _joined(facts, one):
            continue
        if ident == "rx.not_joined" and _beside(facts, one):
            continue
        if heard and _another_feed(facts, one, ident):
            continue
        if ident:
            found.append((one, ident))
    return found


def _another_feed(facts: Facts, one: Application, ident: str) -> bool:
    """Tell whether a socket chose other sources or another interface: where the group is heard
    by another one, that is what its program wants.
    """
    filters = one.options.filters if one.options else ()
    places = {each.ifindex for each in filters if each.group == facts.question.group}
    return ident == "rx.source_filter" or bool(places and facts.question.ifindex not in places)


def _beside(facts: Facts, one: Application) -> bool:
    """Tell whether its process has joined by another socket: this one is for unicast then."""
    processes = {pid for pid, _name, _descriptor in one.holders}
    return any(
        other.bound.port == one.bound.port
        and _joined(facts, other)
        and processes.intersection(pid for pid, _name, _descriptor in other.holders)
        for other in facts.ours()
    )


def _joined(facts: Facts, one: Application) -> bool:
    filters = one.options.filters if one.options else ()
    return any(each.group == facts.question.group for each in filters)


def _source(facts: Facts) -> str | None:
    sources = {one.src for one in facts.group_flows("in")}
    return sources.pop() if len(sources) == 1 else None


def hearing(facts: Facts) -> list[Application]:
    """Return the sockets that take datagrams of the question."""
    source = _source(facts) or next(iter(facts.question.sources), None)
    index = facts.question.ifindex
    return [one for one in facts.applications if not mismatch(facts, one, source, index)]


def unmatched(facts: Facts) -> Finding | None:
    """Return why no socket, or not the one in question, takes the datagrams."""
    candidates = deaf(facts)
    heard = [one for one in facts.ours() if one in hearing(facts)]
    wrong_port = [one for one in candidates if one[1] == "rx.bound_wrong_port"]
    if heard and len(wrong_port) == len(candidates):
        return None  # another port of the same group may be another stream
    if not candidates and not_on_port(facts):
        return membership.port_in_use(facts) or _process_elsewhere(facts)
    if not candidates:
        return None if hearing(facts) else _nobody(facts)
    one, ident = min(candidates, key=lambda pair: pair[1] == "rx.bound_wrong_port")
    if ident == "rx.source_filter":
        source = _source(facts) or next(iter(facts.question.sources), None) or ""
        limited = membership.msf_limit(facts, source)
        if limited is not None:
            return limited
    return _explain(facts, one, ident)


def not_on_port(facts: Facts) -> bool:
    """Tell whether the process in question has no socket on the port, others have."""
    on_port = [one for one in facts.applications if one.bound.port == facts.question.port]
    known = bool(on_port) and all(one.holders for one in on_port)
    return facts.question.pid is not None and known and not membership.on_port(facts)


def _process_elsewhere(facts: Facts) -> Finding:
    """rx.bound_wrong_port: others hear the group, the process in question has no such socket."""
    question = facts.question
    holders = {facts.holders(one) for one in facts.applications if one.bound.port == question.port}
    ports = sorted({one.bound.port for one in facts.ours()})
    evidence = [f"port {question.port} is held by {', '.join(sorted(holders))}"]
    if ports:
        evidence.append(f"the process has joined by sockets on {', '.join(map(str, ports))}")
    return error(
        "rx.bound_wrong_port",
        f"process {question.pid} has no socket on port {question.port}",
        evidence,
        f"bind the receiver to port {question.port}, or name the process that hears: --pid",
        "socket",
        INFERRED,
    )


def _nobody(facts: Facts) -> Finding | None:
    question = facts.question
    if any(one.bound.port == question.port for one in facts.applications):
        return None
    if facts.why_no_wire and not facts.member_on(question.ifindex):
        return None
    unknown = [one for one in facts.applications if one.options is None and one.bound.option_bytes]
    ports = ", ".join(str(one.bound.port) for one in unknown)
    evidence = [f"no socket is bound to port {question.port}"]
    evidence += [f"sockets that joined something have the ports {ports}"] if ports else []
    evidence += moved(facts, "Udp.IgnoredMulti", "Udp6IgnoredMulti")
    return error(
        "rx.bound_wrong_port",
        f"no program listens on port {question.port}",
        evidence,
        f"bind the receiver to port {question.port}, or send to the port it has",
        "socket",
        INFERRED,
    )


def _explain(facts: Facts, one: Application, ident: str) -> Finding:
    question, bound = facts.question, one.bound
    who = facts.holders(one)
    local = f"{bound.local}:{bound.port}"
    name = facts.name(question.ifindex)
    filters = one.options.filters if one.options else ()
    own = [each for each in filters if each.group == question.group]
    listed = "; ".join(f"{each.mode} {{ {', '.join(each.sources)} }}" for each in own)
    titles = {
        "rx.bound_wrong_port": (
            f"{who} is bound to port {bound.port}, the datagrams go to {question.port}",
            f"bind to port {question.port}, or send to {bound.port}",
        ),
        "rx.family_mismatch": (
            f"the socket of {who} cannot take IPv{question.family} datagrams",
            "IPV6_V6ONLY=0, or a socket of the group's own family",
        ),
        "rx.connected_filter": (
            f"the socket of {who} is connected to {bound.remote}: it hears only that peer",
            "do not connect() a multicast receiver; a source-specific join filters senders",
        ),
        "rx.bound_wrong_addr": (
            f"{who} is bound to {bound.local}, datagrams to {question.group} do not match that",
            f"bind to every address or to {question.group} itself, never to a unicast address",
        ),
        "rx.bound_device": (
            f"the socket of {who} is bound to {facts.name(bound.ifindex)}, they come by {name}",
            f"bind it to {word(name)}, or drop SO_BINDTODEVICE",
        ),
        "rx.source_filter": (
            f"the source filter of {who} keeps the sender out",
            f"join with the real source, or unblock it ({', '.join(question.sources)})",
        ),
        "rx.not_joined": (
            f"the socket of {who} did not join, and IP_MULTICAST_ALL=0 hides joins of others",
            f"join {question.group} on this very socket, or set IP_MULTICAST_ALL=1",
        ),
    }
    title, hint = titles[ident]
    evidence = [f"sock_diag: {bound.protocol} {local}"]
    if bound.remote not in _ANY:
        evidence[0] += f" connected to {bound.remote}:{bound.remote_port}"
    if listed:
        evidence.append(f"its own filter for {question.group}: {listed}")
    if ident == "rx.not_joined":
        evidence.append("it is no member of the group, IP_MULTICAST_ALL = 0")
    return error(ident, title, evidence, hint, "socket")


def overflow(facts: Facts, evidence: list[str]) -> Finding | None:
    """rx.app_not_reading or rx.rcvbuf_overflow: the receive buffer of a socket is full."""
    losing = [
        one for one in facts.ours() if one.bound.port == facts.question.port and facts.losing(one)
    ]
    taking = any(one not in losing for one in membership.on_port(facts))
    if not losing or (facts.hidden_uid is not None and taking):
        return None  # nobody knows which of them is meant
    one = max(losing, key=lambda each: each.bound.drops - facts.drops_before[each.bound.inode])
    samples = facts.queues.get(one.bound.inode, ())
    who = facts.holders(one)
    before = facts.drops_before[one.bound.inode]
    evidence = [
        *evidence,
        f"drops of the socket of {who}: {before} -> {one.bound.drops}",
        *moved(facts, "Udp.RcvbufErrors", "Udp6RcvbufErrors"),
        f"receive queue, sampled: {', '.join(map(str, samples[-8:]))} bytes",
    ]
    full = samples and min(samples) > 0 and len(set(samples)) == 1
    if full and not _reads(facts, one):
        return error(
            "rx.app_not_reading",
            f"{who} does not read its socket: the receive queue is full and stays full",
            evidence,
            f"look at the process: cat /proc/{pid(one)}/wchan; fix or restart it",
            "socket",
        )
    size = f" (now {one.options.buffer} bytes)" if one.options else ""
    return error(
        "rx.rcvbuf_overflow",
        f"the receive buffer of {who} overflows",
        evidence,
        f"a larger SO_RCVBUF{size}, up to sysctl net.core.rmem_max; or read faster",
        "socket",
    )


def _reads(facts: Facts, one: Application) -> bool:
    """Tell whether a program takes datagrams from its full queue.

    What it did not lose was read, and UDP counts a datagram when a program takes it; unseen, what
    was taken is its own where no other socket hears the group.
    """
    head = "Udp6" if facts.question.family == 6 else "Udp."
    taken, kept = facts.moved(f"{head}InDatagrams"), facts.kept.get(one.bound.inode)
    if kept is None:
        return taken >= _FEW and hearing(facts) == [one]
    lost = one.bound.drops - facts.drops_before[one.bound.inode]
    return kept > max(_FEW, lost * _LITTLE) and taken * 2 >= kept


def pid(one: Application) -> int | str:
    """Return a process that holds a socket, or a word in its place."""
    return one.holders[0][0] if one.holders else "PID"


def refused(facts: Facts, evidence: list[str]) -> Finding | None:
    """rx.socket_filter or host.cgroup_bpf: a program refuses what the socket would take."""
    losing = [one for one in hearing(facts) if facts.losing(one)]
    one = next(iter(losing or hearing(facts)), None)
    if one is None:
        return None
    before = facts.drops_before.get(one.bound.inode, 0)
    evidence = [*evidence, f"drops of its socket: {before} -> {one.bound.drops}"]
    who = facts.holders(one)
    if one.options is not None and one.options.program == 0:
        return error(
            "host.cgroup_bpf",
            f"a BPF program of its control group refuses what {who} should hear",
            [
                *evidence,
                "the socket itself has no filter (SO_GET_FILTER = 0)",
                *traffic.programs_of(facts, "cgroup ingress"),
            ],
            f"systemd: IPAddressAllow={facts.question.group} in the unit, or remove "
            "IPAddressDeny; 'bpftool cgroup tree' lists the programs",
            "host",
        )
    length = one.options.program if one.options else None
    known = f"SO_GET_FILTER: {length} instructions" if length else "filter not readable"
    return error(
        "rx.socket_filter",
        f"the socket filter of {who} refuses the datagrams",
        [*evidence, known],
        "change or remove SO_ATTACH_FILTER in the application",
        "socket",
        PROVED if length else INFERRED,
    )


def fragments(facts: Facts) -> Finding | None:
    """host.fragment_incomplete: parts of datagrams arrive, the rest never does."""
    six = facts.question.family == 6
    head = "Ip6" if six else "Ip."
    required, whole = facts.moved(f"{head}ReasmReqds"), facts.moved(f"{head}ReasmOKs")
    lost = facts.moved(f"{head}ReasmFails") + facts.moved(f"{head}ReasmTimeout")
    parts = [one for one in facts.group_flows("in") if one.fragment]
    begun = sum(facts.flows[one] for one in parts if one.fragment == "first")
    if facts.why_no_wire:
        incomplete = required >= (_FEW if lost else 2 * _FEW) and lost * 10 >= whole
    else:  # some may be on their way at either end of the watch
        incomplete = begun >= _FEW and whole < begun * 0.9 - _FEW
    if not incomplete:
        return None
    evidence = moved(facts, *(f"{head}{name}" for name in ("ReasmReqds", "ReasmOKs", "ReasmFails")))
    kinds = {one.fragment for one in parts}
    if "first" in kinds and "later" not in kinds:
        evidence.append("capture: first fragments arrive, no later ones")
    return error(
        "host.fragment_incomplete",
        "large datagrams arrive in fragments that never complete",
        evidence,
        "something drops fragments (they carry no ports): let them pass, or keep datagrams "
        "within the MTU less 28 bytes (IPv6: 48)",
        "network",
    )


def crosstalk(facts: Facts) -> Finding | None:
    """rx.crosstalk: a wildcard socket hears groups that only others joined."""
    question = facts.question
    foreign = {
        one.dst
        for one in facts.flows
        if one.direction == "in" and one.dport == question.port and one.dst != question.group
        if (":" in one.dst) == (question.family == 6)
    }
    for one in facts.ours():
        if one.bound.port != question.port or one.options is None or not one.bound.wildcard:
            continue
        if one.bound.protocol.endswith("6") != (question.family == 6):
            continue  # its options are of its own family
        own = {each.group for each in one.options.filters}
        heard = {group for group in foreign - own if facts.members(group)}
        if own and heard and one.options.multicast_all and (question.group in own or heard):
            return error(
                "rx.crosstalk",
                f"{facts.holders(one)} also gets {', '.join(sorted(heard))}, joined by others",
                [
                    f"sock_diag: bound to {one.bound.local}:{one.bound.port}, IP_MULTICAST_ALL = 1",
                    f"it joined {', '.join(sorted(own))}",
                ],
                "bind to the group, or set IP_MULTICAST_ALL=0 (IPV6_MULTICAST_ALL=0)",
                "socket",
            )
    return None


def duplicates(facts: Facts) -> Finding | None:
    """rx.duplicate: the same datagram comes by several interfaces, all of them joined."""
    for places, count in facts.copies.items():
        joined = [one.iface for one in facts.members() if one.iface in places]
        if len(joined) > 1 and count >= 3:
            return error(
                "rx.duplicate",
                f"every datagram comes twice: by {' and '.join(joined)}",
                [
                    f"capture: {count} datagrams alike on {', '.join(places)}",
                    f"{facts.question.group} is joined on {', '.join(joined)}",
                ],
                "join on one interface only",
                "socket",
            )
    return None
