"""A block of a TPACKET_V3 ring, as it lies in memory, to frames.

Source: Linux <linux/if_packet.h> (struct tpacket3_hdr, struct sockaddr_ll),
<linux/virtio_net.h> (struct virtio_net_hdr).
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mcastctl.model import gso
from mcastctl.model.frame import ETHERNET, LINUX_SLL2, RAW, Frame

OUTGOING = 4
"""PACKET_OUTGOING: the host sent it."""
VLAN_VALID, VLAN_TPID_VALID = 1 << 4, 1 << 6
"""Bits of tp_status: the kernel took a VLAN tag out of the frame and keeps it beside."""
VNET = 10
"""sizeof(struct virtio_net_hdr), which stands before the link header."""

_GSO_UDP_L4 = 5
_COOKED = 20
"""sizeof(struct sll2_header)."""
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_BARE = {65534, 519, 768, 769, 776}
"""ARPHRD_ numbers of frames without a link header: NONE (tun), RAWIP, TUNNEL, TUNNEL6, SIT."""

# next, sec, nsec, captured, length, status, mac, net, rxhash, vlan tci, vlan tpid;
# sockaddr_ll: protocol, ifindex, hatype, pkttype, address length, address.
_head = struct.Struct("=IIIIIIHHIIH10x2xHiHBB8s").unpack_from
_vnet = struct.Struct("=BBHH").unpack_from


class Slice(NamedTuple):
    """A block of a ring: `held` frames from `start` on, none reaching beyond `stop`.

    The memory is lent: it is valid until the next block is asked for. With `vnet` a struct
    virtio_net_hdr stands before each frame; `names` are those of the interfaces.
    """

    memory: memoryview
    start: int
    stop: int
    held: int
    vnet: bool
    names: Mapping[int, str]


class Gathered(NamedTuple):
    """Frames of a capture without a ring, together."""

    frames: list[Frame]


def linktype_of(hatype: int) -> int | None:
    """Return the LINKTYPE_ of an ARPHRD_ number, None when its frames are shown cooked."""
    if hatype in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):
        return ETHERNET
    return RAW if hatype in _BARE else None


def frames(block: Slice | Gathered) -> Iterator[Frame]:
    """Yield the frames of a block, each with bytes of its own; super-packets come cut."""
    if isinstance(block, Gathered):
        yield from block.frames
        return
    at = block.start
    for _ in range(block.held):
        frame, at = frame_at(block, at)
        if frame.gso_size:
            yield from gso.split(frame)
        else:
            yield frame


def frame_at(block: Slice, at: int) -> tuple[Frame, int]:
    """Return the frame at `at`, super-packets uncut, and where the next one is."""
    head = _head(block.memory, at)
    ahead, sec, nsec, captured, length, status, mac, net, _hash, tci, tpid = head[:11]
    index, hatype, kind = head[12:15]
    start = at + mac
    data = bytes(block.memory[start : start + captured])
    size = 0
    if block.vnet:
        _flags, gso_type, _headers, size = _vnet(block.memory, start - VNET)
        size = size if gso_type & 0x7F == _GSO_UDP_L4 else 0
    if status & VLAN_VALID and len(data) >= 12:
        tag = struct.pack("!HH", tpid if status & VLAN_TPID_VALID else 0x8100, tci & 0xFFFF)
        data, length = data[:12] + tag + data[12:], length + 4
    linktype = linktype_of(hatype)
    if linktype is None:
        data, length = _cooked(*head[11:]) + data[net - mac :], length - (net - mac) + _COOKED
    frame = Frame(
        sec * 1_000_000_000 + nsec,
        LINUX_SLL2 if linktype is None else linktype,
        data,
        length,
        block.names[index],
        index,
        "out" if kind == OUTGOING else "in",
        size,
    )
    return frame, at + ahead


def _cooked(protocol: int, *address: int | bytes) -> bytes:
    """Return the header of Linux cooked capture v2 that takes the place of a frame's own."""
    return struct.pack("=H", protocol) + struct.pack("!2xIHBB8s", *address)  # network order as is
