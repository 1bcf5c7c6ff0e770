"""One frame to one packet record: link, network, transport, and what the payload means."""

from mcastctl.decode import ip, link, others, protocols
from mcastctl.decode.cursor import Cursor, Malformed, Short
from mcastctl.decode.draft import UNKNOWN, Draft
from mcastctl.decode.reassembly import Reassembly
from mcastctl.decode.rtpflows import RtpFlows
from mcastctl.model.frame import Frame
from mcastctl.model.packet import Packet

_DEEPEST = 4
"""Packets within packets that are looked into."""


class Decoder:
    """Turns frames into packets and counts what was damaged. Total on any bytes."""

    def __init__(self, *, deep: bool = False) -> None:
        """With `deep` each packet gets the lines of scapy's view of it."""
        self.malformed = 0
        self._deep = deep
        self._now_ns = 0
        self._fragments = Reassembly()
        self._rtp = RtpFlows()

    def decode(self, frame: Frame, number: int) -> Packet:
        """Return the packet of a frame, decoded as far as its bytes make sense.

        `fields` holds 'malformed' with the reason where they do not, 'truncated' where they
        were not all captured, and 'comments' with what somebody noted beside the frame.
        """
        data = bytes(frame.data)
        self._now_ns = frame.ts_ns
        draft = Draft(direction=frame.direction, ifindex=frame.ifindex)
        if frame.comments:
            draft.fields["comments"] = list(frame.comments)
        if len(data) < frame.length:
            draft.fields["truncated"] = True
        try:
            self._link(frame.linktype, Cursor(data), draft)
        except Short:
            if not {"truncated", "fragment"} & draft.fields.keys():
                name = "the link header" if draft.proto == UNKNOWN else draft.proto
                draft.fields["malformed"] = f"{name} ends early"
        except Malformed as error:
            draft.fields["malformed"] = str(error)
        self.malformed += "malformed" in draft.fields
        return Packet(
            frame.ts_ns,
            number,
            frame.iface,
            draft.ifindex,
            draft.direction,
            draft.proto,
            draft.src,
            draft.sport,
            draft.dst,
            draft.dport,
            draft.ttl,
            frame.length,
            protocols.info(draft),
            draft.fields,
            draft.family,
            data,
            draft.network_at,
            draft.payload,
            draft.payload_length,
            draft.mark,
            self._layers(frame.linktype, data),
        )

    def _layers(self, linktype: int, data: bytes) -> tuple[str, ...]:
        if not self._deep:
            return ()
        from mcastctl.decode import deep

        return tuple(deep.layers(linktype, data))

    def _link(self, linktype: int, cursor: Cursor, draft: Draft) -> None:
        header = link.decode(linktype, cursor, draft.fields)
        draft.src, draft.dst = draft.fields.get("eth_src"), draft.fields.get("eth_dst")
        draft.network_at = header.at
        draft.direction = draft.direction or header.direction
        draft.ifindex = draft.ifindex or header.ifindex
        if header.ethertype in (link.IPV4, link.IPV6):
            self._ip(cursor, draft, header.ethertype, 0)
        elif header.ethertype == link.ARP:
            others.arp(cursor.rest(), draft)
        elif header.ethertype == link.LLC:
            others.llc(cursor.rest(), draft)
        elif header.ethertype == link.UNKNOWN:
            draft.proto = f"linktype-{linktype}"
        else:
            protocols.on_link(header.ethertype, cursor.rest(), draft)

    def _ip(self, cursor: Cursor, draft: Draft, ethertype: int, depth: int) -> None:
        draft.proto, draft.family = ("ip", 4) if ethertype == link.IPV4 else ("ip6", 6)
        draft.src = draft.dst = None  # those of the link are no addresses of IP
        packet = (ip.decode4 if draft.family == 4 else ip.decode6)(cursor, draft.fields)
        draft.src, draft.dst = ip.text(packet.src), ip.text(packet.dst)
        draft.ttl = packet.ttl
        if packet.length > len(packet.payload) and "truncated" not in draft.fields:
            draft.fields["malformed"] = "IP length exceeds the frame"
        if packet.offset or packet.more:
            whole = self._fragments.add(packet, self._now_ns)
            if whole is None:
                protocols.fragment(packet, draft)
                return
            packet = ip.whole6(whole, draft.fields) if draft.family == 6 else whole
            draft.fields["reassembled"] = True
        inner = protocols.tunnelled(packet)
        if inner is not None and depth < _DEEPEST:
            outer = {"src": draft.src, "dst": draft.dst, "ttl": draft.ttl}
            draft.fields.setdefault("tunnels", []).append(outer)
            self._ip(Cursor(inner[1]), draft, inner[0], depth + 1)
            return
        protocols.transport(packet, draft)
        if draft.proto == "udp":
            self._rtp.settle(draft)
