"""The default filter as a classic BPF program, assembled by hand: it needs no libpcap.

It passes IPv4 multicast (224/4), IPv6 multicast (ff00::/8) and, to whatever address, IGMP,
PIM, VRRP and MLD, also behind hop-by-hop options and one VLAN tag; no broadcast. Sources:
Linux Documentation/networking/filter.rst, <linux/filter.h>, RFC 3810 section 5.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from mcastctl.model.errors import ValueRangeError
from mcastctl.model.frame import ETHERNET, LINUX_SLL, LINUX_SLL2, MAX_FRAME, RAW

SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF = -0x1000, -0x100000, -0x200000
"""Where the kernel answers loads for: facts about the frame, its network and link header."""
_AD_PROTOCOL, _AD_PKTTYPE, _AD_IFINDEX = SKF_AD_OFF, SKF_AD_OFF + 4, SKF_AD_OFF + 8
_OUTGOING = 4
"""PACKET_OUTGOING, packet(7)."""

_LD, _LDH, _LDB, _LDB_X = 0x20, 0x28, 0x30, 0x50
_AND, _LSH, _RSH, _ADD, _TAX = 0x54, 0x64, 0x74, 0x04, 0x07
_JA, _JEQ, _JGT, _JGE, _RET = 0x05, 0x15, 0x25, 0x35, 0x06

_IPV4, _IPV6, _VLAN, _QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
_IGMP, _PIM, _VRRP, _HOP_BY_HOP, _ICMPV6 = 2, 103, 112, 0, 58


class Instruction(NamedTuple):
    """One struct sock_filter: opcode, jumps if true and false (relative), operand."""

    code: int
    jt: int
    jf: int
    k: int


Program = Sequence[Instruction]


def pack(program: Program) -> bytes:
    """Return the program as an array of struct sock_filter, host byte order."""
    return b"".join(struct.pack("=HBBI", i.code, i.jt, i.jf, i.k & 0xFFFFFFFF) for i in program)


class _Assembler:
    """Instructions with named targets; `program` turns names into distances."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, str, str, int]] = []
        self._labels: dict[str, int] = {}

    @property
    def started(self) -> bool:
        return bool(self._rows)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._rows)

    def do(self, code: int, k: int = 0) -> None:
        self._rows.append((code, "", "", k))

    def when(self, code: int, k: int, yes: str = "", no: str = "") -> None:
        """Jump to a label; '' goes on with the next instruction."""
        self._rows.append((code, yes, no, k))

    def jump(self, target: str) -> None:
        self._rows.append((_JA, target, "", 0))

    def program(self) -> list[Instruction]:
        done = []
        for at, (code, yes, no, k) in enumerate(self._rows):
            there = self._labels[yes] - at - 1 if yes else 0
            other = self._labels[no] - at - 1 if no else 0
            if code == _JA:
                done.append(Instruction(code, 0, 0, there))
            else:
                done.append(Instruction(code, there, other, k))
        return done


def multicast(
    linktype: int | None, snaplen: int = MAX_FRAME, *, data: bool = True
) -> list[Instruction]:
    """Return the default filter for frames of one link type; without `data` only control.

    Without a link type (frames of several interfaces) the kernel is asked where the network
    header is; only a kernel can run that one.
    """
    code = _Assembler()
    if linktype == RAW:
        code.do(_LDB, 0)
        code.do(_RSH, 4)
        code.when(_JEQ, 4, "ipv4")
        code.when(_JEQ, 6, "ipv6", "reject")
        _addresses(code, 0, "", data=data)
    elif linktype in _HEADERS:
        protocol, length = _HEADERS[linktype]
        code.do(_LDH, protocol)
        _by_protocol(code)
        _addresses(code, length, "", data=data)
        code.label("tagged")
        code.do(_LDH, length + 2)
        code.when(_JEQ, _IPV4, "ipv4 tagged")
        code.when(_JEQ, _IPV6, "ipv6 tagged", "reject")
        _addresses(code, length + 4, " tagged", data=data)
    elif linktype is None:
        code.do(_LDH, _AD_PROTOCOL)
        _by_protocol(code)
        _addresses(code, SKF_NET_OFF, "", data=data)
        code.label("tagged")  # a tag that is still in the frame: it is an Ethernet frame
        code.do(_LDH, SKF_LL_OFF + 16)
        code.when(_JEQ, _IPV4, "ipv4 tagged")
        code.when(_JEQ, _IPV6, "ipv6 tagged", "reject")
        _addresses(code, SKF_LL_OFF + 18, " tagged", data=data)
    else:
        raise ValueRangeError(
            f"no default filter for link type {linktype}", hint="give a filter of your own: 'ip'"
        )
    code.label("accept")
    code.do(_RET, snaplen)
    code.label("reject")
    code.do(_RET, 0)
    return code.program()


_HEADERS = {ETHERNET: (12, 14), LINUX_SLL: (14, 16), LINUX_SLL2: (0, 20)}
"""Where the protocol stands and where the network header begins."""


