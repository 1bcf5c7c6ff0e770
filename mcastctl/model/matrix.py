"""Who hears whom: what each host says it sent and heard, merged into one answer per pair of hosts.

Every host listens, then each asks the group. A pair is a sender and a receiver; its loss is
counted by the receiver, its round trip and hops by the sender. Pure: `testimony` reads what the
hosts say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

HEARD, LOSSY, SILENT, UNKNOWN = "heard", "lossy", "silent", "unknown"
"""How a pair may stand: all, some or none arrived; or one of the two could not take part."""
ASKED, LOST = "asked", "lost"
"""How a host may stand: it took part, or did not, for the reason told."""


class Host(NamedTuple):
    """One host: `addresses` are its own, `text` says why it is lost."""

    name: str
    state: str
    text: str = ""
    version: str | None = None
    addresses: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields = {**self._asdict(), "addresses": list(self.addresses)}
        return {"type": "host", "host": fields.pop("name"), **fields}


class Heard(NamedTuple):
    """What a receiver counted of one sender's requests to the group."""

    source: str
    received: int
    duplicates: int
    ttl: int | None


class Responder(NamedTuple):
    """What a sender says of one that answered its requests to the group."""

    answered: int
    duplicates: int
    rtt_ms: float | None
    hops: int | None


class Asked(NamedTuple):
    """What a sender tells of its run: its stream, its requests, each responder by address."""

    stream: str
    sent: int
    responders: dict[str, Responder]


class Pair(NamedTuple):
    """How one host hears another; `finding` is the doctor's word on a silent one."""

    sender: str
    receiver: str
    state: str
    sent: int = 0
    received: int = 0
    duplicates: int = 0
    rtt_ms: float | None = None
    hops: int | None = None
    finding: str | None = None

    @property
    def lost(self) -> int:
        """Requests that did not arrive."""
        return self.sent - self.received

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        percent = round(100 * self.lost / self.sent, 4) if self.sent else None
        return {"type": "pair", **self._asdict(), "lost": self.lost, "loss_percent": percent}


class Explained(NamedTuple):
    """A doctor's finding about a pair, told by the host it was asked on."""

    host: str
    sender: str
    receiver: str
    finding: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        about = {"host": self.host, "sender": self.sender, "receiver": self.receiver}
        return {**self.finding, "type": "finding", **about}


def merge(
    hosts: Sequence[Host],
    senders: Mapping[str, Asked],
    receivers: Mapping[str, Mapping[str, Heard]],
) -> Iterator[Pair]:
    """Yield a pair for each two different hosts, a sender's together, in the order given."""
    owners = _owners(hosts)
    for sender in hosts:
        run = senders.get(sender.name)
        answers = _by_host(run, owners) if run else {}
        for receiver in hosts:
            if receiver.name == sender.name:
                continue
            listened = receivers.get(receiver.name)
            if run is None or listened is None:
                yield Pair(sender.name, receiver.name, UNKNOWN)
            else:
                got, answer = listened.get(run.stream), answers.get(receiver.name)
                yield _pair(sender.name, receiver.name, run.sent, got, answer)


def _pair(
    sender: str, receiver: str, sent: int, got: Heard | None, answer: Responder | None
) -> Pair:
    received = min(got.received, sent) if got else 0
    state = SILENT if not received else HEARD if received == sent else LOSSY
    duplicates = got.duplicates if got else 0
    rtt_ms, hops = (answer.rtt_ms, answer.hops) if answer else (None, None)
    return Pair(sender, receiver, state, sent, received, duplicates, rtt_ms, hops)


def _owners(hosts: Iterable[Host]) -> dict[str, str]:
    """Return the host of each address; an address that several have tells nothing."""
    found: dict[str, str] = {}
    shared = set()
    for host in hosts:
        for address in host.addresses:
            if found.setdefault(address, host.name) != host.name:
                shared.add(address)
    return {address: name for address, name in found.items() if address not in shared}


def _by_host(run: Asked, owners: Mapping[str, str]) -> dict[str, Responder]:
    return {owners[one]: answer for one, answer in run.responders.items() if one in owners}


def answered(hosts: Sequence[Host], senders: Mapping[str, Asked]) -> dict[str, dict[str, Heard]]:
    """Return what the receivers heard as the senders' answers tell it: a request unanswered counts
    as not heard, though the answer may be what was lost.
    """
    found: dict[str, dict[str, Heard]] = {host.name: {} for host in hosts if host.state == ASKED}
    owners = _owners(hosts)
    for run in senders.values():
        for address, one in run.responders.items():
            listened = found.get(owners.get(address, ""))
            if listened is not None:
                listened[run.stream] = Heard("", one.answered, one.duplicates, None)
    return found


def causes(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the silent pairs, those with one cause together, the pair that shows it best first.

    What one receiver hears of nobody is that receiver's matter; what nobody hears of one sender is
    that sender's; any other silence is between the two.
    """
    silent = [pair for pair in pairs if pair.state == SILENT]
    reached = [pair for pair in pairs if pair.received]
    hearing = {pair.receiver for pair in reached}
    speaking = {pair.sender for pair in reached}
    found: dict[tuple[str, ...], list[Pair]] = {}
    for pair in silent:
        if pair.receiver not in hearing:
            cause: tuple[str, ...] = ("receiver", pair.receiver)
        elif pair.sender not in speaking:
            cause = ("sender", pair.sender)
        else:
            cause = ("pair", pair.sender, pair.receiver)
        together = found.setdefault(cause, [])
        if pair.sender in speaking and together and together[0].sender not in speaking:
            together.insert(0, pair)  # others hear it: the silence is not the sender's
        else:
            together.append(pair)
    return list(found.values())
