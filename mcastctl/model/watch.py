"""Captured datagrams to a table of streams: who sends to which group, how fast, losing what."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mcastctl.model import stats
from mcastctl.model.address import is_multicast
from mcastctl.model.mark import PLAIN, UNNUMBERED
from mcastctl.model.packet import Packet
from mcastctl.model.records import Datagram
from mcastctl.model.stats import MAX_STREAMS, Statistics
from mcastctl.model.stream import StreamStats

MAX_PLACES = 512
"""Interfaces, directions, VLANs and tunnels kept apart; the rest are counted together."""


class Row(NamedTuple):
    """One stream: its statistics, the protocol it seems to be, whether this host has joined.

    `joined` is None where nobody knows, as for a file. `segment` are the VLANs, labels and
    tunnels it is in (`Packet.segment`).
    """

    stream: StreamStats
    protocol: str
    joined: bool | None
    segment: tuple[str, ...] = ()


class Watch:
    """Statistics of all multicast datagrams captured, for each interface and VLAN apart.

    The same datagram seen on two of them is no duplicate. `joined` are the (interface,
    group) pairs this host has joined, None where that means nothing.
    """

    def __init__(self, joined: Iterable[tuple[str, str]] | None = None) -> None:
        self.joined = None if joined is None else frozenset(joined)
        self._places: dict[tuple[str, ...], Statistics] = {}
        self._protocols: dict[tuple[str, int, str, int], str] = {}

    def update(self, packet: Packet) -> None:
        """Account for one packet; what is no datagram to a group counts for nothing."""
        if packet.sport is None or packet.dport is None or "payload_length" not in packet.fields:
            return
        if packet.src is None or packet.dst is None or not is_multicast(packet.dst):
            return
        place = (packet.iface, packet.direction, *packet.segment)
        if place not in self._places and len(self._places) >= MAX_PLACES:
            place = ("", "")
        statistics = self._places.setdefault(place, Statistics())
        flow = (packet.src, packet.sport, packet.dst, packet.dport)
        if len(self._protocols) > 2 * MAX_STREAMS:
            self._protocols.clear()
        self._protocols[flow] = packet.proto
        datagram = Datagram(
            packet.ts_ns,
            "rx",
            packet.iface,
            packet.ifindex,
            *flow,
            packet.ttl,
            packet.fields.get("dscp"),
            packet.payload_length,
            b"",
            packet.mark,
        )
        known = len(statistics.streams)
        statistics.update(datagram)
        if len(statistics.streams) > known:
            self._bound()

    def _bound(self) -> None:
        """Keep as many streams in all places together as in one."""
        if len(self._places) > 1:
            places = self._places.values()
            if sum(len(one.streams) for one in places) > MAX_STREAMS:
                max(places, key=lambda one: len(one.streams)).evict()

    def rows(self) -> Iterator[Row]:
        """Yield the streams in the order they last spoke."""
        for place, statistics in self._places.items():
            for stream in statistics.streams.values():
                flow = (stream.src, stream.sport, stream.dst, stream.dport)
                guess = stream.kind
                if guess in UNNUMBERED or not stream.numbered:
                    guess = self._protocols.get(flow, PLAIN)
                joined = None if self.joined is None else (stream.iface, stream.dst) in self.joined
                yield Row(stream, guess, joined, place[2:])

    def summary(self) -> dict[str, object]:
        """Return lost, duplicates, reordered and the streams."""
        places = self._places.values()
        names = ("lost", "duplicates", "reordered")
        totals = {name: sum(one.total(name) for one in places) for name in names}
        streams = []
        for row in self.rows():
            streams.append(row.stream.to_dict() | {"protocol": row.protocol})
            if row.segment:
                streams[-1]["segment"] = list(row.segment)
            if row.joined is not None:
                streams[-1]["joined"] = row.joined
        evicted = sum(one.evicted for one in places)
        return {**totals, "streams_evicted": evicted, "streams": streams}


def totals(
    packets: int, octets: int, elapsed_s: float, watched: Watch | None = None
) -> dict[str, object]:
    """Return the counters that end a capture; without a watch no stream is known."""
    return {
        **stats.totals(packets, octets, elapsed_s),
        **(watched or Watch()).summary(),
    }
