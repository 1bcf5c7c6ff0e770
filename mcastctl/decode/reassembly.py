"""IP fragments to whole packets, in bounded memory (RFC 791 section 3.2, RFC 8200 section 4.5)."""

from collections import OrderedDict

from mcastctl.decode.ip import Ip

MAX_PACKETS = 64
"""Packets whose fragments are kept at a time; the oldest makes room."""
_MAX_FRAGMENTS = 128
_MAX_SIZE = 0xFFFF
_TIMEOUT_NS = 30_000_000_000  # net.ipv4.ipfrag_time; identifications come round

_Key = tuple[bytes, bytes, int, int]


class Reassembly:
    """Gathers fragments. Overlaps make a packet incomplete for ever, as RFC 5722 asks."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[_Key, tuple[int, dict[int, Ip]]] = OrderedDict()

    def add(self, packet: Ip, now_ns: int) -> Ip | None:
        """Take a fragment; return the whole packet when this was the last one missing."""
        if len(packet.payload) < packet.length or packet.offset + packet.length > _MAX_SIZE:
            return None
        key = (packet.src, packet.dst, packet.ident, packet.protocol)
        began_ns, parts = self._waiting.get(key, (now_ns, {}))
        if abs(now_ns - began_ns) > _TIMEOUT_NS:
            began_ns, parts = now_ns, {}
        self._waiting[key] = (began_ns, parts)
        # Those of a true packet do not overlap: together they are no longer than it.
        size = sum(len(part.payload) for part in parts.values())
        if len(parts) < _MAX_FRAGMENTS and size + len(packet.payload) <= _MAX_SIZE:
            parts[packet.offset] = packet
        whole = _joined(parts)
        if whole is not None:
            del self._waiting[key]
        elif len(self._waiting) > MAX_PACKETS:
            self._waiting.popitem(last=False)
        return whole


def _joined(parts: dict[int, Ip]) -> Ip | None:
    """Return the packet its fragments make when they follow each other from 0 to the last."""
    pieces: list[bytes] = []
    at = 0
    while at in parts:
        part = parts[at]
        pieces.append(part.payload)
        at += len(part.payload)
        if not part.more:
            if len(pieces) != len(parts):
                return None
            payload = b"".join(pieces)
            return parts[0]._replace(payload=payload, length=at, offset=0, more=False)
        if not part.payload:
            return None
    return None
