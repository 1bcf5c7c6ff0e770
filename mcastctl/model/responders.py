"""What each responder answered: round trips, loss since its first answer, hops."""

import math
from collections.abc import Iterable

MULTICAST, UNICAST = "multicast", "unicast"
MAX_RESPONDERS = 1024
"""Responders kept apart; answers of further ones are counted only."""
MOST_UNANSWERED = 10
"""Unicast requests in a row that a responder may leave unanswered: its address may be forged."""
WINDOW = 4096
"""Requests remembered per responder to tell duplicates, a bit each."""


class Answered:
    """Which of the last WINDOW numbers were answered."""

    __slots__ = ("_bits", "_top")

    def __init__(self) -> None:
        self._bits, self._top = 0, -1

    def add(self, number: int) -> bool:
        """Note an answer; tell whether it is the first. Those out of the window are not."""
        ahead = number - self._top
        if ahead > 0:
            self._bits = (self._bits << min(ahead, WINDOW) | 1) & (1 << WINDOW) - 1
            self._top = number
            return True
        bit = 1 << -ahead if ahead > -WINDOW else 0
        first = bool(bit) and not self._bits & bit
        self._bits |= bit
        return first


class Leg:
    """Requests of one kind to one responder, and its answers.

    Loss counts from the first answer on: before it, the network may still have been setting
    the group up (as ssmping and omping count).
    """

    __slots__ = (
        "_requests",
        "_rounds",
        "_rtt_max",
        "_rtt_min",
        "_rtt_squares",
        "_rtt_sum",
        "_skipped",
        "duplicates",
        "first_seq",
        "hops",
        "last_sent",
        "received",
        "unreachable",
    )

    def __init__(self, first_seq: int | None = None) -> None:
        self.first_seq = first_seq
        self.last_sent: int | None = first_seq
        self.received = self.duplicates = self.unreachable = self._skipped = 0
        self.hops: int | None = None
        self._requests, self._rounds = Answered(), Answered()
        self._rtt_min = self._rtt_max = self._rtt_sum = self._rtt_squares = 0.0

    def sent(self, seq: int) -> None:
        """Note that request `seq` went out, and none of those between it and the last."""
        if self.last_sent is not None:
            self._skipped += max(seq - self.last_sent - 1, 0)
        self.last_sent = seq

    def answered(self, seq: int, rtt_ns: int, hops: int | None, request: int | None = None) -> bool:
        """Account for an answer; tell whether it is the first to this request.

        `request` counts the requests of all rounds, which may go to several groups or by several
        interfaces: a round is answered once, and only a second answer to the same request is a
        duplicate.
        """
        if not self._requests.add(seq if request is None else request):
            self.duplicates += 1
            return False
        if not self._rounds.add(seq):
            return True
        if self.first_seq is None or seq < self.first_seq:
            self.first_seq = seq
        self.last_sent = max(seq, self.last_sent if self.last_sent is not None else seq)
        self.hops = hops if hops is not None else self.hops
        self._rtt_min = rtt_ns if self.received == 0 else min(rtt_ns, self._rtt_min)
        self._rtt_max = max(rtt_ns, self._rtt_max)
        self._rtt_sum += rtt_ns
        self._rtt_squares += rtt_ns * rtt_ns
        self.received += 1
        return True

    @property
    def sent_count(self) -> int:
        """Requests since the first answered one."""
        if self.first_seq is None or self.last_sent is None:
            return 0
        return self.last_sent - self.first_seq + 1 - self._skipped

    @property
    def lost(self) -> int:
        """Requests since the first answered one that got no answer."""
        return max(self.sent_count - self.received, 0)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        sent, received = self.sent_count, self.received
        mean = self._rtt_sum / received if received else 0.0
        variance = self._rtt_squares / received - mean * mean if received else 0.0
        known = received > 0
        return {
            "sent": sent,
            "received": received,
            "lost": self.lost,
            "loss_percent": round(100 * self.lost / sent, 4) if sent else 0.0,
            "duplicates": self.duplicates,
            "unreachable": self.unreachable,
            "rtt_min_ms": round(self._rtt_min / 1e6, 6) if known else None,
            "rtt_avg_ms": round(mean / 1e6, 6) if known else None,
            "rtt_max_ms": round(self._rtt_max / 1e6, 6) if known else None,
            "rtt_mdev_ms": round(math.sqrt(max(variance, 0.0)) / 1e6, 6) if known else None,
            "hops": self.hops,
        }


class Responder:
    """One host that answers (or was expected to), by its address and port."""

    __slots__ = ("_unanswered", "expected", "legs", "port")

    def __init__(self, port: int, *, expected: bool = False) -> None:
        self.port = port
        self.expected = expected
        self._unanswered = 0
        self.legs = {MULTICAST: Leg(0 if expected else None), UNICAST: Leg()}

    @property
    def heeds(self) -> bool:
        """Whether to ask it by unicast: not somebody who never answers, unless the user said so."""
        return self.expected or self._unanswered < MOST_UNANSWERED

    def asked(self, seq: int) -> None:
        """Note a unicast request."""
        leg = self.legs[UNICAST]
        leg.first_seq = seq if leg.first_seq is None else leg.first_seq
        leg.sent(seq)
        self._unanswered += 1

    def answered(
        self, kind: str, seq: int, rtt_ns: int, hops: int | None, request: int | None = None
    ) -> bool:
        """Account for an answer (see `Leg.answered`); one to the group is worth one request."""
        first = self.legs[kind].answered(seq, rtt_ns, hops, request)
        if first:
            most = 0 if kind == UNICAST else MOST_UNANSWERED - 1
            self._unanswered = min(self._unanswered, most)
        return first


class Responders:
    """All of them by address; `refused` counts answers beyond MAX_RESPONDERS."""

    def __init__(self, expected: Iterable[str], port: int) -> None:
        self.by_address = {host: Responder(port, expected=True) for host in expected}
        self.refused = 0

    def find(self, address: str, port: int) -> Responder | None:
        """Return the responder, new or known; None when the table is full."""
        found = self.by_address.get(address)
        if found is None:
            if len(self.by_address) >= MAX_RESPONDERS:
                self.refused += 1
                return None
            found = self.by_address[address] = Responder(port)
        return found

    def sent_multicast(self, seq: int) -> None:
        """Note a request to the group: it is one to every known responder."""
        for one in self.by_address.values():
            one.legs[MULTICAST].sent(seq)

    def unmet(self) -> list[str]:
        """Return why the answer to 'does the group hear me' is no; empty when it is yes."""
        silent = [
            host
            for host, one in self.by_address.items()
            if one.expected and not one.legs[MULTICAST].received
        ]
        if silent:
            return [f"no answer to multicast from {host}" for host in silent]
        heard = any(one.legs[MULTICAST].received for one in self.by_address.values())
        return [] if heard else ["nobody answered"]

    def total(self, name: str) -> int:
        """Return the sum of a counter over all legs: received, duplicates, lost."""
        legs = [leg for one in self.by_address.values() for leg in one.legs.values()]
        return sum(int(getattr(leg, name)) for leg in legs)

    def to_list(self) -> list[dict[str, object]]:
        """Return the JSON form, one object per responder."""
        return [
            {
                "responder": host,
                "port": one.port,
                "expected": one.expected,
                **{kind: leg.to_dict() for kind, leg in one.legs.items()},
            }
            for host, one in self.by_address.items()
        ]
