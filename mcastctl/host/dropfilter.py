"""The kernel program behind `drops`: count dropped packets of one group by reason and function.

It runs at every kfree_skb of the machine (net/core/skbuff.c), so it decides from as few reads as
it can: IP version, protocol, destination; then port; then network namespace. Offsets within kernel
structs come from the kernel's own type data, offsets within packets from RFC 791, 8200 and 768.
"""

import errno
import os
import socket
import struct
import sys
from contextlib import ExitStack
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from mcastctl.host import bpf, btf
from mcastctl.host.bpf import Assembler
from mcastctl.host.btf import Btf

_STRUCTS = ("sk_buff", "skb_shared_info", "net_device", "net", "ns_common", "sock_common")
_REASONS, _PREFIX = "skb_drop_reason", "SKB_DROP_REASON_"
_ARGUMENTS = (4, 3, 2)  # of the tracepoint, from the newest kernels to those before 5.17
_ENTRIES = 256  # keys counted apart; nothing a sender chooses makes new ones

_UDP, _IGMP, _ICMPV6, _FRAGMENT = 17, 2, 58, 44
_SKIPPED = (0, 43, 60)  # hop-by-hop options, routing, destination options
_MLD = (130, 131, 132, 143)  # query, report, done, version 2 report (RFC 2710, RFC 3810)
_EXTENSIONS = 4  # extension headers followed before a packet is passed over

# Inode numbers of namespaces begin about here (PROC_DYNAMIC_FIRST, fs/proc/generic.c, and a few
# fixed ones below it). A smaller one was read through a pointer that is none: UDP and the fragment
# queues keep other things where skb->dev was.
_FIRST_INODE = 0xEF000000

# The stack: the key, then room for what is read.
_KEY, _REASON, _IFINDEX, _CONTROL = -24, -16, -12, -8
_WORD, _POINTER, _RX_SOCKET, _HEADER = -32, -40, -48, -88
_CONTEXT, _SKB, _IP, _CURSOR = 9, 6, 7, 8  # registers that calls leave alone
_NEXT = _CONTEXT  # the protocol number, once the context is read

_key = struct.Struct("=QIIII")


class Key(NamedTuple):
    """What is counted apart: address in the kernel, number of the reason, index of the interface.

    `control` is 1 for IGMP and MLD, 0 for the group's datagrams; `ifindex` is where the packet
    came in, 0 for one on its way out.
    """

    location: int
    reason: int
    ifindex: int
    control: int


class Filter(NamedTuple):
    """What to count; None: any; `netns` 0: every namespace, else its inode.

    `source` is of the group's own IP version.
    """

    group: IPv4Address | IPv6Address
    port: int | None
    netns: int
    sport: int | None = None
    source: IPv4Address | IPv6Address | None = None


class Filtered:
    """Counts since it was opened; `reasons` names their numbers (none before Linux 5.17)."""

    def __init__(self, wanted: Filter, stack: ExitStack) -> None:
        """Start counting until the stack closes; raises bpf.Refused and btf.BtfError."""
        self._counters = bpf.Counters(_key.size, _ENTRIES)  # first: it tells about privilege
        stack.callback(self._counters.close)
        types = _types((*_STRUCTS, _REASONS))
        for arguments in _ARGUMENTS:
            code = program(wanted, arguments, types, self._counters.fd)
            loaded = bpf.load_raw_tracepoint(code)
            stack.callback(os.close, loaded)
            try:
                attached = bpf.attach_raw_tracepoint("kfree_skb", loaded)
            except bpf.Refused as refused:
                if refused.errno != errno.EINVAL or arguments == _ARGUMENTS[-1]:
                    raise
            else:
                stack.callback(os.close, attached)
                break
        self.reasons = reasons(types)

    def read(self) -> dict[Key, int]:
        """Return the counts; bounded by the number of keys."""
        return {Key(*_key.unpack(key)[:4]): count for key, count in self._counters.items()}


@lru_cache(maxsize=1)
def _types(names: tuple[str, ...]) -> Btf:
    """Return the kernel's types; they are megabytes, and stay as they are while it runs."""
    return btf.read(names)


def reasons(types: Btf) -> dict[int, str]:
    """Return the names of the kernel's drop reasons without their prefix, if it has any."""
    try:
        named = types.values(_REASONS)
    except btf.BtfError:
        return {}
    return {value: name.removeprefix(_PREFIX) for value, name in named.items()}


