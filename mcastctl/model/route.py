"""Where a group leaves this host: the kernel's answer, its reason, what is fragile about it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mcastctl.model.address import family, keeps_zone
from mcastctl.model.link import Link
from mcastctl.model.meaning import Meaning, describe
from mcastctl.model.shell import word

Remark = tuple[str, str, str]
"""A code, the sentence, and what to do about it."""


class Reverse(NamedTuple):
    """Where this host expects a sender: the route back to it, which rp_filter asks for."""

    source: str
    iface: str | None
    ifindex: int | None
    gateway: str | None
    local: bool


class Route(NamedTuple):
    """One question to the routing code and its answer.

    `route_type` is unicast, multicast, local, unreachable, prohibit or blackhole, None where
    nothing routes the group; `table` a name or a number, None where the kernel asked no table (a
    bound source address or an interface given by hand decide alone); `rule` the priority of the
    policy rule that led there, `prefix` the route that matched. `error` is the errno's name.
    """

    group: str
    iface: str | None
    ifindex: int | None
    source: str | None
    gateway: str | None
    route_type: str | None
    table: str | None
    rule: int | None
    prefix: str | None
    protocol: str | None
    metric: int | None
    asked_iface: str | None
    asked_source: str | None
    error: str | None
    reason: str
    reverse: "Reverse | None" = None
    warnings: tuple[Remark, ...] = ()

    @property
    def leaves(self) -> bool:
        """Tell whether datagrams to the group leave at all."""
        return self.error is None and self.route_type not in REFUSING

    def meaning(self) -> Meaning:
        """Return what the group's number says."""
        return describe(self.group)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        fields: dict[str, object] = {
            "type": "route",
            "group": self.group,
            "family": f"ipv{family(self.group)}",
            **self._asdict(),
            **self.meaning()._asdict(),
        }
        fields["reverse"] = self.reverse._asdict() if self.reverse else None
        fields["warnings"] = [
            dict(zip(("code", "text", "hint"), one, strict=True)) for one in self.warnings
        ]
        return fields


def unanswered(group: str, iface: str | None, source: str | None) -> Route:
    """Return the route that is none; fill in what is known of it."""
    return Route(
        group=group,
        iface=None,
        ifindex=None,
        source=None,
        gateway=None,
        route_type=None,
        table=None,
        rule=None,
        prefix=None,
        protocol=None,
        metric=None,
        asked_iface=iface,
        asked_source=source,
        error="ENETUNREACH",
        reason="no route leads to the group",
    )


REFUSING = {"unreachable", "prohibit", "blackhole"}
"""Types of routes that refuse what they match (ip-route(8))."""


def fragile(route: Route, links: Mapping[int, Link]) -> list[Remark]:
    """Return what may go wrong although the kernel has an answer, the worst first."""
    link = links.get(route.ifindex or 0)
    if not route.leaves or link is None:
        return []
    version = family(route.group)
    named = route.asked_iface is not None
    candidates = [one.name for one in _candidates(links.values(), version)]
    others = [name for name in candidates if name != link.name]
    choice = f"name it with -i: {', '.join(candidates) or link.name}"
    found: list[Remark] = []
    if "up" not in link.flags:
        found.append(("down", f"{link.name} is down", f"ip link set {word(link.name)} up"))
    elif "carrier" not in link.flags:
        found.append(("no-carrier", f"{link.name} has no carrier", "look at the cable or the peer"))
    if "loopback" in link.flags and not named:
        text = f"{route.group} is routed to {link.name} and never leaves this host"
        found.append(("loopback", text, choice))
    if keeps_zone(route.group) and version == 6 and not named and candidates[1:]:
        text = f"{route.group} is link-local and names no interface; the kernel took {link.name}"
        found.append(("no-zone", text, f"write {route.group}%IFACE: {', '.join(candidates)}"))
    elif not named and route.asked_source is None and _by_default(route) and others:
        found.append(_by_chance(route, link, others))
    if not link.has_address(version) and "loopback" not in link.flags:
        found.append(_no_address(link, version))
    return found


def _candidates(links: Iterable[Link], version: int) -> list[Link]:
    """Return the links a group could leave by: up, multicast, no loopback, an address, no port."""
    wanted = {"up", "carrier", "multicast"}
    return [
        one
        for one in links
        if wanted <= one.flags and "loopback" not in one.flags and one.has_address(version)
    ]


def _by_default(route: Route) -> bool:
    """Tell whether nothing but a catch-all decided: no route for groups, or ff00::/8 of IPv6."""
    return route.prefix in ("0.0.0.0/0", "::/0", "ff00::/8")


def _by_chance(route: Route, link: Link, others: list[str]) -> Remark:
    version = family(route.group)
    hint = f"name the interface (-i), or: ip {'-6 ' if version == 6 else ''}route add "
    hint += f"{'table local multicast ' if version == 6 else ''}{route.group} dev {word(link.name)}"
    listed = ", ".join(others)
    if link.role in ("vpn", "tunnel"):
        text = f"the default route leads into {link.name} ({link.role}), not to {listed}"
        return "default-route-vpn", text, hint
    what = "the first of several ff00::/8 routes" if version == 6 else "the default route"
    return "several-candidates", f"{what} decides; {listed} would do as well", hint


def _no_address(link: Link, version: int) -> Remark:
    text = f"{link.name} has no usable IPv{version} address: the source is another interface's"
    if version == 6:
        text = f"{link.name} has no usable IPv6 address: nothing can be sent from it"
    return "no-address", text, f"ip addr add ADDRESS/LEN dev {word(link.name)}"
