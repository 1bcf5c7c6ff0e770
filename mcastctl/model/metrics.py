"""What a run counts, as families of metrics: for Prometheus, and for rows of a file.

Counters only grow, units are base units (seconds, bytes), names are those of
https://prometheus.io/docs/practices/naming/ without prefix and suffix. Loss is a gauge: a late
datagram fills the gap it left, which takes one off.
"""

from collections.abc import Iterable
from heapq import nlargest
from typing import NamedTuple

from mcastctl.model.stats import Statistics
from mcastctl.model.stream import StreamStats

COUNTER, GAUGE = "counter", "gauge"
MOST_STREAMS = 256
"""Streams told one by one, those with most datagrams; the totals have all."""

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """One metric: its values by labels; without labels it is one of the run as a whole."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


class Reading(NamedTuple):
    """All families at one moment, `ts_ns`, `interval_s` after the reading before."""

    ts_ns: int
    interval_s: float
    families: list[Family]


def total(name: str, what: str, value: float) -> Family:
    """Return a counter of the whole run."""
    return Family(name, COUNTER, what, (((), value),))


def gauge(name: str, what: str, value: float) -> Family:
    """Return a state of the whole run."""
    return Family(name, GAUGE, what, (((), value),))


def received(
    statistics: Statistics, *, kernel_drops: int, skipped: int, deaf_s: float
) -> list[Family]:
    """Return what a receiving run knows, in all and of each stream."""
    streams = statistics.streams.values()
    busiest = nlargest(MOST_STREAMS, streams, key=lambda one: one.packets)
    told = {_labels(one): one for one in reversed(busiest)}  # a name may have gone to another place
    return [
        total("received_datagrams", "Datagrams heard.", statistics.packets),
        total("received_bytes", "Payload bytes heard.", statistics.bytes),
        gauge(
            "lost_datagrams",
            "Datagrams missing in numbered streams (MPEG-TS: transport packets); "
            "falls when late ones arrive.",
            statistics.total("lost"),
        ),
        total("duplicate_datagrams", "Datagrams that came again.", statistics.total("duplicates")),
        total(
            "reordered_datagrams",
            "Datagrams that came after a higher number.",
            statistics.total("reordered"),
        ),
        total("kernel_drops", "Datagrams that found the receive buffer full.", kernel_drops),
        total("skipped_datagrams", "Datagrams not meant for what was joined.", skipped),
        total("deaf_seconds", "Time in which an interface could not be heard.", deaf_s),
        total("evicted_streams", "Streams that made room for others.", statistics.evicted),
        gauge("streams", "Streams kept apart now.", len(streams)),
        gauge(
            "streams_left_out",
            "Streams that are only in the totals here.",
            len(streams) - len(told),
        ),
        *_of_streams(list(told), list(told.values())),
    ]


def _of_streams(labels: list[Labels], told: list[StreamStats]) -> list[Family]:
    def family(name: str, kind: str, what: str, values: Iterable[float]) -> Family:
        return Family(f"stream_{name}", kind, what, tuple(zip(labels, values, strict=True)))

    return [
        family("received_datagrams", COUNTER, "Datagrams of a stream.", (s.packets for s in told)),
        family("received_bytes", COUNTER, "Payload bytes of a stream.", (s.bytes for s in told)),
        family(
            "lost_datagrams",
            GAUGE,
            "Datagrams missing in a stream; falls when late ones arrive.",
            (s.lost for s in told),
        ),
        family(
            "duplicate_datagrams",
            COUNTER,
            "Datagrams of a stream that came again.",
            (s.duplicates for s in told),
        ),
        family(
            "reordered_datagrams",
            COUNTER,
            "Datagrams of a stream that came after a higher number.",
            (s.reordered for s in told),
        ),
        family(
            "jitter_seconds",
            GAUGE,
            "Interarrival jitter (RFC 3550 section 6.4.1).",
            (s.jitter.ns / 1e9 for s in told),
        ),
        family(
            "longest_gap_seconds",
            GAUGE,
            "Longest time between two datagrams of a stream.",
            (s.max_gap_ns / 1e9 for s in told),
        ),
        family(
            "last_datagram_timestamp_seconds",
            GAUGE,
            "When a stream was last heard.",
            (s.last_ns / 1e9 for s in told),
        ),
    ]


def _labels(one: StreamStats) -> Labels:
    """Return what tells a stream from every other."""
    return (
        ("src", one.src),
        ("sport", str(one.sport)),
        ("dst", one.dst),
        ("port", str(one.dport)),
        ("iface", one.iface),
        ("kind", one.kind),
        ("stream", f"{one.ident:x}" if one.ident else ""),
    )
