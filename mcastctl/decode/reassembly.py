"""IP fragments to whole packets, in bounded memory (RFC 791 section 3.2, RFC 8200 section 4.5)."""

from collections import OrderedDict

from mcastctl.decode.ip import Ip

MAX_PACKETS = 64
"""Packets whose fragments are kept at a time; the oldest makes room."""
_MAX_FRAGMENTS = 128
_MAX_SIZE = 0xFFFF

_Key = tuple[bytes, bytes, int, int]


class Reassembly:
    """Gathers fragments. Overlaps make a packet incomplete for ever, as RFC 5722 asks."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[_Key, dict[int, Ip]] = OrderedDict()

    def add(self, packet: Ip) -> Ip | None:
        """Take a fragment; return the whole packet when this was the last one missing."""
        if len(packet.payload) < packet.length or packet.offset + packet.length > _MAX_SIZE:
            return None
        key = (packet.src, packet.dst, packet.ident, packet.protocol)
        parts = self._waiting.setdefault(key, {})
        if len(parts) < _MAX_FRAGMENTS:
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
