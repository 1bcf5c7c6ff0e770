"""Which rule of the packet filter decides over a packet: nf_tables' own trace, `meta nftrace`.

A private table marks the packets asked about before any other chain sees them; the kernel then
tells each verdict (NFNLGRP_NFTRACE). The table belongs to our socket (NFT_TABLE_F_OWNER): the
kernel removes it with the socket, however this process ends, and nobody else can change it. Linux
5.12 and later; needs CAP_NET_ADMIN. Rules of the old iptables are never told.
"""

import os
from collections import Counter
from contextlib import ExitStack, suppress
from typing import NamedTuple

from mcastctl.host import netlink, nftables
from mcastctl.host.netlink import Netlink

_NETFILTER, _GROUP = 12, 9  # NETLINK_NETFILTER, NFNLGRP_NFTRACE
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _POLICY = 1, 2, 3, 4, 5, 16
_BY_POLICY, _BY_RULE = 1, 3
_DROP, _QUEUE = 0, 3
_HOOKS = {"receiver": (nftables.INGRESS, nftables.PREROUTING), "sender": (nftables.OUTPUT,)}


class Verdict(NamedTuple):
    """Who threw a packet away: a rule by its handle, or the policy of a chain (None)."""

    family: str
    table: str
    chain: str
    handle: int | None


class Trace:
    """The verdicts over UDP to a group and port, on its way in or out, until the stack closes."""

    def __init__(self, match: list[bytes], iface: str, role: str, stack: ExitStack) -> None:
        """Trace what the expressions match (nftables.udp_to); raises OSError."""
        self.dropped: Counter[Verdict] = Counter()
        self._number = 0
        self._connection = stack.enter_context(Netlink(_NETFILTER, groups=(_GROUP,)))
        match = [*match, *nftables.marked()]
        try:
            self._make(_HOOKS[role], iface, match)
        except OSError:
            if role == "sender":
                raise
            # Before Linux 5.10 the family inet has no ingress hook, and some links never have.
            self._make((nftables.PREROUTING,), iface, match)

    def _make(self, hooks: tuple[int, ...], iface: str, match: list[bytes]) -> None:
        made = _table(hooks, iface, match)
        self._number += len(made)
        numbers = range(self._number, self._number + len(made))
        self._connection.transact(nftables.batch(made, numbers.start), numbers)

    def poll(self) -> None:
        """Take in the verdicts told so far."""
        for kind, message in self._connection.notifications():
            if kind == nftables.SUBSYSTEM << 8 | nftables.TRACE:
                with suppress(ValueError):
                    self.dropped[parse(message)] += 1


def _table(hooks: tuple[int, ...], iface: str, match: list[bytes]) -> list[tuple[int, bytes]]:
    name = f"mcastctl_probe_{os.getpid()}"
    made = [(nftables.NEW_TABLE, nftables.table(name))]
    for hook in hooks:
        device = iface if hook == nftables.INGRESS else ""
        place = f"hook{hook}"
        made.append((nftables.NEW_CHAIN, nftables.chain(name, place, hook, device)))
        made.append((nftables.NEW_RULE, nftables.rule(name, place, match)))
    return made


def parse(message: bytes) -> Verdict:
    """Return who dropped the packet of a trace message; ValueError where nobody did yet."""
    told = dict(netlink.attributes(message, 20))
    kind = int.from_bytes(told.get(_TYPE, b""))
    if kind == _BY_RULE:
        inner = dict(netlink.attributes(told.get(_VERDICT, b"")))
        code = inner.get(1, b"")
    else:
        code = told.get(_POLICY, b"") if kind == _BY_POLICY else b""
    # Of a verdict the lower byte counts (NF_VERDICT_MASK); those of nf_tables are negative.
    if len(code) != 4 or code[0] & 0x80 or code[3] not in (_DROP, _QUEUE):
        raise ValueError("not dropped")
    handle = int.from_bytes(told[_HANDLE]) if kind == _BY_RULE and _HANDLE in told else None
    family = nftables.FAMILIES.get(message[16], str(message[16]))
    return Verdict(family, _name(told.get(_TABLE, b"")), _name(told.get(_CHAIN, b"")), handle)


def _name(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
