"""One place of a run where something is listened to: what outlives its socket and its interface."""

from mcastctl.model.address import family
from mcastctl.model.hearing import MIN_MTU, NO_IPV6, SMALL_MTU, Hearing
from mcastctl.net import nic
from mcastctl.net.nic import Nic
from mcastctl.net.receiver import Receiver, Subscription


class Place:
    """One subscription through time; `receiver` is None while it has no interface.

    `number` is its own for ever, and that of what is heard there; `home` is the interface it was on
    before a route led it elsewhere; `ends_ns` when a receiver
    that is to be closed is, even if there is still something in it.
    """

    __slots__ = ("ends_ns", "hearing", "home", "number", "receiver", "said", "subscription")

    def __init__(self, number: int, subscription: Subscription, hearing: Hearing) -> None:
        self.number = number
        self.subscription = subscription
        self.hearing = hearing
        self.home = subscription.nic.name
        self.receiver: Receiver | None = None
        self.ends_ns: int | None = None
        self.said = ""

    @property
    def version(self) -> int:
        """4 or 6."""
        return family(self.subscription.group)

    @property
    def held(self) -> bool:
        """Whether its interface is none for its family: joining there is an error."""
        return 0 < self.hearing.mtu < MIN_MTU[self.version]

    @property
    def lacking(self) -> bool:
        """Whether it has no receiver, or not for long, and can have one."""
        return (self.receiver is None or self.ends_ns is not None) and not self.held

    @property
    def deaf(self) -> bool:
        """Whether nothing can come to it now: there may be other families on its interface."""
        only6 = self.hearing.cause in (NO_IPV6, SMALL_MTU)
        return (
            self.lacking
            or self.held
            or bool(self.hearing.cause and (self.version == 6 or not only6))
        )

    @property
    def away(self) -> bool:
        """Whether a route has led it to another interface than its own."""
        return not self.subscription.asked and self.home not in ("", self.subscription.nic.name)

    def found(self) -> Nic | None:
        """Return the interface it is to be on now, None when there is none."""
        group, asked = self.subscription.group, self.subscription.asked
        if asked:
            return nic.find_again(asked, self.hearing.name)
        return nic.routed_again(group, self.home)
