"""Every membership of this host, from /proc/net: group, filter, users, timer, version. Linux only.

`owners.find` adds the processes; other systems are read in `host.elsewhere`.
"""

import socket
import sys
from collections import defaultdict
from ipaddress import IPv6Address

from mcastctl.host import elsewhere, knobs, procnet
from mcastctl.model.address import family
from mcastctl.model.meaning import ethernet
from mcastctl.model.membership import (
    GroupMembership,
    SourceCount,
    bare,
    filtered_by_hardware,
    interface_filter,
    joined_by_kernel,
)


def memberships() -> list[GroupMembership]:
    """Return the groups joined on every interface, IPv4 before IPv6, without owners.

    Raises ProcError where /proc does not tell.
    """
    if sys.platform != "linux":
        return elsewhere.memberships()
    procnet.require()
    igmp_text = procnet.read("igmp")
    versions = procnet.igmp_versions(igmp_text)
    joined = procnet.igmp(igmp_text) + procnet.igmp6(procnet.read("igmp6"))
    filters = _filters()
    unlisted = hidden(joined, set(filters))
    link_layer = _link_layer()
    addresses = _addresses6()
    names = _names()
    settings: dict[tuple[str, int], tuple[str | None, bool | None]] = {}
    found = []
    for one in joined:
        name = names.get(one.ifindex, f"index {one.ifindex}")
        version = family(one.group)
        key = (name, version)
        if key not in settings:
            settings[key] = _protocol(name, version, versions.get(one.ifindex))
        protocol, forced = settings[key]
        counts = tuple(filters.get((one.ifindex, one.group), ()))
        mode, sources, certain = interface_filter(one.users, counts)
        own = joined_by_kernel(one.group, addresses.get(one.ifindex, ()))
        if (one.ifindex, one.group) in unlisted and one.users > int(own):
            certain = False
        taken = link_layer.get(one.ifindex)
        found.append(
            GroupMembership(
                iface=name,
                ifindex=one.ifindex,
                family=f"ipv{version}",
                group=one.group,
                mode=mode,
                sources=sources,
                mode_certain=certain,
                filter=counts,
                users=one.users,
                timer_s=one.timer_s,
                protocol=protocol,
                forced=forced,
                older_querier=_older_querier(protocol, forced),
                ethernet=ethernet(one.group) if taken else None,
                ethernet_filtered=filtered_by_hardware(one.group, taken) if taken else None,
                by_kernel=own,
            )
        )
    return sorted(found, key=lambda one: (one.ifindex, one.family))


def hidden(joined: list[procnet.Joined], listed: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return the memberships whose sources the kernel does not list, if there are any.

    mcfilter and mcfilter6 pass over an interface altogether whose newest group, the first of igmp
    and igmp6, has no sources (net/ipv4/igmp.c: igmp_mcf_get_first, net/ipv6/mcast.c likewise).
    """
    newest: dict[tuple[int, int], str] = {}
    for one in joined:
        newest.setdefault((one.ifindex, family(one.group)), one.group)
    shown = {(index, family(group)) for index, group in listed}
    return {
        (one.ifindex, one.group)
        for one in joined
        if (place := (one.ifindex, family(one.group))) not in shown and newest[place] != one.group
    }


def link_layer_memberships() -> list[GroupMembership]:
    """Return the link-layer addresses that interfaces take in, whoever asked for them."""
    names = _names()
    return [
        bare(names.get(one.ifindex, ""), one.ifindex, one.address, "link")._replace(
            users=one.users, ethernet=one.address, ethernet_filtered=True
        )
        for one in procnet.dev_mcast(procnet.read("dev_mcast"))
    ]


def _names() -> dict[int, str]:
    try:
        return dict(socket.if_nameindex())
    except OSError:
        return {}


def _filters() -> dict[tuple[int, str], list[SourceCount]]:
    found = defaultdict(list)
    texts = (
        procnet.mcfilter(procnet.read("mcfilter")),
        procnet.mcfilter6(procnet.read("mcfilter6")),
    )
    for one in (*texts[0], *texts[1]):
        count = SourceCount(one.source, one.including, one.excluding)
        found[one.ifindex, one.group].append(count)
    return found


def _link_layer() -> dict[int, frozenset[str]]:
    found = defaultdict(set)
    for one in procnet.dev_mcast(procnet.read("dev_mcast")):
        found[one.ifindex].add(one.address)
    return {index: frozenset(addresses) for index, addresses in found.items()}


def _addresses6() -> dict[int, list[str]]:
    """Return the IPv6 addresses by interface index (/proc/net/if_inet6, all numbers in hex)."""
    found = defaultdict(list)
    for line in procnet.read("if_inet6").split("\n"):
        words = line.split()
        if len(words) >= 6 and len(words[0]) == 32:
            try:
                address = str(IPv6Address(bytes.fromhex(words[0])))
                found[int(words[1], 16)].append(address)
            except ValueError:
                continue
    return found


def _protocol(name: str, version: int, igmp: int | None) -> tuple[str | None, bool | None]:
    """Return what reports are sent by, and whether a setting forces it."""
    if version == 4:
        forced = knobs.forced_igmp_version(name)
        return (f"IGMPv{igmp}" if igmp else None), (forced > 0 if forced is not None else None)
    mld = knobs.mld_version(name)
    return (f"MLDv{mld}" if mld else None), (mld == 1 if mld else None)


def _older_querier(protocol: str | None, forced: bool | None) -> bool | None:
    """Tell whether an older querier was heard: only IGMP shows it, and only when unforced.

    Of a querier of the newest version the kernel keeps nothing.
    """
    if protocol is None or forced is None or not protocol.startswith("IGMP"):
        return None
    return protocol != "IGMPv3" and not forced
