"""The record of one captured packet: who spoke to whom, in which protocol, saying what."""

from typing import Any, NamedTuple

from mcastctl.model.mark import NO_MARK, Mark


class Packet(NamedTuple):
    """One decoded frame.

    `number` counts from 1 as in the file or capture, `length` is the frame's length on the
    wire in bytes. `src` and `dst` are IP addresses, or link addresses where there is no IP;
    `sport` and `dport` None where there are no ports. `direction` is 'in', 'out' or ''.
    `info` says it in a few words and may hold text from the network; so may `fields`.

    Not part of the JSON form: `family` (4, 6, 0 for neither), the captured bytes `data` with
    the place of the network header in them, the UDP payload with its mark and true length,
    and `layers`, the lines of the full layered view where that was asked for.
    """

    ts_ns: int
    number: int
    iface: str
    ifindex: int
    direction: str
    proto: str
    src: str | None
    sport: int | None
    dst: str | None
    dport: int | None
    ttl: int | None
    length: int
    info: str
    fields: dict[str, Any]
    family: int
    data: bytes
    network_at: int
    payload: bytes = b""
    payload_length: int = 0
    mark: Mark = NO_MARK
    layers: tuple[str, ...] = ()

    @property
    def segment(self) -> tuple[str, ...]:
        """Return the VLANs, MPLS labels and tunnels it was seen in, from the outermost.

        What is said in one of them is not what is said in another, on whatever interface.
        """
        fields = self.fields
        found = [f"vlan {one}" for one in fields.get("vlan", ())]
        found += [f"mpls {one}" for one in fields.get("mpls", ())]
        found += [f"tunnel {one['src']}>{one['dst']}" for one in fields.get("tunnels", ())]
        return tuple(found)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        whole, rest = divmod(self.ts_ns, 1_000_000_000)
        return {
            "type": "packet",
            "ts": round(whole + rest / 1e9, 6),
            "number": self.number,
            "iface": self.iface or None,
            "ifindex": self.ifindex or None,
            "direction": self.direction or None,
            "proto": self.proto,
            "src": self.src,
            "sport": self.sport,
            "dst": self.dst,
            "dport": self.dport,
            "ttl": self.ttl,
            "length": self.length,
            "info": self.info,
            "fields": self.fields,
        }
