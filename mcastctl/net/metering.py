"""What a sending run counts, as families of metrics; each socket by its interface."""

from mcastctl.model import refusal
from mcastctl.model.metrics import COUNTER, Family, Labels, gauge, total
from mcastctl.net.sender import Sender


def sent(senders: list[Sender], *, replies: int, worst_gap_ns: int) -> list[Family]:
    """Return what a sending run knows, in all and of each of its sockets."""
    drops = [one.kernel_drops() for one in senders]
    return [
        total("attempted_datagrams", "Sends tried: sent and refused.", _sum(senders, "attempted")),
        total("sent_datagrams", "Datagrams the kernel took.", _sum(senders, "sent")),
        total("sent_bytes", "Payload bytes the kernel took.", _sum(senders, "sent_bytes")),
        total(
            "refused_datagrams",
            "Datagrams the kernel refused.",
            _sum(senders, "attempted") - _sum(senders, "sent"),
        ),
        total("replies", "Answers heard.", replies),
        total("kernel_drops", "Answers that found the receive buffer full.", sum(drops)),
        gauge("worst_gap_seconds", "Longest time between two sends.", worst_gap_ns / 1e9),
        _each(senders, "sent_datagrams", "Datagrams the kernel took, by interface.", "sent"),
        _each(senders, "sent_bytes", "Payload bytes the kernel took, by interface.", "sent_bytes"),
        Family(
            "socket_refused_datagrams",
            COUNTER,
            "Datagrams the kernel refused, by interface and error.",
            tuple(
                ((*_labels(one), ("error", refusal.name(number))), count)
                for one in senders
                for number, count in sorted(one.errors.items())
            ),
        ),
    ]


def _sum(senders: list[Sender], counter: str) -> int:
    return sum(getattr(one, counter) for one in senders)


def _each(senders: list[Sender], name: str, what: str, counter: str) -> Family:
    samples = tuple((_labels(one), getattr(one, counter)) for one in senders)
    return Family(f"socket_{name}", COUNTER, what, samples)


def _labels(one: Sender) -> Labels:
    """Return what tells a socket from every other of the run: `sender.open_all` makes one each."""
    return (
        ("iface", one.out.name if one.out else ""),
        ("ip", str(one.version)),
        ("src", one.egress.source or ""),
    )