def program(wanted: Filter, arguments: int, types: Btf, counters: int) -> bytes:
    """Return the instructions; counters is the descriptor of the map.

    arguments is how many the kernel's tracepoint has: skb and location, from 5.17 on the reason,
    from 6.11 on the receiving socket. Raises BtfError when the kernel lacks a field.
    """
    asm = Assembler()
    _event(asm, arguments)
    _network_header(asm, types)
    if wanted.group.version == 4:
        _ipv4(asm, wanted)
    else:
        _ipv6(asm, wanted)
    asm.label("control")
    asm.literal(1, "=", 1)
    asm.store(_CONTROL, 4, 1)
    asm.label("datagram")
    if wanted.netns:
        _namespace(asm, wanted, types)
    asm.label("ours")
    asm.read(_IFINDEX, 4, _SKB, types.offset("sk_buff", "skb_iif"), "out")
    _segments(asm, types)
    asm.count(counters, _KEY, _CURSOR, _WORD)
    asm.label("out")
    asm.leave()
    return asm.code()


def _event(asm: Assembler, arguments: int) -> None:
    """The arguments: struct sk_buff *, void *location, enum skb_drop_reason, struct sock *."""
    asm.move(_CONTEXT, 1)
    asm.load(_SKB, 8, _CONTEXT, 0)
    asm.literal(1, "=", 0)
    for offset in range(_KEY, 0, 8):
        asm.store(offset, 8, 1)
    asm.load(1, 8, _CONTEXT, 8)
    asm.store(_KEY, 8, 1)
    if arguments > 2:
        asm.load(1, 8, _CONTEXT, 16)
        asm.store(_REASON, 4, 1)
    if arguments > 3:
        asm.load(1, 8, _CONTEXT, 24)
        asm.store(_RX_SOCKET, 8, 1)
    else:
        asm.literal(1, "=", 0)
        asm.store(_RX_SOCKET, 8, 1)


def _network_header(asm: Assembler, types: Btf) -> None:
    asm.read(_POINTER, 8, _SKB, types.offset("sk_buff", "head"), "out")
    asm.read(_WORD, 2, _SKB, types.offset("sk_buff", "network_header"), "out")
    asm.on_stack(_IP, 8, _POINTER)
    asm.on_stack(1, 2, _WORD)
    asm.add(_IP, 1)


def _version(asm: Assembler, version: int, header_bytes: int) -> None:
    asm.read(_HEADER, header_bytes, _IP, 0, "out")
    asm.on_stack(1, 1, _HEADER)
    asm.literal(1, ">>", 4)
    asm.jump_if(1, "!=", version, "out")


def _addresses(asm: Assembler, wanted: Filter, source_at: int, destination_at: int) -> None:
    """Leave out other destinations and sources; where they are is from the IP header on."""
    for address, offset in ((wanted.group, destination_at), (wanted.source, source_at)):
        packed = address.packed if address is not None else b""
        for word in range(0, len(packed), 4):
            asm.on_stack(1, 4, _HEADER + offset + word)
            asm.jump_if(1, "!=", _native(packed[word : word + 4]), "out")


def _ports(asm: Assembler, wanted: Filter) -> None:
    """The cursor is at the UDP header."""
    for port, offset in ((wanted.sport, 0), (wanted.port, 2)):
        if port is not None:
            asm.read(_WORD, 2, _CURSOR, offset, "out")
            asm.on_stack(1, 2, _WORD)
            asm.jump_if(1, "!=", socket.htons(port), "out")
    asm.jump("datagram")


def _ipv4(asm: Assembler, wanted: Filter) -> None:
    _version(asm, 4, 20)
    asm.on_stack(1, 1, _HEADER + 9)
    asm.jump_if(1, "==", _IGMP, "control")
    asm.jump_if(1, "!=", _UDP, "out")
    _addresses(asm, wanted, 12, 16)
    asm.on_stack(1, 2, _HEADER + 6)
    asm.literal(1, "&", socket.htons(0x1FFF))
    # A later fragment has no ports: counted for any.
    asm.jump_if(1, "!=", 0, "datagram" if wanted.sport is None else "out")
    asm.on_stack(1, 1, _HEADER)
    asm.literal(1, "&", 0x0F)
    asm.literal(1, "<<", 2)
    asm.move(_CURSOR, _IP)
    asm.add(_CURSOR, 1)
    _ports(asm, wanted)


def _ipv6(asm: Assembler, wanted: Filter) -> None:
    _version(asm, 6, 40)
    asm.on_stack(1, 1, _HEADER + 24)
    asm.jump_if(1, "!=", 0xFF, "out")
    asm.on_stack(_NEXT, 1, _HEADER + 6)
    asm.move(_CURSOR, _IP)
    asm.literal(_CURSOR, "+", 40)
    for turn in range(_EXTENSIONS):
        _extension(asm, turn)
    asm.jump_if(_NEXT, "==", _UDP, "udp")
    asm.jump_if(_NEXT, "!=", _ICMPV6, "out")
    asm.label("icmp")
    asm.read(_WORD, 1, _CURSOR, 0, "out")
    asm.on_stack(1, 1, _WORD)
    for kind in _MLD:
        asm.jump_if(1, "==", kind, "control")
    asm.jump("out")
    asm.label("fragment")
    asm.jump_if(_NEXT, "!=", _UDP, "out")
    _addresses(asm, wanted, 8, 24)
    asm.jump("datagram" if wanted.sport is None else "out")  # a later fragment, as above
    asm.label("udp")
    _addresses(asm, wanted, 8, 24)
    _ports(asm, wanted)


