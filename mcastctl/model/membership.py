"""Who has joined what on this host: a group on an interface, its filter, its sockets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mcastctl.model.address import family
from mcastctl.model.meaning import ethernet, solicited_node


class Owner(NamedTuple):
    """A socket that holds a membership, in one process that has it open.

    `evidence` is 'asked' when the socket itself was asked (mode and sources are its own filter
    then), 'bound' when it is bound to the group, 'possible' when it is bound to every address
    and joined something. `port` is 0 for an unbound socket, `protocol` udp, udp6, raw, ...
    """

    pid: int
    name: str
    fd: int
    inode: int
    protocol: str
    local: str | None
    port: int
    mode: str | None
    sources: tuple[str, ...]
    evidence: str


class SourceCount(NamedTuple):
    """How many sockets include and how many exclude a source."""

    source: str
    including: int
    excluding: int


class GroupMembership(NamedTuple):
    """A group joined on an interface; `users` counts sockets and the kernel's own joins.

    `mode` and `sources` are the interface's filter as reports tell it (RFC 3376 section 3.2):
    'exclude' of nothing is an ordinary join. `mode_certain` is False where the counts of the
    kernel allow another reading. `protocol` is what reports are sent by: IGMPv1 to IGMPv3, MLDv1,
    MLDv2. For `link` rows `group` is a link-layer address and the fields of groups are None.
    """

    iface: str
    ifindex: int
    family: str
    group: str
    mode: str | None
    sources: tuple[str, ...]
    mode_certain: bool
    filter: tuple[SourceCount, ...]
    users: int | None
    timer_s: float | None
    protocol: str | None
    forced: bool | None
    older_querier: bool | None
    ethernet: str | None
    ethernet_filtered: bool | None
    by_kernel: bool
    owners: tuple[Owner, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {"type": "membership", **self._asdict()}
        fields["sources"] = list(self.sources)
        fields["filter"] = [one._asdict() for one in self.filter]
        fields["owners"] = [one._asdict() | {"sources": list(one.sources)} for one in self.owners]
        fields["notes"] = list(self.notes)
        return fields


def bare(iface: str, ifindex: int, group: str, kind: str) -> GroupMembership:
    """Return a membership of which nothing more is known; `kind` is ipv4, ipv6 or link."""
    return GroupMembership(
        iface=iface or f"index {ifindex}",
        ifindex=ifindex,
        family=kind,
        group=group,
        mode=None if kind == "link" else "exclude",
        sources=(),
        mode_certain=kind == "link",
        filter=(),
        users=None,
        timer_s=None,
        protocol=None,
        forced=None,
        older_querier=None,
        ethernet=None,
        ethernet_filtered=None,
        by_kernel=False,
    )


def interface_filter(
    users: int, counts: Sequence[SourceCount]
) -> tuple[str, tuple[str, ...], bool]:
    """Return mode, sources, and whether that is certain, of an interface's filter.

    The kernel tells how many sockets include or exclude each source and how many sockets there
    are, not how many of them are in which mode (net/ipv4/igmp.c: igmp_mcf_seq_show). A socket that
    includes nothing has left, so the counts bound the number of INCLUDE sockets from both sides,
    and a source is kept out where every excluding socket excludes it and none includes it.
    """
    excluded = max((one.excluding for one in counts), default=0)
    included = max((one.including for one in counts), default=0)
    most_including = sum(one.including for one in counts)
    if not excluded and included and most_including >= users:
        wanted = tuple(one.source for one in counts if one.including)
        return "include", wanted, included >= users
    fewest = max(excluded, users - most_including, 1)  # sockets that exclude, at least
    unwanted = tuple(one.source for one in counts if one.excluding >= fewest and not one.including)
    return "exclude", unwanted, not excluded or users - included == fewest


def socket_filters(
    owners: Iterable[Owner], *, by_kernel: bool
) -> tuple[str, tuple[str, ...]] | None:
    """Return the interface's filter that these sockets make together, None without sockets.

    INCLUDE where every socket includes: the union. Otherwise EXCLUDE: what all excluding ones
    exclude and none includes (RFC 3376 section 3.2).
    """
    asked = {one.inode: one for one in owners}.values()
    included = {source for one in asked if one.mode == "include" for source in one.sources}
    excluding = [set(one.sources) for one in asked if one.mode == "exclude"]
    if by_kernel:
        excluding.append(set())
    if excluding:
        return "exclude", tuple(sorted(set.intersection(*excluding) - included))
    return ("include", tuple(sorted(included))) if included else None


def joined_by_kernel(group: str, addresses: Iterable[str]) -> bool:
    """Tell whether the kernel itself is a member: all hosts, all nodes, solicited nodes.

    `addresses` are the IPv6 addresses of the interface (RFC 1112 section 4, RFC 4291 section 2.8).
    """
    if group in ("224.0.0.1", "ff01::1", "ff02::1"):
        return True
    return family(group) == 6 and any(solicited_node(one) == group for one in addresses)


def filtered_by_hardware(group: str, link_layer: frozenset[str]) -> bool:
    """Tell whether a group's Ethernet address is among those an interface takes in."""
    return ethernet(group) in link_layer


class Change(NamedTuple):
    """A membership that began or ended; `source` is set where only one source came or went.

    `event` is 'joined' or 'left'; `row` is the membership afterwards (before, where it ended),
    `owners` are the sockets that came or went, as far as they could be told.
    """

    ts_ns: int
    event: str
    row: GroupMembership
    source: str | None
    owners: tuple[Owner, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form; `port` is 0 where no one socket's is known."""
        ports = {one.port for one in self.owners}
        row = self.row.to_dict()
        only = self.row.mode == "include" and len(self.row.sources) == 1
        return {
            "type": self.event,
            "ts": round(self.ts_ns / 1e9, 6),
            "group": self.row.group,
            "port": ports.pop() if len(ports) == 1 else 0,
            "source": self.row.sources[0] if only and not self.source else self.source,
            "mode": self.row.mode,
            **{key: row[key] for key in ("iface", "ifindex", "family", "sources", "users")},
            "owners": [one._asdict() | {"sources": list(one.sources)} for one in self.owners],
        }


Rows = Mapping[tuple[int, str], GroupMembership]


def changes(
    before: Rows, after: Rows, keys: Iterable[tuple[int, str]]
) -> Iterator[tuple[tuple[int, str], str, str | None]]:
    """Yield (key, event, source) for what differs between two looks at these memberships.

    More sockets are a join, fewer a leave; as many, but another source included, is a join or a
    leave of that source.
    """
    for key in sorted(keys):
        old, new = before.get(key), after.get(key)
        users = [(one.users or 1) if one is not None else 0 for one in (old, new)]
        if users[0] != users[1]:
            yield key, "joined" if users[1] > users[0] else "left", None
            continue
        counts = [_included(one) for one in (old, new)]
        for source in sorted(counts[0].keys() | counts[1].keys()):
            less, more = (each.get(source, 0) for each in counts)
            if less != more:
                yield key, "joined" if more > less else "left", source


def _included(one: GroupMembership | None) -> dict[str, int]:
    return {each.source: each.including for each in one.filter} if one is not None else {}
