"""The asking run: one request to the group, many answers; unicast to each responder beside it."""

import os
import time
from collections.abc import Generator, Iterator

from mcastctl.model import probe
from mcastctl.model.address import family
from mcastctl.model.limits import Limits
from mcastctl.model.pacing import Pacer
from mcastctl.model.records import Datagram, Notice, Record, Reply
from mcastctl.model.responders import MULTICAST, UNICAST, Responders
from mcastctl.net import remarks
from mcastctl.net.ancillary import Arrival
from mcastctl.net.listener import arrivals, batches
from mcastctl.net.loop import Loop
from mcastctl.net.sender import Sender, Target, totals
from mcastctl.net.sender import refused as refused_notice

UNICAST_TTL = 64
"""TTL or hop limit of unicast requests: routers may lie between (RFC 1700's default)."""
MIN_INTERVAL_S = 0.001
"""Seconds between rounds at the least: every host of the group answers each of them."""
_KEPT = 4096
"""Requests whose send time is remembered."""


class Pinging:
    """One run of `ping`: iterate `records`, then ask for `summary`.

    `rounds` is the number of requests to the group, None without end; `wait_s` how long to
    listen after the last one.
    """

    def __init__(
        self,
        pairs: list[tuple[Sender, Target]],
        responders: Responders,
        *,
        ttl: int,
        size: int,
        rounds: int | None,
        interval_s: float,
        wait_s: float,
    ) -> None:
        self.responders = responders
        self._pairs = pairs
        self._ports = {target.port for _, target in pairs}  # an echo answers from where it is asked
        self._ttl = ttl
        self._filling = probe.filling(size - probe.MIN_SIZE)
        self._left = rounds
        self._wait_ns = wait_s * 1e9
        self._started_ns = time.monotonic_ns()
        self._pacer = Pacer(interval_s * 1e9, self._started_ns)
        self._end_ns: float | None = None
        self._streams = {
            kind: int.from_bytes(os.urandom(8), "big") for kind in (MULTICAST, UNICAST)
        }
        self._sent_at: dict[tuple[int, int], tuple[int, int]] = {}
        self._routes: dict[str, tuple[Sender, Target]] = {}
        self._fresh: list[str] = []
        self._told: set[int] = set()
        self.rounds = self._reply_bytes = 0
        for host, one in responders.by_address.items():
            self._route(host, one.port, pairs[0][0], pairs[0][1])

    def _route(self, host: str, port: int, sender: Sender, target: Target) -> None:
        """Remember how a responder is asked by unicast: from the socket it answered to."""
        if family(host) == sender.version and host not in self._routes:
            self._routes[host] = (sender, Target(host, port, target.nic))
            self._fresh.append(host)

    def records(self, loop: Loop, limits: Limits) -> Iterator[Record]:
        """Ask and listen; yield replies and notices."""
        by_descriptor = {sender.fileno(): (sender, target) for sender, target in self._pairs}
        senders = {descriptor: sender for descriptor, (sender, _) in by_descriptor.items()}
        yield from remarks.sending(self._pairs, probe.MIN_SIZE + len(self._filling))
        yield from self._ask()
        for reader, batch in batches(senders, arrivals, loop, limits, alarm=self._next_ns):
            for datagram, arrival in batch:
                sender, target = by_descriptor[reader.fileno()] if reader else self._pairs[0]
                reply = self._consider(datagram, arrival, sender, target)
                if reply is not None:
                    yield reply
            yield from self._ask_fresh()
            now_ns = time.monotonic_ns()
            if self._end_ns is not None and now_ns >= self._end_ns:
                limits.reason = "count"
            elif self._left != 0 and now_ns >= self._pacer.next_ns:
                yield from self._ask()

    def _next_ns(self) -> float | None:
        return self._end_ns if self._left == 0 else self._pacer.next_ns

    def _ask(self) -> Iterator[Notice]:
        """Send one round: the group by every target, then each known responder by unicast."""
        seq = self.rounds
        self.rounds += 1
        if self._left is not None:
            self._left -= 1
        for place, (sender, target) in enumerate(self._pairs):
            yield from self._request(MULTICAST, seq, self._ttl, sender, target, place=place)
        self.responders.sent_multicast(seq)
        self._fresh.clear()
        for host in self._routes:
            if self.responders.by_address[host].heeds:
                yield from self._ask_unicast(host, seq)
        now_ns = time.monotonic_ns()
        self._pacer.sent(now_ns)
        if self._left == 0:
            self._end_ns = now_ns + self._wait_ns

    def _ask_fresh(self) -> Iterator[Notice]:
        """Ask those who answered for the first time by unicast at once, not a round later."""
        for host in self._fresh:
            yield from self._ask_unicast(host, self.rounds - 1)
        self._fresh.clear()

    def _ask_unicast(self, host: str, seq: int) -> Iterator[Notice]:
        refused = yield from self._request(UNICAST, seq, UNICAST_TTL, *self._routes[host])
        if not refused:
            self.responders.by_address[host].asked(seq)

    def _request(
        self, kind: str, seq: int, ttl: int, sender: Sender, target: Target, *, place: int = 0
    ) -> Generator[Notice, None, bool]:
        """Send one request, at its `place` in the round; return whether the kernel refused it."""
        stamp = time.time_ns()
        header = probe.Probe(probe.REQUEST, ttl, 0, self._streams[kind], seq, stamp)
        self._sent_at[seq, stamp] = time.monotonic_ns(), seq * len(self._pairs) + place
        while len(self._sent_at) > _KEPT:
            del self._sent_at[next(iter(self._sent_at))]
        try:
            number = sender.send(probe.encode(header) + self._filling, target)
        except BlockingIOError:
            return False  # the socket buffer is full: this request shows up as lost
        if number is not None and number not in self._told:
            self._told.add(number)
            yield refused_notice(target, number)
        return number is not None

    def _consider(
        self, datagram: Datagram, arrival: Arrival, sender: Sender, target: Target
    ) -> Reply | None:
        """Match one datagram with its request; None for anything that answers none of ours."""
        header = probe.decode(datagram.payload)
        if header is None or header.kind != probe.REPLY or datagram.sport not in self._ports:
            return None
        kind = next((kind for kind, own in self._streams.items() if own == header.stream), None)
        request = self._sent_at.get((header.seq, header.sent_ns))
        if kind is None or request is None:
            return None
        sent_ns, number = request
        responder = self.responders.find(datagram.src, datagram.sport)
        if responder is None:
            return None
        self._route(datagram.src, datagram.sport, sender, target)
        # The kernel's stamp is wall clock: how long ago it was taken is not.
        age_ns = max(time.time_ns() - datagram.ts_ns, 0)
        rtt_ns = max(time.monotonic_ns() - age_ns - sent_ns, 0)
        hops = probe.hops(header.ttl, header.seen_ttl)
        said = datagram.payload[probe.MIN_SIZE :]
        self._reply_bytes += datagram.length
        first = responder.answered(kind, header.seq, rtt_ns, hops, number)
        return Reply(
            datagram.ts_ns,
            datagram.src,
            datagram.sport,
            header.seq,
            rtt_ns,
            hops,
            kind,
            datagram.length,
            not first,
            b"" if said == self._filling else said,
        )

    def summary(self) -> dict[str, object]:
        """Return the counters of the run."""
        elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
        senders = list({sender.fileno(): sender for sender, _ in self._pairs}.values())
        received = self.responders.total("received") + self.responders.total("duplicates")
        span = elapsed_s if elapsed_s > 0 else 1.0
        for sender in senders:
            for host, count in sender.unreachable.items():
                if host in self.responders.by_address:
                    self.responders.by_address[host].legs[UNICAST].unreachable = count
        return {
            "stream": f"{self._streams[MULTICAST]:x}",
            "requests": self.rounds,
            "responders": self.responders.to_list(),
            "responders_refused": self.responders.refused,
            **totals(senders),
            "packets": received,
            "bytes": self._reply_bytes,
            "lost": self.responders.total("lost"),
            "duplicates": self.responders.total("duplicates"),
            "reordered": 0,
            "elapsed_s": round(elapsed_s, 6),
            "packets_per_s": round(received / span, 3),
            "bits_per_s": round(8 * self._reply_bytes / span, 3),
            "streams": [],
            "unmet": self.responders.unmet(),
        }

    def close(self) -> None:
        """Close every socket."""
        for sender, _ in self._pairs:
            sender.close()