def _extension(asm: Assembler, turn: int) -> None:
    """Move the cursor over one extension header, or leave the chain (no loops: kernels < 5.3)."""
    options, fragment, after = f"options {turn}", f"fragment {turn}", f"after {turn}"
    asm.jump_if(_NEXT, "==", _UDP, "udp")
    asm.jump_if(_NEXT, "==", _ICMPV6, "icmp")
    asm.jump_if(_NEXT, "==", _FRAGMENT, fragment)
    for kind in _SKIPPED:
        asm.jump_if(_NEXT, "==", kind, options)
    asm.jump("out")
    asm.label(options)
    asm.read(_WORD, 2, _CURSOR, 0, "out")
    asm.on_stack(_NEXT, 1, _WORD)
    asm.on_stack(1, 1, _WORD + 1)  # length in units of 8 bytes, not counting the first
    asm.literal(1, "<<", 3)
    asm.add(_CURSOR, 1)
    asm.literal(_CURSOR, "+", 8)
    asm.jump(after)
    asm.label(fragment)
    asm.read(_WORD, 4, _CURSOR, 0, "out")
    asm.on_stack(_NEXT, 1, _WORD)
    asm.on_stack(1, 2, _WORD + 2)
    asm.literal(1, "&", socket.htons(0xFFF8))
    asm.jump_if(1, "!=", 0, "fragment")
    asm.literal(_CURSOR, "+", 8)
    asm.label(after)


def _namespace(asm: Assembler, wanted: Filter, types: Btf) -> None:
    """Leave out what is surely of another namespace: ask the receiving socket, device, sender."""
    of_socket = types.offset("sock_common", "skc_net")  # struct sock begins with its sock_common
    of_device = types.offset("net_device", "nd_net")
    inode = types.offset("net", "ns") + types.offset("ns_common", "inum")
    asm.on_stack(_CURSOR, 8, _RX_SOCKET)
    _ask_owner(asm, of_socket, inode, wanted.netns, "device")
    asm.label("device")
    asm.read(_POINTER, 8, _SKB, types.offset("sk_buff", "dev"), "sender")
    asm.on_stack(_CURSOR, 8, _POINTER)
    _ask_owner(asm, of_device, inode, wanted.netns, "sender")
    asm.label("sender")  # at the OUTPUT hook a packet has no device yet
    asm.read(_POINTER, 8, _SKB, types.offset("sk_buff", "sk"), "ours")
    asm.on_stack(_CURSOR, 8, _POINTER)
    _ask_owner(asm, of_socket, inode, wanted.netns, "ours")


def _ask_owner(asm: Assembler, of_owner: int, inode: int, netns: int, unknown: str) -> None:
    """Jump to "ours" or "out" when the owner at the cursor has a namespace, else to unknown."""
    asm.jump_if_null(_CURSOR, unknown)
    asm.read(_POINTER, 8, _CURSOR, of_owner, unknown)
    asm.on_stack(_CURSOR, 8, _POINTER)
    asm.jump_if_null(_CURSOR, unknown)
    asm.read(_WORD, 4, _CURSOR, inode, unknown)
    asm.on_stack(1, 4, _WORD)
    asm.jump_if(1, "<", _FIRST_INODE, unknown)
    asm.jump_if(1, "==", netns, "ours")
    asm.jump("out")


def _segments(asm: Assembler, types: Btf) -> None:
    """The cursor becomes the number of datagrams: more than one with UDP_SEGMENT (udp(7))."""
    asm.read(_POINTER, 8, _SKB, types.offset("sk_buff", "head"), "out")
    asm.read(_WORD, 4, _SKB, types.offset("sk_buff", "end"), "out")  # from head, on 64 bits
    asm.on_stack(_CURSOR, 8, _POINTER)
    asm.on_stack(1, 4, _WORD)
    asm.add(_CURSOR, 1)
    asm.read(_WORD, 2, _CURSOR, types.offset("skb_shared_info", "gso_segs"), "out")
    asm.on_stack(_CURSOR, 2, _WORD)
    asm.jump_if(_CURSOR, "!=", 0, "many")
    asm.literal(_CURSOR, "=", 1)
    asm.label("many")


def _native(packed: bytes) -> int:
    return int.from_bytes(packed, sys.byteorder)