def _by_protocol(code: _Assembler) -> None:
    code.when(_JEQ, _IPV4, "ipv4")
    code.when(_JEQ, _IPV6, "ipv6")
    code.when(_JEQ, _VLAN, "tagged")
    code.when(_JEQ, _QINQ, "tagged", "reject")


def _addresses(code: _Assembler, base: int, suffix: str, *, data: bool) -> None:
    """Decide by destination and protocol; `base` is where the network header begins."""
    code.label(f"ipv4{suffix}")
    if data:
        code.do(_LD, base + 16)
        code.do(_AND, 0xF0000000)
        code.when(_JEQ, 0xE0000000, "accept")
    code.do(_LDB, base + 9)
    code.when(_JEQ, _VRRP, "accept")
    code.when(_JEQ, _IGMP, "accept")
    code.when(_JEQ, _PIM, "accept", "reject")

    code.label(f"ipv6{suffix}")
    if data:
        code.do(_LDB, base + 24)
        code.when(_JEQ, 0xFF, "accept")
    code.do(_LDB, base + 6)
    code.when(_JEQ, _VRRP, "accept")
    code.when(_JEQ, _PIM, "accept")
    code.when(_JEQ, _ICMPV6, f"icmp{suffix}")
    code.when(_JEQ, _HOP_BY_HOP, "", "reject")
    code.do(_LDB, base + 40)
    code.when(_JEQ, _PIM, "accept")
    code.when(_JEQ, _ICMPV6, "", "reject")
    # The length counts units of eight bytes beyond the first eight.
    code.do(_LDB, base + 41)
    code.do(_LSH, 3)
    code.do(_TAX)
    code.do(_LDB_X, base + 48)
    code.jump(f"type{suffix}")
    code.label(f"icmp{suffix}")
    code.do(_LDB, base + 40)
    code.label(f"type{suffix}")
    code.when(_JEQ, 143, "accept")  # MLDv2 report
    code.when(_JGE, 130, "", "reject")  # query, MLDv1 report, done
    code.when(_JGT, 132, "reject", "accept")


def narrowed(
    program: Program, *, ifindexes: Sequence[int] = (), direction: str = "", loopback: int = 0
) -> list[Instruction]:
    """Return the program behind tests that only a kernel can run.

    `ifindexes` are the interfaces to hear, all if empty; `direction` is 'in', 'out' or ''.
    What leaves by the interface `loopback` is left out: it comes in again.
    """
    code = _Assembler()
    if ifindexes:
        code.do(_LD, _AD_IFINDEX)
        for index in ifindexes:
            code.when(_JEQ, index, "interface")
        code.jump("reject")
        code.label("interface")
    if direction:
        code.do(_LD, _AD_PKTTYPE)
        if direction == "out":
            code.when(_JEQ, _OUTGOING, "", "reject")
        else:
            code.when(_JEQ, _OUTGOING, "reject")
    if loopback and direction != "out":
        code.do(_LD, _AD_IFINDEX)
        code.when(_JEQ, loopback, "", "go")
        code.do(_LD, _AD_PKTTYPE)
        code.when(_JEQ, _OUTGOING, "reject")
        code.label("go")
    if not code.started:
        return list(program)
    code.jump("program")
    code.label("reject")
    code.do(_RET, 0)
    code.label("program")
    return [*code.program(), *program]


def independent(program: Program) -> list[Instruction]:
    """Return a program compiled for cooked frames (LINUX_SLL) fit for any link type.

    Loads from the cooked header become questions to the kernel, loads behind it count from
    the network header. ValueRangeError for what neither can answer.
    """
    return [_independent(one) for one in program]


_LOADS = {_LD, _LDH, _LDB}
_INDEXED = {0x40, 0x48, _LDB_X, 0xB1}
"""Loads at X + k, and the load of an IPv4 header's length at k."""


def _independent(one: Instruction) -> Instruction:
    if one.code not in _LOADS | _INDEXED or one.k & 0x80000000 or one.k < 0:
        return one
    if one.k >= 16:
        return one._replace(k=SKF_NET_OFF + one.k - 16)
    if one.code == _LDH and one.k == 14:
        return one._replace(k=_AD_PROTOCOL)
    if one.code == _LDH and one.k == 0:
        return one._replace(k=_AD_PKTTYPE)
    raise ValueRangeError(
        "this filter looks at link headers, which differ between the interfaces",
        hint="filter by network header, or capture on one interface",
    )


LONGEST = 4096
"""Most instructions a kernel takes (BPF_MAXINSNS of <linux/bpf_common.h>)."""
REJECT = [Instruction(_RET, 0, 0, 0)]
"""Passes nothing."""


def accept(snaplen: int) -> list[Instruction]:
    """Return the program that passes everything."""
    return [Instruction(_RET, 0, 0, snaplen)]


def loops(program: Program) -> bool:
    """Tell whether a program jumps backwards ('protochain'): no kernel runs it."""
    return any(one.code == _JA and one.k & 0x80000000 for one in program)
