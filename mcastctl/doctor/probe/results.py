"""What the active tests told, as plain data for the rules."""

from collections.abc import Mapping
from typing import NamedTuple

from mcastctl.doctor.wire import Flow
from mcastctl.host.drops import Drop
from mcastctl.host.nftrace import Verdict


class Injected(NamedTuple):
    """Datagrams like the missing ones, put into this host's receive path.

    `way` is 'ingress', as if they had come by the wire, with a wrong checksum so that UDP throws
    them away before any socket; or 'loop', sent to ourselves and `heard` by a socket of ours (None
    where it could not be bound). `real_source` tells whether they bore the sender's address.
    """

    source: str
    real_source: bool
    way: str
    sent: int
    drops: Mapping[Drop, int] = {}
    heard: int | None = None

    @property
    def passed(self) -> bool:
        """Tell whether this host would have given them to a socket."""
        reached = sum(count for one, count in self.drops.items() if one.reason == "UDP_CSUM")
        return bool(self.heard) or reached >= self.sent

    def lost(self) -> dict[Drop, int]:
        """Return what kept them from UDP."""
        return {one: count for one, count in self.drops.items() if one.reason != "UDP_CSUM"}


class Joined(NamedTuple):
    """A throw-away join of the group; `fresh` where the interface was no member before.

    `heard` counts what a socket of ours got, None where it could not be bound to the port
    (`bind_errno`); `came` what arrived on the wire meanwhile, None where that is not seen.
    """

    fresh: bool
    source: str
    errno: int | None = None
    bind_errno: int | None = None
    heard: int | None = None
    came: int | None = None
    waited_s: float = 0.0


class Reports(NamedTuple):
    """Reports the kernel sent for a join of `group`: seen leaving, and dropped on the way out.

    None where the one or the other cannot be seen.
    """

    group: str
    left: int | None
    dropped: int | None


class Crafted(NamedTuple):
    """A report made by hand: how many datagrams `came` after it, and what it said."""

    said: str
    came: int


class Sent(NamedTuple):
    """One datagram to the group: refused with `errno`, or seen as `left`, or dropped on its way."""

    errno: int | None
    source: str
    left: tuple[Flow, ...] = ()
    drops: Mapping[Drop, int] = {}


class Probed(NamedTuple):
    """Everything the active tests told; None for what was not done.

    `did` are sentences on what was sent and what came of it, `missing` on what could not be done.
    `queries` counts the injected queries that the packet filter dropped. `verdicts` are the rules
    that dropped the traced packets.
    """

    iface: str
    did: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    injected: Injected | None = None
    queries: int | None = None
    joined: Joined | None = None
    reports: Reports | None = None
    crafted: Crafted | None = None
    sent: Sent | None = None
    verdicts: Mapping[Verdict, int] = {}

    def heard(self) -> bool:
        """Tell whether a socket of ours got datagrams of the group from the network."""
        return bool(self.joined and self.joined.heard)

    def acquits(self) -> bool:
        """Tell whether datagrams like the missing ones pass everything up to the sockets.

        Only those of the sender's own address, that came in as if by the wire, are like them.
        """
        one = self.injected
        return one is not None and one.passed and one.way == "ingress" and one.real_source
