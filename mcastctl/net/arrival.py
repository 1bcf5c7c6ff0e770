"""A received datagram and what the kernel told about it, as one record."""

import time

from mcastctl.decode.stream import recognise
from mcastctl.model.records import Datagram
from mcastctl.net import nic
from mcastctl.net.ancillary import Arrival


def record(
    payload: bytes,
    sender: tuple[str, int],
    arrival: Arrival,
    port: int,
    iface: str | None = None,
) -> Datagram:
    """Return the record of a datagram received on `port` (of an interface known by name)."""
    return Datagram(
        arrival.ts_ns if arrival.ts_ns is not None else time.time_ns(),
        "rx",
        nic.name_of(arrival.ifindex) if iface is None else iface,
        arrival.ifindex,
        sender[0],
        sender[1],
        arrival.dst or "",
        port,
        arrival.ttl,
        arrival.tos >> 2 if arrival.tos is not None else None,
        len(payload),
        payload,
        recognise(payload),
    )
