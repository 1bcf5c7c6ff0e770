"""The checks of the self-test: each returns its evidence or raises what went wrong."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

from mcastctl.doctor import apart
from mcastctl.model import probe, refusal
from mcastctl.model.errors import McastError, SocketError
from mcastctl.model.limits import Limits
from mcastctl.model.records import Finding, Membership, Notice, Reply
from mcastctl.model.responders import Responders
from mcastctl.net import sender, sockopts
from mcastctl.net.loop import Loop
from mcastctl.net.nic import Nic
from mcastctl.net.pinger import UNICAST_TTL, Pinging
from mcastctl.net.receiver import Receiver, Subscription
from mcastctl.net.responder import Responding
from mcastctl.net.sender import Egress, Sender, Target

_PROBES = 3
_PATIENCE_S = 1.0
"""Seconds to wait for what should arrive within a millisecond."""

# MCAST-TEST-NET (RFC 5771 section 9.2) and the source-specific ranges of RFC 4607.
_GROUPS = {(4, False): "233.252.0.123", (4, True): "232.252.0.123"}
_GROUPS |= {(6, False): "ff15::123", (6, True): "ff35::8000:123"}
_STRANGERS = {4: "192.0.2.123", 6: "2001:db8::123"}
"""Sources nothing is sent from (documentation addresses, RFC 5737, RFC 3849)."""


class Ground(NamedTuple):
    """Where a check runs: family, interface, the address to send from, a note for the reader."""

    version: int
    nic: Nic
    source: str
    note: str


class CheckFailed(McastError):
    """Datagrams did not arrive as they had to."""


def identity(version: int, name: str) -> str:
    """Return the finding id of a check."""
    return f"self-test-ipv{version}-{name.replace(' ', '-')}"


def failed(version: int, name: str, error: McastError) -> Finding:
    """Return the finding of a check that failed."""
    title = f"IPv{version} {name}"
    return Finding(identity(version, name), "error", title, [error.message], error.hint, "host")


def reach(ground: Ground) -> None:
    """Send one probe to find out whether the interface carries groups; raises SocketError."""
    group = _GROUPS[ground.version, False]
    with closing(_sender(ground)) as out:
        target = Target(group, _free_port(ground.version), ground.nic)
        _send(out, target, count=1)


def any_source(ground: Ground) -> str:
    """Hear what is sent to a joined group."""
    subscription = _subscription(ground, ssm=False, sources=())
    heard = _exchange(ground, [subscription])
    group = subscription.group
    return f"{group} on {ground.nic.name}: sent {_PROBES}, heard {heard[0]}"


def source_specific(ground: Ground) -> str:
    """Hear a wanted source; do not hear the group through a filter for another source."""
    wanted = _subscription(ground, ssm=True, sources=(ground.source,))
    other = wanted._replace(sources=(_STRANGERS[ground.version],))
    _exchange(ground, [wanted], [other])
    return f"{ground.source}@{wanted.group} on {ground.nic.name}: heard; filter for another: silent"


def excluded_source(ground: Ground) -> str:
    """Do not hear an excluded source; hear it when another one is excluded."""
    subscription = _subscription(ground, ssm=False, sources=(ground.source,))
    excluded = subscription._replace(exclude=True)
    other = excluded._replace(sources=(_STRANGERS[ground.version],))
    _exchange(ground, [other], [excluded])
    return (
        f"!{ground.source}@{excluded.group} on {ground.nic.name}: silent; excluding another: heard"
    )


def echo_and_ping(ground: Ground) -> str:
    """Ask a group by multicast and by unicast, and get both answers."""
    subscription = _subscription(ground, ssm=False, sources=())
    with apart.companion(lambda ready: _answer(subscription, ready)):
        replies = _ask(ground, subscription)
    kinds = {reply.kind for reply in replies}
    missing = {"multicast", "unicast"} - kinds
    if missing:
        raise CheckFailed(
            f"no answer to a request by {' and '.join(sorted(missing))} on {ground.nic.name}",
            hint="a firewall of this host may drop UDP: see 'nft list ruleset'",
        )
    best = min(reply.rtt_ns for reply in replies)
    return f"{subscription.group} on {ground.nic.name}: multicast and unicast, {best / 1e6:.3f} ms"


def _subscription(ground: Ground, *, ssm: bool, sources: tuple[str, ...]) -> Subscription:
    group = _GROUPS[ground.version, ssm]
    return Subscription(group, _free_port(ground.version), ground.nic, sources, False)


def _free_port(version: int) -> int:
    with closing(sockopts.open_udp(version)) as sock, sockopts.naming("bind", "find a free port"):
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def _sender(ground: Ground) -> Sender:
    return Sender(ground.version, ground.nic, Egress(source=ground.source))


def _exchange(
    ground: Ground, hearing: list[Subscription], deaf: list[Subscription] | None = None
) -> list[int]:
    """Send probes; all of `hearing` must get them, none of `deaf`. Returns what each heard."""
    with ExitStack() as stack:
        ears = [stack.enter_context(closing(Receiver(one))) for one in hearing]
        closed = [stack.enter_context(closing(Receiver(one))) for one in deaf or []]
        out = stack.enter_context(closing(_sender(ground)))
        loop = stack.enter_context(Loop(handle_signals=False))
        subscription = hearing[0]
        _send(out, Target(subscription.group, subscription.port, ground.nic), _PROBES)
        counts = [_hear(one, loop) for one in ears]
        for count in counts:
            if count != _PROBES:
                raise CheckFailed(
                    f"{subscription.group} on {ground.nic.name}: sent {_PROBES}, heard {count}",
                    hint="a firewall of this host may drop UDP: see 'nft list ruleset'",
                )
        # Those that must stay silent are looked at after the others heard everything.
        for one in closed:
            if one.receive() is not None:
                raise CheckFailed(
                    f"a source filter on {subscription.group} let the wrong source through",
                    hint="the kernel's multicast source filters do not work as RFC 3376 asks",
                )
        return counts


def _send(out: Sender, target: Target, count: int) -> None:
    for seq in range(count):
        header = probe.Probe(probe.DATA, 1, 0, 1, seq, time.time_ns())
        refused = out.send(probe.encode(header), target)
        if refused is not None:
            raise SocketError(
                f"cannot send to {target}: {refusal.cause(refused, refusal.name(refused))}",
                hint=refusal.remedy("send", refused),
                errno=refused,
            )


def _hear(one: Receiver, loop: Loop) -> int:
    loop.watch(one.fileno())
    until = time.monotonic_ns() + _PATIENCE_S * 1e9
    seen: set[int] = set()
    while len(seen) < _PROBES and time.monotonic_ns() < until:
        loop.wait(until)
        while (heard := one.receive()) is not None:
            seen.add(heard[0].mark.seq or 0)
    return len(seen)


def _answer(subscription: Subscription, ready: Callable[[], None]) -> None:
    responding = Responding([subscription], said=None, argv=None, answer_any=False, trace=False)
    limits = Limits(time.monotonic_ns(), count=None, timeout_s=10 * _PATIENCE_S, idle_s=None)
    with Loop(handle_signals=False) as loop:
        for record in responding.records(loop, limits):
            if isinstance(record, Membership):
                ready()


def _ask(ground: Ground, subscription: Subscription) -> list[Reply]:
    target = Target(subscription.group, subscription.port, ground.nic)
    egress = Egress(source=ground.source, unicast_ttl=UNICAST_TTL)
    pairs = sender.open_all([target], egress)
    pinging = Pinging(
        pairs,
        Responders((ground.source,), subscription.port),
        ttl=1,
        size=64,
        rounds=2,
        interval_s=0.02,
        wait_s=_PATIENCE_S,
    )
    limits = Limits(time.monotonic_ns(), count=None, timeout_s=3 * _PATIENCE_S, idle_s=None)
    replies: list[Reply] = []
    with closing(pinging), Loop(handle_signals=False) as loop:
        for record in pinging.records(loop, limits):
            if isinstance(record, Reply):
                replies.append(record)
            elif isinstance(record, Notice):
                raise CheckFailed(record.text, hint=record.hint)
            if {one.kind for one in replies} == {"multicast", "unicast"}:
                break
    return replies
