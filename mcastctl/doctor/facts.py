"""Everything a diagnosis reasons about, as plain data: what was asked, what was found.

`collect` fills it from the kernel; the rules (`rules`) only read it, so that a test can write
down any host it likes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from mcastctl.doctor.probe.results import Probed
from mcastctl.doctor.wire import Control, Flow
from mcastctl.host.applications import Application
from mcastctl.host.drops import Drop
from mcastctl.host.firewall import Rule
from mcastctl.host.linkdetails import LinkDetails
from mcastctl.host.programs import Program
from mcastctl.host.trafficcontrol import Control as TrafficControl
from mcastctl.model.address import family, keeps_zone
from mcastctl.model.forwarding import Bridge, DatabaseEntry, ForwardingEntry, ForwardingInterface
from mcastctl.model.link import Link
from mcastctl.model.membership import GroupMembership
from mcastctl.model.route import Reverse, Route


class Question(NamedTuple):
    """What was asked: `iface` is '' and `ifindex` 0 where none was named."""

    group: str
    port: int
    sources: tuple[str, ...] = ()
    iface: str = ""
    ifindex: int = 0
    role: str = "receiver"
    pid: int | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return family(self.group)

    @property
    def endpoint(self) -> str:
        """The group and port as one writes them."""
        group = f"[{self.group}]" if self.family == 6 else self.group
        return f"{group}:{self.port}"


class Knobs(NamedTuple):
    """Settings of one interface: `rp_filter` is the effective one, `igmp` the version in force."""

    rp_filter: int | None = None
    ipv6_disabled: bool | None = None
    igmp: int | None = None
    forced_igmp: int | None = None


class Answers(NamedTuple):
    """The routing code's three answers for one interface, None where it gives none.

    Would it take a datagram from the source to the group; to the host itself; from a neighbour
    to the group?
    """

    wanted: bool | None = None
    unicast: bool | None = None
    neighbour: bool | None = None


class Facts(NamedTuple):
    """A host, looked at for some seconds.

    Counters are those before and after; `drops` what the kernel threw away of the group and of
    the control plane. `why_no_*` say what could not be seen
    and what privilege would help, '' when it was seen. `queues` are samples of the receive
    queues by inode, `kept` what arrived between the first and the last and the socket did not
    drop. `route` is where the group leaves, `bound_route` by the interface in question.
    `probe` is what the active tests told, None without them. `untapped` counts frames of the
    interface in question that no capture could see. `hidden_uid` is whose the process in question
    is, where its descriptors may not be listed; None where they were.
    """

    question: Question
    links: Mapping[int, Link] = {}
    details: Mapping[int, LinkDetails] = {}
    knobs: Mapping[int, Knobs] = {}
    memberships: tuple[GroupMembership, ...] = ()
    applications: tuple[Application, ...] = ()
    before: Mapping[str, int] = {}
    after: Mapping[str, int] = {}
    flows: Mapping[Flow, int] = Counter()
    control: Mapping[Control, int] = Counter()
    copies: Mapping[tuple[str, ...], int] = {}
    why_no_wire: str = ""
    drops: Mapping[Drop, int] = {}
    drops_method: str = ""
    why_no_drops: str = ""
    dropping: tuple[Rule, ...] = ()
    rewriting: tuple[Rule, ...] = ()
    diverting: tuple[Rule, ...] = ()
    moved_rules: Mapping[tuple[str, str, str, int | None, str], int] = {}
    why_no_rules: str = ""
    traffic: TrafficControl = TrafficControl()
    traffic_before: TrafficControl = TrafficControl()
    programs: tuple[Program, ...] = ()
    route: Route | None = None
    bound_route: Route | None = None
    reverse: Reverse | None = None
    answers: Mapping[int, Answers] = {}
    bridges: tuple[Bridge, ...] = ()
    database: tuple[DatabaseEntry, ...] = ()
    forwarding: bool | None = None
    forwarding_interfaces: tuple[ForwardingInterface, ...] = ()
    forwarded_before: int = 0
    entries: tuple[ForwardingEntry, ...] = ()
    entries_before: tuple[ForwardingEntry, ...] = ()
    bridge_netfilter: bool = False
    limits: Mapping[str, int] = {}
    queues: Mapping[int, tuple[int, ...]] = {}
    kept: Mapping[int, int] = {}
    drops_before: Mapping[int, int] = {}
    failing: int = 0
    watched_s: float = 0.0
    untapped: int | None = None
    hidden_uid: int | None = None
    probe: Probed | None = None

    def moved(self, counter: str) -> int:
        """Return how far a counter went during the watch."""
        return self.after.get(counter, 0) - self.before.get(counter, 0)

    def delivered(self) -> int:
        """Return how many datagrams UDP gave to programs, whichever."""
        return self.moved("Udp.InDatagrams") + self.moved("Udp6InDatagrams")

    def losing(self, one: Application) -> bool:
        """Tell whether a socket dropped something during the watch."""
        return one.bound.drops > self.drops_before.get(one.bound.inode, one.bound.drops)

    def name(self, ifindex: int) -> str:
        """Return the name of an interface."""
        return self.links[ifindex].name if ifindex in self.links else f"index {ifindex}"

    def ifindex(self, name: str) -> int:
        """Return the index of an interface, 0 for none."""
        return next((one.ifindex for one in self.links.values() if one.name == name), 0)

    def wanted_source(self, src: str) -> bool:
        """Tell whether datagrams from there are those asked about.

        To a link-local group a host sends from its link-local address, whatever else it has.
        """
        if not self.question.sources or src in self.question.sources:
            return True
        six = self.question.family == 6
        return six and keeps_zone(self.question.group) and keeps_zone(src)

    def group_flows(self, direction: str) -> dict[Flow, int]:
        """Return the flows to the group, of the sources asked about, whatever the port."""
        return {
            one: count
            for one, count in self.flows.items()
            if one.direction == direction
            and one.dst == self.question.group
            and self.wanted_source(one.src)
        }

    def wire(self, direction: str = "in") -> dict[str, int]:
        """Return how many datagrams of the question were seen, by interface.

        A first fragment counts, a later one does not.
        """
        found: Counter[str] = Counter()
        for one, count in self.group_flows(direction).items():
            if one.dport == self.question.port:
                found[one.iface] += count
        return dict(found)

    def arrivals(self) -> dict[str, int]:
        """Return what came in; on the sending host, what left counts where it is looped back."""
        found = self.wire("in")
        if not found and self.local_source():
            found = self.wire("out")
        return found

    def outgoing(self) -> dict[Flow, int]:
        """Return the flows of the question that left, from whatever source."""
        question = self.question
        return {
            one: count
            for one, count in self.flows.items()
            if one.direction == "out"
            and one.dst == question.group
            and one.dport in (question.port, None)
        }

    def local_source(self) -> bool:
        """Tell whether a source asked about is this host."""
        own = {each.address for link in self.links.values() for each in link.addresses}
        return bool(own.intersection(self.question.sources))

    def on_link(self, address: str, ifindex: int | None = None) -> bool:
        """Tell whether an address is a neighbour's on an interface (any, without one)."""
        value = ip_address(address)
        return any(
            value in ip_network(f"{each.address}/{each.prefixlen}", strict=False)
            for index, link in self.links.items()
            if ifindex in (None, index)
            for each in link.addresses
            if (":" in each.address) == (value.version == 6)
        )

    def members(self, group: str | None = None) -> tuple[GroupMembership, ...]:
        """Return the memberships of the group on any interface, those of the kernel left out."""
        wanted = group or self.question.group
        return tuple(one for one in self.memberships if one.group == wanted)

    def member_on(self, ifindex: int) -> GroupMembership | None:
        """Return the membership of the group on one interface."""
        return next((one for one in self.members() if one.ifindex == ifindex), None)

    def holders(self, application: Application) -> str:
        """Return who has a socket open, in words."""
        known = [f"{name} (pid {pid})" for pid, name, _ in application.holders]
        return ", ".join(dict.fromkeys(known)) or f"uid {application.bound.uid}"

    def ours(self) -> tuple[Application, ...]:
        """Return the sockets in question: those of --pid, else those that could be meant.

        Of a process that hides its sockets: those of its user that nobody is known to hold.
        """
        if self.question.pid is None:
            return self.applications
        if self.hidden_uid is None:
            return self.known_ours()
        hidden = (one for one in self.applications if not one.holders)
        return tuple(one for one in hidden if one.bound.uid == self.hidden_uid)

    def known_ours(self) -> tuple[Application, ...]:
        """Return the sockets that the process in question is known to have open."""
        pid = self.question.pid
        return tuple(one for one in self.applications if pid in {each[0] for each in one.holders})

    def arrived_here(self) -> int:
        """Return how many datagrams came in by the interface in question, or one as good."""
        found = self.arrivals()
        joined = any(self.member_on(self.ifindex(name)) for name in found)
        return sum(found.values()) if joined else found.get(self.name(self.question.ifindex), 0)

    def bridged(self) -> Iterator[tuple[Bridge, str]]:
        """Yield (bridge, port) of every port."""
        for bridge in self.bridges:
            for port in bridge.ports:
                yield bridge, port.iface
