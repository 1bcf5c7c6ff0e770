"""The answering run: requests to groups and to this host, answered by unicast."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from mcastctl.decode.stream import recognise
from mcastctl.model import answering, probe, refusal
from mcastctl.model.address import family, is_multicast, keeps_zone
from mcastctl.model.errors import SocketError
from mcastctl.model.limits import Limits
from mcastctl.model.pacing import SourceLimit
from mcastctl.model.records import Datagram, Record
from mcastctl.model.stats import Statistics
from mcastctl.net import ancillary, prompt, remarks, sockopts
from mcastctl.net.ancillary import Arrival
from mcastctl.net.arrival import record
from mcastctl.net.following import Following, Told
from mcastctl.net.listener import batches
from mcastctl.net.loop import Loop
from mcastctl.net.prompt import Prompt, Way
from mcastctl.net.receiver import Caught, Receiver, Subscription, catch

if TYPE_CHECKING:
    from mcastctl.net.children import Children

SPIN_NS = 100_000
"""How long after a request the next is awaited without sleeping."""
REQUEST_RATE, REQUEST_RATE_PER_SOURCE = 40_000.0, 20_000.0
"""Answers per second to requests, as long as these: `ping` needs a tenth of it at its fastest. Who
asks anew with each answer could have more over a virtual link, and is limited to that."""
PLAIN_RATE, PLAIN_RATE_PER_SOURCE = 1000.0, 10.0
"""Answers per second to datagrams that are no requests of ours (--any)."""
LONG_RATE, LONG_RATE_PER_SOURCE = 1000.0, 100.0
"""Answers per second that may be longer than the request (--text, --exec): the asker's address
may be forged, and whoever holds it gets more than was sent."""


class Door:
    """The unicast socket of one family and port: hears unicast requests, sends every answer.

    Answers leave from the service port, so a firewall sees them as what was asked for.
    """

    def __init__(self, version: int, port: int) -> None:
        self.version = version
        self.port = port
        self._sock = sockopts.open_udp(version)
        wildcard = "::" if version == 6 else "0.0.0.0"  # noqa: S104
        try:
            with sockopts.naming("bind", f"bind UDP port {port} for answers", port):
                sockopts.share_port(self._sock)
                sockopts.hear_only_own_groups(self._sock, version)
                ancillary.request(self._sock, version)
                sockopts.set_receive_buffer(self._sock, sockopts.DEFAULT_BUFFER)
                self._sock.bind((wildcard, port))
        except BaseException:
            self._sock.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._sock.fileno()

    def catch(self) -> Caught | None:
        """Take the next unicast datagram, None when there is none now."""
        return catch(self._sock, self.port)

    def told(self, caught: Caught) -> tuple[Datagram, Arrival]:
        """Return what was just caught and its arrival."""
        arrival = ancillary.parse(caught.messages)
        return record(caught.payload(), caught.sender, arrival, self.port), arrival

    def way(self, request: Datagram, arrival: Arrival) -> Way:
        """Return how to answer whoever sent `request`."""
        messages = ancillary.answer_from(arrival, self.version)
        where: sockopts.SockAddr = (request.src, request.sport)
        if self.version == 6:
            scope = arrival.ifindex if keeps_zone(request.src) else 0
            where = (request.src, request.sport, 0, scope)
        return Way(self._sock, messages, where, request, arrival)

    def kernel_drops(self) -> int:
        """Return how many datagrams found this socket's buffer full."""
        return sockopts.kernel_drops(self._sock)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Responding:
    """One run of `echo`: iterate `records`, then ask for `summary`.

    `said` is what to answer instead of the request's own bytes; `argv` runs for each
    request and answers with its output. `trace` asks for a record of each answer. `rate` and
    `rate_per_source` are answers per second at most, None for the defaults above.
    """

    def __init__(
        self,
        wanted: list[Subscription],
        *,
        said: bytes | None,
        argv: list[str] | None,
        answer_any: bool,
        trace: bool,
        rate: float | None = None,
        rate_per_source: float | None = None,
    ) -> None:
        self.statistics = Statistics()
        self.errors: dict[str, int] = {}
        self.ignored: dict[str, int] = {}
        self.replies_sent = self.reply_bytes = 0
        self._wanted = wanted
        self._said = said
        self._children = _children(argv)
        self._answer_any = answer_any
        self._trace = trace
        self._most: int | None = None
        self._ports = frozenset(one.port for one in wanted)
        self._started_ns = time.monotonic_ns()
        self._plain_limit = SourceLimit(
            rate or PLAIN_RATE, rate_per_source or PLAIN_RATE_PER_SOURCE
        )
        longer = said is not None or argv is not None
        self._request_limit = SourceLimit(
            rate or (LONG_RATE if longer else REQUEST_RATE),
            rate_per_source or (LONG_RATE_PER_SOURCE if longer else REQUEST_RATE_PER_SOURCE),
        )
        self._readers: dict[int, Receiver | Door] = {}
        self._following = Following(wanted, Receiver, self._readers, renamed=self.statistics.rename)
        self._doors: dict[tuple[int, int], Door] = {}
        self._answers: list[Datagram] = []
        self._prompt = Prompt()

    def records(self, loop: Loop, limits: Limits) -> Iterator[Record]:
        """Join, then yield memberships, the requests answered and (traced) the answers."""
        self._most = limits.count
        joined = list(self._following.begin(loop))
        for version, port in dict.fromkeys((family(one.group), one.port) for one in self._wanted):
            door = self._doors[version, port] = Door(version, port)
            self._readers[door.fileno()] = door
        yield from joined
        yield from remarks.receiving(self._wanted)
        if self._children:
            self._children.attach(loop)
        loop.spin_ns = SPIN_NS
        for reader, batch in batches(
            self._readers, self._requests, loop, limits, alarm=self._alarm
        ):
            before = self.replies_sent
            yield from batch
            if reader is None:
                yield from self._attend()
            if self._children:
                self._children.poll()
                yield from self._children.trouble()
            limits.take(self.replies_sent - before, time.monotonic_ns())
            yield from self._answered()
        yield from self._following.end()

    def _attend(self) -> Iterator[Told]:
        """Follow the interfaces; what was remembered of askers is not true of others."""
        for one in self._following.attend():
            self._prompt.forget()
            yield one

    def _alarm(self) -> float | None:
        """Return when the next child or a look for interfaces is due."""
        times = (self._children.next_ns() if self._children else None, self._following.alarm_ns)
        return min((moment for moment in times if moment is not None), default=None)

    def _answered(self) -> list[Datagram]:
        """Return the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def _requests(self, reader: "Receiver | Door", most: int) -> Iterator[Datagram]:
        """Answer what is there, up to `most`, and count it; yield what was fit for an answer."""
        for _ in range(most):
            caught = reader.catch()
            if caught is None:
                return
            before = self.replies_sent
            way = self._prompt.way(caught)
            why = None if way is None else self._answer_at_once(caught, way)
            told = reader.told(caught) if way is None else prompt.told(caught, way)
            if told is None:
                continue
            request, arrival = told
            if way is None:
                why = self._respond(caught, request, arrival)
            elif self._trace and self.replies_sent > before:
                header = probe.decode(request.payload)
                payload = answering.answer(request, header, None)
                self._answers.append(_sent(request, arrival, payload))
            self.statistics.update(request, self._place(reader, arrival))
            if why is None:
                yield request
                yield from self._answered()
            else:
                self.ignored[why] = self.ignored.get(why, 0) + 1

    def _place(self, reader: "Receiver | Door", arrival: Arrival) -> int:
        """Return the number of where a request was heard: no receiver's for unicast ones."""
        if isinstance(reader, Door):
            return -1 - arrival.ifindex
        return self._following.place_of(reader)

    def _answer_at_once(self, caught: Caught, way: Way) -> str | None:
        """Answer before anything is made of what came; return why not."""
        why = self._rate_refusal(way.where[0], asked=True)
        if why is None:
            try:
                prompt.answer(caught, way)
            except OSError as error:
                self._note_error(error)
            else:
                self._count(caught.size)
        return why

    def _respond(self, caught: Caught, request: Datagram, arrival: Arrival) -> str | None:
        """Answer one datagram if the rules allow; return why not."""
        header = probe.decode(request.payload)
        why = answering.refusal(request, header, self._ports, answer_any=self._answer_any)
        asked = header is not None and header.kind == probe.REQUEST
        why = why or self._rate_refusal(request.src, asked=asked)
        if why is not None:
            return why
        if self._children is None:
            sent = self._send(request, arrival, header, self._said)
            if sent and asked and self._said is None:
                way = self._door(request).way(request, arrival)
                self._prompt.remember(caught, way)
        else:
            self._children.run(request, partial(self._send, request, arrival, header))
        return None

    def _rate_refusal(self, source: str, *, asked: bool) -> str | None:
        """Return why a source must wait, None when it need not; `asked` by a request of ours."""
        limit = self._request_limit if asked else self._plain_limit
        return limit.refusal(source, time.monotonic_ns())

    def _send(
        self, request: Datagram, arrival: Arrival, header: probe.Probe | None, said: bytes | None
    ) -> bool:
        """Send an answer; tell whether it went."""
        if self._most is not None and self.replies_sent >= self._most:
            return False  # several commands ended at once
        payload = answering.answer(request, header, said)
        way = self._door(request).way(request, arrival)
        try:
            way.sock.sendmsg([payload], way.messages, 0, way.where)
        except OSError as error:
            self._note_error(error)
            return False
        self._count(len(payload))
        if self._trace:
            self._answers.append(_sent(request, arrival, payload))
        return True

    def _door(self, request: Datagram) -> Door:
        return self._doors[family(request.src), request.dport]

    def _note_error(self, error: OSError) -> None:
        """One asker that cannot be reached must not end the service for the others."""
        name = refusal.name(error.errno)
        self.errors[name] = self.errors.get(name, 0) + 1

    def _count(self, size: int) -> None:
        self.replies_sent += 1
        self.reply_bytes += size

    def summary(self) -> dict[str, object]:
        """Return the counters of the run."""
        fields = self.statistics.summary((time.monotonic_ns() - self._started_ns) / 1e9)
        doors = sum(one.kernel_drops() for one in self._doors.values())
        fields["kernel_drops"] = self._following.kernel_drops() + doors
        fields["deaf_s"] = self._following.deaf_s()
        fields["replies_sent"] = self.replies_sent
        fields["reply_bytes"] = self.reply_bytes
        fields["ignored"] = self.ignored | self._unanswered()
        fields["errors"] = self.errors
        return fields

    def _unanswered(self) -> dict[str, int]:
        """Return the requests for which the command was not run, or failed."""
        if self._children is None:
            return {}
        counted = {"exec-refused": self._children.refused, "exec-failed": self._children.failed}
        return {why: number for why, number in counted.items() if number}

    def close(self) -> None:
        """Leave every group, close every socket and end the children that still run."""
        if self._children:
            self._children.stop()
        self._following.close()
        for door in self._doors.values():
            door.close()


def _children(argv: list[str] | None) -> "Children | None":
    if argv is None:
        return None
    from mcastctl.net.children import Children  # costs what subprocess costs

    return Children(argv, stdout=None)


def _source_towards(request: Datagram, arrival: Arrival) -> str:
    """Return the address the kernel answers `request` from, '' if it cannot tell."""
    scope = arrival.ifindex if keeps_zone(request.src) else 0
    try:
        with closing(sockopts.open_udp(6)) as asker:
            asker.connect((request.src, request.sport, 0, scope))
            return str(asker.getsockname()[0])
    except (OSError, SocketError):  # no route, or no descriptor: the answer is on its way already
        return ""


def _sent(request: Datagram, arrival: Arrival, payload: bytes) -> Datagram:
    """Return the record of an answer: the request turned round."""
    local = arrival.local or request.dst
    if is_multicast(local):  # IPv6 does not say whom it answers as
        local = _source_towards(request, arrival)
    return Datagram(
        time.time_ns(),
        "tx",
        request.iface,
        arrival.ifindex,
        local,
        request.dport,
        request.src,
        request.sport,
        None,
        None,
        len(payload),
        payload,
        recognise(payload),
    )
